"""What every test shares: one thread, tiny random model folders, and the stages run as a toy."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    # Kernels run in the interpreter; it is chosen when triton is imported, as transformers does.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import UMT5Config, UMT5EncoderModel

from longtake.kernels import bind
from longtake.models.video.load import save_generator
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import TextEncoder
from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.models.video.transformer import TransformerConfig, WanTransformer
from longtake.training import codec, dataset, generator, judge, reader
from longtake.weights import GENERATOR

SENTENCE = "a red blue ball bounces on green grass night falls it starts to snow"
TOY = Path(__file__).with_name("toy.json")
LOOP = ["--steps", "3", "--no-compile", "--device", "cpu"]
WORDS = ["<pad>", "<unk>", *SENTENCE.split()]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder in the real layout: 32x32 pixels, 8 frames a second, random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    kernels = bind(torch.device("cpu"), torch.float32)
    transformer = WanTransformer(
        TransformerConfig(2, 16, ffn_dim=48, num_layers=2, in_channels=4, out_channels=4,
                          text_dim=16, freq_dim=16),
        kernels,
    )  # fmt: skip
    codec = TinyCodec(
        TinyCodecConfig(
            latent_channels=4,
            patch_size=2,
            blocks=1,
            encoder_channels=(8, 8, 8, 8),
            encoder_pool=(1, 2, 2),
            encoder_stride=(1, 2, 2),
            decoder_channels=(8, 8, 8, 8),
            decoder_scale=(2, 2, 1),
            decoder_grow=(2, 2, 1),
        )
    )
    # Random weights decode to almost black; this makes every frame a picture that can differ.
    torch.nn.init.normal_(codec.decoder[-1].weight, std=2.0)
    torch.nn.init.constant_(codec.decoder[-1].bias, 0.5)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    encoder = UMT5EncoderModel(
        UMT5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_heads=2, num_layers=1)
    )
    config = StreamingConfig(
        width=32, height=32, rate=8, chunk=2, sink=2, window=4, steps=2, shift=3.0, text_length=12,
        recache="causal",
    )  # fmt: skip
    save_generator(folder, transformer, codec, TextEncoder(encoder, tokenizer, 12), config)
    return folder


@pytest.fixture(scope="session")
def rewriting_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the bundled model's rewriter, and as many prompts as that folds."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("models") / "rewriting")
    shutil.copy(GENERATOR / "rewriter.json", folder)
    config = json.loads((folder / "streaming.json").read_text("utf-8")) | {"prompts": 64}
    (folder / "streaming.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-VL folder of random weights, as the captioner's own tests make it."""
    parts = runpy.run_path(str(Path(__file__).parent / "models" / "vlm" / "conftest.py"))
    folder = tmp_path_factory.mktemp("captioner")
    tokenizer = parts["make_tokenizer"]()
    parts["make_model"](tokenizer).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(parts["PROCESSOR"]))
    return folder


@pytest.fixture(scope="session")
def run_stage() -> Callable[..., None]:
    """Train a stage as a toy: `run_stage(root, name, out, *more options)`."""

    def run(root: Path, name: str, out: Path, *more: str) -> None:
        if name == "judge":
            wanted = ["--pool", "6", "--test", "2", "--batch", "3"]
            judge.train(judge.parser().parse_args([*LOOP, "--out", str(out), *wanted, *more]))
            return
        wanted = ["--out", str(out), "--config", str(TOY)]
        if name == "reader":
            wanted += ["--test", "8", "--batch", "4"]
            reader.train(reader.parser().parse_args([*LOOP, *wanted, *more]))
            return
        if name == "codec":
            wanted += ["--pool", "6", "--test", "2", "--batch", "6", "--frames", "8"]
            codec.train(codec.parser().parse_args([*LOOP, *wanted, *more]))
            return
        wanted += ["--data", str(root / "data"), "--reader", str(root / "reader"), "--batch", "3"]
        generator.train(generator.parser().parse_args([*LOOP, *wanted, *more]))

    return run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, run_stage: Callable[..., None]) -> Path:
    """Every stage run as a toy, each in a folder of its name."""
    root = tmp_path_factory.mktemp("built")
    for name in ("judge", "reader", "codec"):
        run_stage(root, name, root / name)
    data = ["--codec", str(root / "codec"), "--out", str(root / "data"), "--device", "cpu"]
    data += ["--config", str(TOY)]
    sizes = ["--clips", "12", "--openings", "12", "--batch", "3"]
    dataset.build(dataset.parser().parse_args([*data, *sizes]))
    run_stage(root, "generator", root / "generator")
    return root
