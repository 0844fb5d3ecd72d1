"""Stage 5: what was trained as the folders of `weights/`: the generator, and the judge.

Beside them a manifest, `SHA256SUMS`, that `sha256sum --check` reads.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path

import torch

from longtake.models.folder import write_json
from longtake.models.video.load import save_generator
from longtake.models.video.rewriter import FILE
from longtake.models.video.text import TextEncoder
from longtake.training.codec import load_codec
from longtake.training.dataset import streaming_config
from longtake.training.denoiser import load_denoiser
from longtake.training.judge import load_judge, save_judge
from longtake.training.lexicon import lexicon
from longtake.training.prompts import build_tokenizer


def package(generator: Path, codec: Path, judge: Path, out: Path) -> None:
    """Write `out/valley` (int8) and `out/judge` (int8) from the folders of the stages."""
    denoiser, described = load_denoiser(generator, torch.device("cpu"))
    streaming = streaming_config(described)
    text = TextEncoder(denoiser.text, build_tokenizer(), streaming.text_length)
    save_generator(out / "valley", denoiser.transformer, load_codec(codec), text, streaming)
    write_json(out / "valley" / FILE, asdict(lexicon()))
    save_judge(load_judge(judge), out / "judge")
    write_manifest(out)


def write_manifest(folder: Path) -> None:
    """List the SHA-256 of every JSON and safetensors file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".safetensors"})
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in paths
    ]
    (folder / "SHA256SUMS").write_text("".join(lines), "utf-8")


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    for name in ("generator", "codec", "judge"):
        result.add_argument(f"--{name}", type=Path, required=True, help=f"folder of the {name}")
    result.add_argument("--out", type=Path, required=True, help="folder to write")
    return result


if __name__ == "__main__":
    options = parser().parse_args()
    package(options.generator, options.codec, options.judge, options.out)
