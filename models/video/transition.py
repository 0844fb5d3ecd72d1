"""A prompt that takes over from the one before, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transition:
    """On a straight line from the embeddings in force to those of the new prompt.

    Attributes:
        start: the embeddings in force when it began, [1, text_tokens, text_dim].
        target: those of the new prompt.
        began: index of its first chunk.
        chunks: it takes; at 0 and 1 the first one is made under the new prompt.
    """

    start: Tensor
    target: Tensor
    began: int
    chunks: int

    def is_over(self, chunk: int) -> bool:
        """Whether a chunk, from the first one on, is made under the new prompt alone."""
        return chunk - self.began + 1 >= self.chunks

    def at(self, chunk: int) -> Tensor:
        """The embeddings under which a chunk is made; in the end the target, bit for bit."""
        if self.is_over(chunk):
            return self.target
        share = (chunk - self.began + 1) / self.chunks
        return torch.lerp(self.start.float(), self.target.float(), share).to(self.target.dtype)
