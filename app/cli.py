"""The command line."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from longtake.app.threads import limit_spinning
from longtake.streaming import StreamError

EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for what the user can mend, 130 for Ctrl-C."""
    began = time.perf_counter()
    options = _parser().parse_args(arguments)
    limit_spinning()
    # Torch and the rest load here, so that --help and mistyped options answer at once.
    from longtake.app.generate import EXIT_INTERRUPTED, generate  # noqa: PLC0415

    # A polite kill ends a film as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return generate(options, began)
    except StreamError as error:
        print(f"longtake: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("longtake: stopped before there was a first frame", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longtake", description="One continuous shot that you steer while it is being shot."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_generate(
        commands.add_parser(
            "generate",
            help="make a film from prompts and their times",
            description="Make a film from prompts and their times, as an MP4 of any length.",
        )
    )
    return parser


def _steps(value: str) -> int | str:
    if value == "auto":
        return value
    try:
        return int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor auto") from None


def _add_generate(parser: argparse.ArgumentParser) -> None:
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help='what is to be seen; repeat it for later ones: "@12.5s night falls"',
    )
    prompts.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help='JSONL: {"at": seconds, "prompt": "..."} a line, or LongLive\'s {"prompts": [...]}',
    )
    parser.add_argument(
        "--every",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help='seconds a prompt of a {"prompts": [...]} script lasts (default: 10)',
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("take.mp4"), help="default: take.mp4")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: the bundled model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--dtype",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="auto is what this processor is fast in (default)",
    )
    parser.add_argument(
        "--switch",
        choices=["recache", "keep", "flush"],
        default="recache",
        help="what a new prompt does to what is remembered: run it again under the new prompt "
        "(default), keep it as it was, or forget it, which cuts",
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        metavar="N|auto",
        help="denoising steps a chunk: fewer are faster; auto tries how many keep up with playback",
    )
    parser.add_argument("--window", type=int, help="newest latent frames remembered")
    parser.add_argument("--sink", type=int, help="latent frames from the start never forgotten")
    parser.add_argument(
        "--json", action="store_true", help="print a machine-readable summary as the last line"
    )
    parser.add_argument(
        "--no-metadata", action="store_true", help="leave the prompts out of the MP4"
    )
