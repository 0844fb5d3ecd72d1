"""The next token from logits: plain functions, and noise that can be replayed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longtake.models.seeding import generator


def penalise(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Make tokens that were there less likely (CTRL, section 4.1).

    Args:
        logits: float32, [vocabulary].
        ids: int64, of all that is remembered; repetitions count once.
        penalty: 1 changes nothing.
    """
    if penalty == 1:
        return logits
    seen = logits[ids]
    return logits.index_put((ids,), torch.where(seen > 0, seen / penalty, seen * penalty))


def choose(logits: Tensor, temperature: float, top_k: int, place: Sequence[int]) -> int:
    """One token id, by the Gumbel-max trick, so that all randomness is noise of the CPU's.

    Args:
        logits: float32, [vocabulary]; -inf where a token is ruled out.
        temperature: 0 takes the likeliest.
        top_k: so many of the likeliest are sampled from; 0 for all.
        place: what the noise depends on: (seed, round, token).
    """
    if temperature == 0:
        return int(logits.argmax())
    if 0 < top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    noise = torch.rand(len(logits), dtype=torch.float64, generator=generator(*place))
    gumbel = -(-noise.clamp_min(1e-300).log()).log()
    return int((logits.cpu().double() / temperature + gumbel).argmax())
