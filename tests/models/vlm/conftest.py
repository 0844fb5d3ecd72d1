"""A tiny Qwen2.5-VL of random weights, and the videos that it watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from longtake.models.vlm.captioner import Captioner
from longtake.models.vlm.frames import FrameProcessor
from longtake.models.vlm.network import Network
from longtake.models.vlm.settings import Settings
from longtake.models.vlm.turns import MARKS, SILENCE
from longtake.streaming import InputFrame

CORPUS = [
    *["the red ball bounces on green grass ..."] * 8,
    *["it starts to snow ...", "night falls ...", "Time=12.0-13.0s", "previous text"] * 4,
    *["system\nYou are a helpful assistant.", "user\n", "assistant\n"] * 4,
]
SETTINGS = Settings(
    vision_seconds=3.0,
    text_sink=5,
    text_window=9,
    round_tokens=6,
    answer_tokens=10,
    temperature=0.0,
    top_k=0,
    repetition_penalty=1.3,
    min_pixels=1,
    max_pixels=10**6,
)
PROCESSOR = {
    "patch_size": 4,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_pixels": 16 * 24,
    "max_pixels": 16 * 24,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "rescale_factor": 1 / 255,
    "resample": 3,
}


def make_tokenizer() -> Tokenizer:
    """Byte-level, in Qwen's layout."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[*MARKS, "<|image_pad|>", "<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    assert len(tokenizer.encode(SILENCE).ids) == 1
    return tokenizer


def make_model(tokenizer: Tokenizer) -> Qwen2_5_VLForConditionalGeneration:
    """Two layers each for seeing and speaking, float32."""
    ids = {mark: tokenizer.token_to_id(mark) for mark in (*MARKS, "<|image_pad|>")}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 3, 3],
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 64,
            "tokens_per_second": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).eval().requires_grad_(requires_grad=False)
    # Larger than usual, so that what is attended to decides what is said.
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.mul_(4.0 if "embed_tokens" not in name else 20.0)
    return model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers writes it."""
    path = tmp_path_factory.mktemp("witness")
    tokenizer = make_tokenizer()
    make_model(tokenizer).save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return path


class Recorder(Network):
    """Notes what is read, and may be told what to answer or when to fail.

    Attributes:
        reads: of each forward of the language model the ids, positions and logits.
        script: token ids that the next forwards find likeliest; then their own again.
        fail_at: how many forwards succeed before one raises; None for all.
    """

    def __init__(self, model):
        super().__init__(model)
        self.reads: list[tuple[list[int], torch.Tensor, torch.Tensor]] = []
        self.script: list[int] = []
        self.fail_at: int | None = None

    def read(self, ids, positions, cache, vision=None):
        logits = super().read(ids, positions, cache, vision)
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                raise RuntimeError("out of memory")
        self.reads.append((list(ids), positions, logits))
        if self.script:
            logits = torch.full_like(logits, -100.0)
            logits[self.script.pop(0)] = 100.0
        return logits


@pytest.fixture(scope="session")
def _model() -> Qwen2_5_VLForConditionalGeneration:
    return make_model(make_tokenizer())


@pytest.fixture(scope="session")
def make_captioner(_model) -> Callable[..., Captioner]:
    """A captioner on a :class:`Recorder` of its own; the arguments are changes of the settings."""

    def make(**changes) -> Captioner:
        processor = FrameProcessor.from_config(PROCESSOR)
        settings = replace(SETTINGS, **changes)
        return Captioner(Recorder(_model), make_tokenizer(), processor, settings)

    return make


@pytest.fixture
def captioner(make_captioner) -> Captioner:
    return make_captioner()


@pytest.fixture(scope="session")
def video() -> Callable[..., list[InputFrame]]:
    """Random pictures, two a second."""

    def make(seconds: float, *, start: float = 0.0, fps: float = 2.0, seed: int = 0):
        random = np.random.default_rng(seed)
        return [
            InputFrame(start + index / fps, random.integers(0, 256, (16, 24, 3), np.uint8))
            for index in range(round(seconds * fps))
        ]

    return make


@pytest.fixture(scope="session")
def watch() -> Callable[..., list[list[tuple]]]:
    """Runs a captioner without an engine: for each round the media that it gives."""

    def run(captioner, state, frames, events=None):
        frames, rounds = list(frames), []
        while len(frames) >= captioner.demand(state):
            for event in (events or {}).get(len(rounds), ()):
                captioner.apply(state, event)
            for _ in range(captioner.demand(state)):
                captioner.apply(state, frames.pop(0))
            media, boundary = [], False
            while not boundary:
                step = captioner.step(state)
                media += step.media
                boundary = step.boundary
            rounds.append(media)
        return rounds

    return run
