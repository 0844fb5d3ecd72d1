"""What `package` wrote, as folders of the stages again, for a run that goes on from it.

The weights are those of the package, in int8 steps; what the optimisers knew is lost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from longtake.models.video.load import load_generator
from longtake.models.video.text import TextEncoder
from longtake.models.video.tiny_codec import TinyCodec
from longtake.training.codec import save_codec
from longtake.training.denoiser import Denoiser, save_denoiser
from longtake.training.reader import save_text_encoder


def unpack(model: Path, config: Path, out: Path) -> None:
    """Write `out/teacher`, `out/codec` and `out/reader`, the text encoder, from a model folder.

    `config`: what it was made with. The folder of the judge needs no unpacking.
    """
    generator = load_generator(model, torch.device("cpu"), torch.float32)
    if not isinstance(generator.codec, TinyCodec):
        raise TypeError(f"a {type(generator.codec).__name__} was not trained here")
    assert isinstance(generator.text_encoder, TextEncoder)
    denoiser = Denoiser(generator.transformer, generator.text_encoder.model)
    save_denoiser(denoiser, json.loads(config.read_text()), out / "teacher")
    save_codec(generator.codec, generator.codec.config, out / "codec")
    save_text_encoder(denoiser.text, out / "reader")


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--model", type=Path, required=True, help="folder of a generator")
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    result.add_argument("--out", type=Path, required=True, help="folder to write")
    return result


if __name__ == "__main__":
    options = parser().parse_args()
    unpack(options.model, options.config, options.out)
