"""What self-attention is to a forward: someone else's, who keeps keys and values."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Norms(NamedTuple):
    """The RMS norms of queries and keys, over all heads.

    Attributes:
        q: weight, [heads * head_dim].
        k: as ``q``.
        eps: of both.
    """

    q: Tensor
    k: Tensor
    eps: float


class SelfAttention(Protocol):
    """Whoever owns the keys and values of self-attention during one forward."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        """Norm, rotate, keep what is to be kept, attend.

        Args:
            layer: the block's index.
            q: queries as projected, [batch, tokens, heads, head_dim].
            k: keys, as ``q``.
            v: values, as ``q``.
            norms: of queries and keys.

        Returns:
            [batch, tokens, heads, head_dim].
        """
        ...


class Memory(SelfAttention, Protocol):
    """One that keeps keys and values from forward to forward."""

    def write(self, layer: int, k: Tensor, v: Tensor, norms: Norms) -> None:
        """Norm, rotate and keep, without attending; the arguments are those of a call."""
        ...
