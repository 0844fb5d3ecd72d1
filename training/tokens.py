"""The captioner's own small tokenizer, in the layout of Qwen2.5's.

Byte pairs learned from the valley's narrations, so that their words are a token each; what it never
saw falls apart into pieces, in the end into bytes, so that anything can be asked.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from longtake.models.vlm.turns import MARKS, SILENCE, SYSTEM
from longtake.training.valley import phrases
from longtake.training.valley.captions import vocabulary
from longtake.training.valley.narration import sentence, telling
from longtake.training.valley.script import draw_scripts
from longtake.training.valley.wordings import HELD_OUT_WORDINGS, KINDS, wordings
from longtake.training.valley.world import ATTRIBUTES

SPECIAL = (*MARKS, "<|image_pad|>", "<|endoftext|>")
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2.5 splits text into words: with the space ahead, every digit alone."""
NARRATIONS, SECONDS = 400, 60
SEED = 5


def build_tokenizer(vocab_size: int) -> Tokenizer:
    """Learn the byte pairs; the same ones each time.

    `vocab_size`: with the 256 bytes and the marks.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer


def _corpus() -> Iterator[str]:
    """All that the model reads and says."""
    scripts = draw_scripts(NARRATIONS, SECONDS, torch.Generator().manual_seed(SEED))
    rng = random.Random(SEED)
    for rows, changes in zip(scripts.rows.tolist(), scripts.changes.tolist(), strict=True):
        story = telling(rows, changes)
        for second in range(SECONDS):
            yield f"{story.round(second, rng, asking=0.2).words}{SILENCE}"
    for _ in range(NARRATIONS):
        yield f"system\n{SYSTEM}"
        yield "previous text\n"
        yield "user\nTime=0.0-1.0s"
        yield "assistant\n"
        yield sentence(rng.choice(phrases.ELSEWHERE))
        for colour in (*ATTRIBUTES["colour"], "grey"):
            yield sentence(f"it is {rng.choice(('dark', 'bright'))} and mostly {colour}")
        tables = (phrases.ELSEWHERE_CHANGES, phrases.ELSEWHERE_MOTIONS)
        yield from (sentence(options[0]) for table in tables for options in table.values())
    asked = (*itertools.chain(*map(wordings, KINDS)), *HELD_OUT_WORDINGS.values())
    for wording in itertools.chain(*asked):
        yield "\n" + wording.format(shape=rng.choice(ATTRIBUTES["shape"]))
    # What people ask in words of their own is mostly in those of the generator's prompts.
    yield from (f" {word}" for word in vocabulary())
