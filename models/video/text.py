"""Prompts to embeddings: a umT5 encoder of transformers behind a ``tokenizers`` tokenizer."""

from __future__ import annotations

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

    def __call__(self, prompts: list[str]) -> Tensor:
        """Embeddings of prompts.

        Returns:
            [prompts, length, d_model] in the model's dtype.
        """
        rows = [self.tokens(prompt) for prompt in prompts]
        ids = torch.zeros(len(rows), self.length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[index, : len(row)] = 1
        return encode_tokens(self.model, ids.to(self.model.device), mask.to(self.model.device))


def encode_tokens(model: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings of token ids, zeroed where ``mask`` is 0.

    Args:
        model: the encoder.
        ids: int64, [batch, length].
        mask: 1 for tokens, 0 for padding, as ``ids``.
    """
    hidden: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden * mask.unsqueeze(-1).to(hidden.dtype)
