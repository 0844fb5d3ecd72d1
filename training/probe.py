"""Linear probes of the captioner in training: which scene it sees, second by second.

What is said names an attribute when it changes and three times a minute, and in words of which
there are many for the same; each second's scene is known all the same. So linear classifiers
(probes, Alain and Bengio 2016) read it from the text model before it speaks, and are learned along
with it, as in deeply supervised nets (Lee et al. 2015). They are no part of what is saved.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.training.valley.captions import shown
from longtake.training.valley.world import COUNTS, NAMES, attribute_index

UNKNOWN = -1
"""The value of an attribute that there is nothing to see of."""


def labels(scene: Mapping[str, str]) -> list[int]:
    """Value indices of a scene's attributes, or `UNKNOWN`; of no scene, none is known."""
    if not scene:
        return [UNKNOWN] * len(NAMES)
    there = shown(dict(scene))
    rows = zip(NAMES, attribute_index(**scene), strict=True)
    return [value if name in there else UNKNOWN for name, value in rows]


class Probe(nn.Module):
    """A classifier of each attribute, on hidden states of so many channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, sum(COUNTS))

    def forward(self, hidden: Tensor, scenes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross entropy of all known attributes, and how many of them are right, in [0, 1].

        `hidden`: [rounds, width]; `scenes`: int64 [rounds, 11], see `labels`.
        """
        logits = self.linear(self.norm(hidden)).float().split(COUNTS, -1)
        losses, right = torch.zeros(2, device=hidden.device)
        for each, wanted in zip(logits, scenes.T, strict=True):
            losses = losses + F.cross_entropy(each, wanted, ignore_index=UNKNOWN, reduction="sum")
            right = right + (each.argmax(-1) == wanted).sum()
        known = (scenes != UNKNOWN).sum().clamp(min=1)
        return losses / known, right / known
