"""Linear probes of the captioner in training: which scene it sees, and what of it has changed.

What is said names an attribute when it changes and three times a minute, and in words of which
there are many for the same; each second's scene is known all the same, and so is what was another
one second ago. So linear classifiers (probes, Alain and Bengio 2016) read both from the text model
before it speaks, and are learned along with it, as in deeply supervised nets (Lee et al. 2015).
They are no part of what is saved.
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


def changes_of(scenes: Tensor) -> Tensor:
    """Which attributes have changed in clips of labels, int64 [clips, seconds, 11]; shaped alike.

    That is 1 where one was another one second before, 0 where it was the same, and `UNKNOWN` in
    the first second and where it did not show in one of the two.
    """
    changed = torch.full_like(scenes, UNKNOWN)
    before, now = scenes[:, :-1], scenes[:, 1:]
    both = (before != UNKNOWN) & (now != UNKNOWN)
    changed[:, 1:] = torch.where(both, (before != now).long(), UNKNOWN)
    return changed


class Probe(nn.Module):
    """Classifiers of each attribute and of its changes, on hidden states of so many channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, sum(COUNTS))
        self.changes = nn.Linear(width, len(COUNTS))

    def forward(self, hidden: Tensor, scenes: Tensor) -> dict[str, Tensor]:
        """Cross entropies, and how much is right, in [0, 1].

        `hidden`: [clips * seconds, width]; `scenes`: int64 [clips, seconds, 11], see `labels`.
        `seen` is the mean over all attributes that are known, `changed` the sum over all of them
        for each one that has changed, which are few; `right_changed` is of these alone.
        """
        changed, scenes = changes_of(scenes).flatten(0, 1), scenes.flatten(0, 1)
        normed = self.norm(hidden)
        logits = self.linear(normed).float().split(COUNTS, -1)
        losses, right = torch.zeros(2, device=hidden.device)
        for each, wanted in zip(logits, scenes.T, strict=True):
            losses = losses + F.cross_entropy(each, wanted, ignore_index=UNKNOWN, reduction="sum")
            right = right + (each.argmax(-1) == wanted).sum()
        known = (scenes != UNKNOWN).sum().clamp(min=1)
        odds, fresh = self.changes(normed).float(), changed == 1
        missed = F.binary_cross_entropy_with_logits(odds, fresh.float(), reduction="none")
        new = fresh.sum().clamp(min=1)
        return {
            "seen": losses / known,
            "right_seen": right / known,
            "changed": (missed * (changed != UNKNOWN)).sum() / new,
            "right_changed": (fresh & (odds > 0)).sum() / new,
        }
