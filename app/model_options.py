"""The command line's options about models: ``models`` and ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path


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
    """Of ``doctor``, besides the device."""
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="of this model alone")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of the pictures, in pixels")
    parser.add_argument("--window", type=int, help="newest latent frames remembered")
    parser.add_argument("--sink", type=int, help="latent frames from the start never forgotten")


def _size(value: str) -> tuple[int, int]:
    width, _, height = value.partition("x")
    if width.isascii() and width.isdigit() and height.isascii() and height.isdigit():
        return int(width), int(height)
    raise argparse.ArgumentTypeError(f"{value!r} is no size: use 832x480, for example")
