"""Prompts to embeddings: a umT5 encoder of transformers behind a ``tokenizers`` tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import UMT5Config, UMT5EncoderModel

from longtake.models.video.prompt_cache import PromptCache

Rewriter = Callable[[Sequence[str], int | None], str]


class PromptEncoder(ABC):
    """Encodes prompts as Wan does: padded to a fixed length, the padding's embeddings zeroed.

    The zeroed padding is still attended to by the generator; models were trained so.

    Args:
        tokenizer: its stored padding and truncation are replaced.
        length: text tokens; shorter prompts are padded, longer ones cut.
        rewriter: makes of prompts the one that is read instead, see :class:`.PromptRewriter`; None
            has them read together.
    """

    def __init__(self, tokenizer: Tokenizer, length: int, rewriter: Rewriter | None = None) -> None:
        self.tokenizer = tokenizer
        self.length = length
        self.rewriter = rewriter
        tokenizer.no_padding()
        # The tokenizer's own truncation cuts words and keeps the end mark.
        tokenizer.enable_truncation(length)

    @property
    @abstractmethod
    def config(self) -> UMT5Config:
        """The encoder's."""

    @abstractmethod
    def __call__(self, prompts: Sequence[str], seed: int | None = None) -> Tensor:
        """Embeddings of one film's prompts.

        They are rewritten to one, or read together; see :func:`join_tokens`.

        Args:
            prompts: at least one, oldest first.
            seed: by which a rewriter draws what they do not tell of, if it is to.

        Returns:
            [1, length, d_model], wherever the encoder is and in its dtype.
        """

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a whitespace-cleaned prompt, cut to the length, not padded."""
        ids: list[int] = self.tokenizer.encode(" ".join(prompt.split())).ids
        return ids

    def _row(self, prompts: Sequence[str], seed: int | None) -> list[int]:
        read = [self.rewriter(prompts, seed)] if self.rewriter else prompts
        return join_tokens([self.tokens(prompt) for prompt in read], self.length)


class TextEncoder(PromptEncoder):
    """One that is loaded.

    Args:
        model: the encoder.
        tokenizer: see :class:`PromptEncoder`.
        length: as ``tokenizer``.
        rewriter: as ``tokenizer``.
    """

    def __init__(
        self,
        model: UMT5EncoderModel,
        tokenizer: Tokenizer,
        length: int,
        rewriter: Rewriter | None = None,
    ) -> None:
        super().__init__(tokenizer, length, rewriter)
        self.model = model

    @property
    def config(self) -> UMT5Config:
        """The model's."""
        config: UMT5Config = self.model.config
        return config

    def __call__(self, prompts: Sequence[str], seed: int | None = None) -> Tensor:
        """See :class:`PromptEncoder`."""
        row = self._row(prompts, seed)
        ids = torch.zeros(1, self.length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        ids[0, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[0, : len(row)] = 1
        return encode_tokens(self.model, ids.to(self.model.device), mask.to(self.model.device))


class OffloadedEncoder(PromptEncoder):
    """One that is loaded for the first prompt that is not known from before.

    It encodes a prompt without its padding, which on a CPU saves most of the time.

    Args:
        load: the encoder.
        tokenizer: see :class:`PromptEncoder`.
        length: as ``tokenizer``.
        config: the encoder's.
        cache: prompts that are known; None knows none.
        rewriter: as ``tokenizer``.
        keep: whether it stays once it is loaded.
    """

    def __init__(
        self,
        load: Callable[[], UMT5EncoderModel],
        tokenizer: Tokenizer,
        length: int,
        config: UMT5Config,
        cache: PromptCache | None,
        rewriter: Rewriter | None = None,
        *,
        keep: bool,
    ) -> None:
        super().__init__(tokenizer, length, rewriter)
        self._config = config
        self._load = load
        self._cache = cache
        self._keep = keep
        self._model: UMT5EncoderModel | None = None

    @property
    def config(self) -> UMT5Config:
        """The encoder's."""
        return self._config

    def __call__(self, prompts: Sequence[str], seed: int | None = None) -> Tensor:
        """See :class:`PromptEncoder`."""
        row = self._row(prompts, seed)
        embeddings = self._cache.get(row) if self._cache else None
        if embeddings is None:
            embeddings = self._encode(row)
            if self._cache:
                self._cache.put(row, embeddings)
        return F.pad(embeddings, (0, 0, 0, self.length - len(row)))[None]

    def _encode(self, row: list[int]) -> Tensor:
        model = self._model or self._load()
        if self._keep:
            self._model = model
        ids = torch.tensor([row], dtype=torch.long, device=model.device)
        return encode_tokens(model, ids, torch.ones_like(ids))[0]


def add_prompt(
    prompts: tuple[str, ...], new: str, most: int, rewriter: Rewriter | None = None
) -> tuple[str, ...]:
    """The prompts of a film, oldest first, when a new one comes; the ``most`` newest are kept.

    Or, with a rewriter, the oldest two become what they say together, so that nothing is forgotten.
    One that goes on from the newest, or takes back its end, is still the same being typed: it
    takes its place.
    """
    if new.startswith(prompts[-1]) or prompts[-1].startswith(new):
        prompts = prompts[:-1]
    prompts = (*prompts, new)
    if rewriter and len(prompts) > most:
        prompts = (rewriter(prompts[:2], None), *prompts[2:])
    return prompts[-most:]


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
