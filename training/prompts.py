"""Captions of encoded clips as tokens, and the small tokenizer and text encoder they go through."""

from __future__ import annotations

import argparse
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from torch.utils.data import Dataset
from transformers import UMT5Config, UMT5EncoderModel

from longtake.models.video.rewriter import PromptRewriter
from longtake.models.video.settings import StreamingConfig
from longtake.training.dataset import CHANGE, NAMELESS, SCENE, Clips
from longtake.training.lexicon import lexicon
from longtake.training.loop import rank
from longtake.training.valley.captions import (
    caption,
    change_caption,
    draw_mention,
    shown,
    values_of,
    vocabulary,
)
from longtake.training.valley.world import NAMES

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
EARLIER_BY_CHANGE = 0.7
"""Of the changes before a clip's window the share that was asked for in words for the change."""
SPOKEN = ("motion", "ground", "time")
"""What the prompts of a nameless film say."""
AWAY_FROM_BEFORE = 0.5
"""How often guidance leads away from what was told before, where something was."""


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


@cache
def rewriter() -> PromptRewriter:
    """What makes of a film's prompts the one that is read, as the packaged model has it."""
    return PromptRewriter(lexicon())


def mention(
    before: Sequence[int], after: Sequence[int], style: int, rng: random.Random
) -> frozenset[str]:
    """The attributes that a caption for a clip names: at least what changes in it."""
    changed = {name for name, a, b in zip(NAMES, before, after, strict=True) if a != b}
    drawn = draw_mention(rng) | {"shape"} if style == SCENE else frozenset()
    named = (drawn | changed) & shown(values_of(after))
    return named | {"companion"} if style == SCENE and "companion_colour" in named else named


def prompt(
    before: Sequence[int],
    after: Sequence[int],
    style: int,
    named: Collection[str],
    rng: random.Random,
    *,
    held_out: bool = False,
) -> str:
    """A caption for a clip; `named` is from `mention`, `held_out` as in `captions`."""
    if style == CHANGE:
        return change_caption(before, after, rng, held_out)
    return caption(after, rng, named, held_out)


def story(
    scenes: Sequence[Sequence[int]],
    style: int,
    rng: random.Random,
    *,
    held_out: bool = False,
    untold: frozenset[str] = frozenset(),
) -> tuple[list[str], frozenset[str]]:
    """The prompts of a film, oldest first: for its first scene, and for each that differs.

    `scenes`: attribute rows in their order; `style`: of the caption for the last one, the others'
    are drawn; `held_out`: as in `captions`; `untold`: attributes that never change in it, and that
    no prompt names. With them, which attributes of the last scene are told.
    """
    told = mention(scenes[0], scenes[0], SCENE, rng) - untold
    texts = [prompt(scenes[0], scenes[0], SCENE, told, rng, held_out=held_out)]
    last = len(scenes) - 1
    for index, (old, new) in enumerate(pairwise(scenes), 1):
        if old != new:
            drawn = CHANGE if rng.random() < EARLIER_BY_CHANGE else SCENE
            said = style if index == last else drawn
            named = mention(old, new, said, rng) - untold
            texts.append(prompt(old, new, said, named, rng, held_out=held_out))
            told |= named
    return texts, told & shown(values_of(scenes[-1]))


def nameless(scenes: Sequence[Sequence[int]]) -> list[str]:
    """The prompts of a film that say `SPOKEN` alone, never what it is that is seen, oldest first.

    `scenes`: attribute rows in their order; there is a prompt for the first and for each that
    differs.
    """
    told = [scenes[0], *(new for old, new in pairwise(scenes) if old != new)]
    values = map(values_of, told)
    return [rewriter().say({name: each[name] for name in SPOKEN}) for each in values]


def tokens(
    tokenizer: Tokenizer,
    stories: Sequence[Sequence[str]],
    length: int,
    forget: float,
    rng: random.Random,
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, int64 [B, length] each, of the prompts of films, as they are read in use.

    Those of each are rewritten to one for the whole scene. Words are replaced by `<unk>` at the
    rate `forget`, so that a stranger's word does no harm.
    """
    unknown, end = tokenizer.token_to_id(UNKNOWN), tokenizer.token_to_id(END)
    ids = torch.zeros(len(stories), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    encoded = tokenizer.encode_batch([rewriter()(texts) for texts in stories])
    for row, text in enumerate(encoded):
        read = text.ids[:length]
        kept = [unknown if each != end and rng.random() < forget else each for each in read]
        ids[row, : len(kept)] = torch.tensor(kept)
        mask[row, : len(kept)] = 1
    return ids, mask


def told_and_not(
    stories: Sequence[Sequence[str]], rng: random.Random
) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """What is told of each film, and what a teacher's guidance leads away from.

    That is no prompt at all, or in some of the films all prompts but the newest: so what it asks
    for stands out against what was before it.
    """
    before = [
        story[:-1] if len(story) > 1 and rng.random() < AWAY_FROM_BEFORE else [""]
        for story in stories
    ]
    return list(stories), before


def guided_tokens(
    tokenizer: Tokenizer,
    stories: Sequence[Sequence[str]],
    length: int,
    forget: float,
    rng: random.Random,
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, int64 [2, B, length] each, of both sides of `told_and_not`.

    `length`, `forget`: see `tokens`.
    """
    sides = [tokens(tokenizer, each, length, forget, rng) for each in told_and_not(stories, rng)]
    ids, mask = (torch.stack(each) for each in zip(*sides, strict=True))
    return ids, mask


@dataclass(frozen=True)
class Batch:
    """What one step is trained on: rows of a clip file and their captions as tokens.

    `index`: int64 [B]; `ids`, `mask`: int64 [2, B, length], of both sides of `told_and_not`.
    """

    index: Tensor
    ids: Tensor
    mask: Tensor

    def pin_memory(self) -> Batch:
        """In memory from which copies to a GPU need no waiting."""
        return Batch(*(each.pin_memory() for each in vars(self).values()))


class Batches(Dataset[Batch]):
    """The batch of every step: by turns of films and of as many tokens of openings.

    Made from the step's number alone, in processes of their own: writing captions would hold up
    a GPU.
    """

    def __init__(
        self, sets: Sequence[Clips], options: argparse.Namespace, streaming: StreamingConfig
    ) -> None:
        self.sets = [clips.rows() for clips in sets]
        # As many frames a step of either: the films' clean ones but for the last chunk, and as many
        # noisy ones; the openings' are but one chunk and noisy.
        films, chunk = (clips.latents.shape[2] for clips in sets)
        self.sizes = (options.batch, options.batch * 2 * (films - chunk) // chunk)
        self.seed, self.streaming = f"{options.seed}/{rank()}", streaming
        self.forget, self.mute = options.forget, options.mute
        self.tokenizer = build_tokenizer()

    def __getitem__(self, step: int) -> Batch:
        rng = random.Random(f"{self.seed}/{step}")
        rows, size = self.sets[step % 2], self.sizes[step % 2]
        chosen = rng.choices(range(len(rows)), k=size)
        stories = [self._story(*rows[index], rng) for index in chosen]
        length = self.streaming.text_length
        ids, mask = guided_tokens(self.tokenizer, stories, length, self.forget, rng)
        return Batch(torch.tensor(chosen), ids, mask)

    def _story(
        self, scenes: list[list[int]], style: int, between: bool, rng: random.Random
    ) -> list[str]:
        if rng.random() < self.mute:
            return [""]
        if style == NAMELESS:
            return nameless(scenes)
        untold = frozenset({"time"} if between else ())
        return story(scenes, style, rng, untold=untold)[0][-self.streaming.prompts :]
