"""Captions of encoded clips as tokens, and the small tokenizer and text encoder they go through."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from longtake.training.captions import caption, change_caption, draw_mention, vocabulary
from longtake.training.dataset import CHANGE
from longtake.training.world import NAMES

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


def build_tokenizer() -> Tokenizer:
    """One token a word of the grammar, commas, and an end; what it does not know is `<unk>`."""
    words = [PAD, END, UNKNOWN, ",", *vocabulary()]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, ids[END])]
    )
    return tokenizer


def build_text_encoder(settings: Mapping[str, object], tokenizer: Tokenizer) -> UMT5EncoderModel:
    """A small umT5 encoder with random weights; `settings` are fields of its config."""
    config = UMT5Config(
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=tokenizer.token_to_id(PAD),
        eos_token_id=tokenizer.token_to_id(END),
        tie_word_embeddings=True,
        **settings,
    )
    return UMT5EncoderModel(config)


def prompt(before: Sequence[int], after: Sequence[int], style: int, rng: random.Random) -> str:
    """A caption drawn for a clip; it names at least what changes in the clip."""
    if style == CHANGE:
        return change_caption(before, after, rng)
    changed = {name for name, a, b in zip(NAMES, before, after, strict=True) if a != b}
    return caption(after, rng, draw_mention(rng) | changed)


def tokens(
    tokenizer: Tokenizer, texts: Sequence[str], length: int, forget: float, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, int64 [B, length] each.

    Words are replaced by `<unk>` at the rate `forget`, so that a stranger's word does no harm.
    """
    unknown, end = tokenizer.token_to_id(UNKNOWN), tokenizer.token_to_id(END)
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        kept = [
            unknown if token != end and rng.random() < forget else token
            for token in encoding.ids[:length]
        ]
        ids[row, : len(kept)] = torch.tensor(kept)
        mask[row, : len(kept)] = 1
    return ids, mask
