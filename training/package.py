"""Stage 5: the parts put together as the model folder that the application opens."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from longtake.models.video.generator import StreamingConfig
from longtake.models.video.load import save_generator
from longtake.models.video.text import TextEncoder
from longtake.training.codec import load_codec
from longtake.training.generator import load_denoiser
from longtake.training.prompts import build_tokenizer


def package(generator: Path, codec: Path, out: Path) -> None:
    """Write the model folder `out` from the folders of the generator and codec stages."""
    denoiser, described = load_denoiser(generator, torch.device("cpu"))
    streaming = StreamingConfig(**described["streaming"])
    text = TextEncoder(denoiser.text, build_tokenizer(), streaming.text_length)
    save_generator(out, denoiser.transformer, load_codec(codec), text, streaming)


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    for name in ("generator", "codec"):
        result.add_argument(f"--{name}", type=Path, required=True, help=f"folder of the {name}")
    result.add_argument("--out", type=Path, required=True, help="folder to write")
    return result


if __name__ == "__main__":
    options = parser().parse_args()
    package(options.generator, options.codec, options.out)
