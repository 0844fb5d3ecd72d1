"""The command line's options about models: which one, ``models``, ``doctor`` and ``bench``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_model(parser: argparse.ArgumentParser) -> None:
    """Of whatever makes films; see `model_arguments`."""
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: the bundled model")
    parser.add_argument(
        "--lora", type=Path, metavar="PATH", help="a LoRA's file or folder, merged into the model"
    )
    parser.add_argument(
        "--lora-scale",
        type=float,
        default=1.0,
        metavar="X",
        help="how much of the LoRA (default: 1, all of it)",
    )
    _add_sizes(parser)
    add_device(parser)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    """What decides how much memory a model takes."""
    parser.add_argument(
        "--quantize",
        choices=["int8"],
        help="multiply in 8 bits what is faster so; on a GPU the transformer, in half the memory; "
        "films differ a little",
    )
    parser.add_argument(
        "--kv-cache",
        choices=["fp8"],
        help="keep keys and values in 8-bit floating point: half the memory of what a film looks "
        "back on, and faster, on NVIDIA GPUs from Hopper on; films differ a little",
    )
    _add_shape(parser)
    _add_text(parser)


def _add_shape(parser: argparse.ArgumentParser) -> None:
    """The sizes that a model films with, in place of those of its ``streaming.json``."""
    parser.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="of the pictures, in pixels",
    )
    parser.add_argument("--chunk", type=int, metavar="N", help="latent frames made at a time")
    parser.add_argument(
        "--window",
        type=int,
        metavar="N",
        help="newest latent frames remembered, with the chunk",
    )
    parser.add_argument(
        "--sink", type=int, metavar="N", help="latent frames from the start never forgotten"
    )


def _add_text(parser: argparse.ArgumentParser) -> None:
    """How the text encoder is kept."""
    parser.add_argument(
        "--text-encoder",
        choices=["bf16", "int8", "nf4"],
        help="its precision: 8 or 4 bits (by bitsandbytes) take less memory, films differ a little "
        "(default: --dtype)",
    )
    parser.add_argument(
        "--offload",
        choices=["text", "text-once"],
        help="text: the text encoder is not in the GPU's memory; it is loaded into the machine's "
        "for the first prompt that is not known from before, and encodes there, in seconds. "
        "text-once: the same, and it is let go of after each",
    )


def model_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_model` asked for, as `open_model` takes it."""
    return {
        "folder": options.model,
        "device": options.device,
        "dtype": options.dtype,
        "lora": options.lora,
        "lora_scale": options.lora_scale,
        "quantize": options.quantize,
        "kv_cache": options.kv_cache,
        "size": options.size,
        "chunk": options.chunk,
        "window": options.window,
        "sink": options.sink,
        "text_encoder": options.text_encoder,
        "offload": options.offload,
    }


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where a model runs, and in which precision."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--dtype",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="auto is what this processor is fast in (default)",
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """Of ``models``."""
    parser.set_defaults(action="list")
    actions = parser.add_subparsers(metavar="ACTION", dest="action")
    pull = actions.add_parser(
        "pull",
        help="fetch a model, or go on where it was interrupted",
        description="Fetch a model from the Hugging Face hub (HF_ENDPOINT names a mirror) into "
        "$LONGTAKE_MODELS, or longtake/models in your data folder. An interrupted one goes on "
        "where it was; every file's checksum is compared.",
    )
    pull.add_argument("name", metavar="NAME", help="of the list")
    pull.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help="copy it from a folder in which the files are named as on the hub",
    )
    remove = actions.add_parser("remove", help="delete a model's files; asks first")
    remove.add_argument("name", metavar="NAME", help="of the list")
    remove.add_argument("--yes", action="store_true", help="remove without asking")


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Of ``doctor``."""
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="of this model alone")
    _add_sizes(parser)
    add_device(parser)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Of ``bench``."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="default: random weights in the shape of Wan 2.1 1.3B, at 832x480",
    )
    what.add_argument(
        "--toy", action="store_true", help="random weights in a shape that measures nothing"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of video for each number (default: 60)"
    )
    parser.add_argument(
        "--kernels",
        type=int,
        default=20,
        metavar="N",
        help="calls that each kernel is the median of; 0 leaves kernels out (default: 20)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="default: docs/results/bench_cpu.json, or _cuda",
    )
    add_device(parser)


def _size(value: str) -> tuple[int, int]:
    width, _, height = value.partition("x")
    if width.isascii() and width.isdigit() and height.isascii() and height.isdigit():
        return int(width), int(height)
    raise argparse.ArgumentTypeError(f"{value!r} is no size: use 832x480, for example")
