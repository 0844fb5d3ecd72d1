"""Prompts to embeddings: a umT5 encoder of transformers behind a ``tokenizers`` tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import UMT5EncoderModel


class TextEncoder:
    """Encodes prompts as Wan does: padded to a fixed length, the padding's embeddings zeroed.

    The zeroed padding is still attended to by the generator; models were trained so.

    Args:
        model: the encoder.
        tokenizer: its stored padding and truncation are replaced.
        length: text tokens; shorter prompts are padded, longer ones cut.
    """

    def __init__(self, model: UMT5EncoderModel, tokenizer: Tokenizer, length: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.length = length
        tokenizer.no_padding()
        # The tokenizer's own truncation cuts words and keeps the end mark.
        tokenizer.enable_truncation(length)

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a whitespace-cleaned prompt, cut to the length, not padded."""
        ids: list[int] = self.tokenizer.encode(" ".join(prompt.split())).ids
        return ids

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Embeddings of one film's prompts, at least one, read together; see :func:`join_tokens`.

        Returns:
            [1, length, d_model] in the model's dtype.
        """
        row = join_tokens([self.tokens(prompt) for prompt in prompts], self.length)
        ids = torch.zeros(1, self.length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        ids[0, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[0, : len(row)] = 1
        return encode_tokens(self.model, ids.to(self.model.device), mask.to(self.model.device))


def add_prompt(prompts: tuple[str, ...], new: str, most: int) -> tuple[str, ...]:
    """The prompts of a film, oldest first, when a new one comes; the ``most`` newest are kept.

    One that goes on from the newest, or takes back its end, is still the same being typed: it
    takes its place.
    """
    if new.startswith(prompts[-1]) or prompts[-1].startswith(new):
        prompts = prompts[:-1]
    return (*prompts, new)[-most:]


def join_tokens(rows: Sequence[list[int]], length: int) -> list[int]:
    """Prompts one after the other, each with its end mark; the oldest go where there is no room.

    So a change is read beside the scene that it changes.

    Args:
        rows: token ids of each prompt, oldest first.
        length: token ids there is room for; the newest prompt alone is cut to it.
    """
    joined = rows[-1][:length]
    for row in reversed(rows[:-1]):
        if len(row) + len(joined) > length:
            break
        joined = row + joined
    return joined


def encode_tokens(model: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings of token ids, zeroed where ``mask`` is 0.

    Args:
        model: the encoder.
        ids: int64, [batch, length].
        mask: 1 for tokens, 0 for padding, as ``ids``.
    """
    hidden: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden * mask.unsqueeze(-1).to(hidden.dtype)
