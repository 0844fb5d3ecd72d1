"""The command line."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from longtake.app.model_options import add_doctor, add_models
from longtake.app.threads import limit_spinning
from longtake.streaming import StreamError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
# Seconds; nobody waits for longer than four months.
LONGEST = 10_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for what the user can mend, 130 for Ctrl-C.

    Without a command it is ``serve``.
    """
    began = time.perf_counter()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "serve")
    options = parser().parse_args(given)
    # A polite kill ends a film as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options, began)
    except StreamError as error:
        print(f"longtake: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        made = " before there was a first frame" if options.command == "generate" else ""
        print(f"longtake: stopped{made}", file=sys.stderr)
        return EXIT_INTERRUPTED


def _run(options: argparse.Namespace, began: float) -> int:
    # Torch and the rest load here, so that --help and mistyped options answer at once.
    if options.command == "takes":
        from longtake.app.list_takes import list_takes  # noqa: PLC0415

        return list_takes(options)
    if options.command == "models":
        from longtake.app.list_models import list_models  # noqa: PLC0415

        return list_models(options)
    limit_spinning()
    if options.command == "doctor":
        from longtake.app.doctor import doctor  # noqa: PLC0415

        return doctor(options)
    if options.command == "serve":
        from longtake.app.serve import serve  # noqa: PLC0415

        return serve(options)
    if options.command == "caption":
        from longtake.app.caption import caption  # noqa: PLC0415

        return caption(options)
    from longtake.app.generate import generate  # noqa: PLC0415

    return generate(options, began)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    top = argparse.ArgumentParser(
        prog="longtake", description="One continuous shot that you steer while it is being shot."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_serve(
        commands.add_parser(
            "serve",
            help="open the studio, to steer a film while it is made (without a command too)",
            description="Serve the studio: a film that you steer while it is made.",
        )
    )
    _add_generate(
        commands.add_parser(
            "generate",
            help="make a film from prompts and their times",
            description="Make a film from prompts and their times, as an MP4 of any length.",
        )
    )
    _add_caption(
        commands.add_parser(
            "caption",
            help="say what is to be seen in a video, a camera or a stream, while it is watched",
            description="Say what is to be seen in a video while it is watched, second by second, "
            "in constant memory however long it is. Sound is not heard. Ctrl-C ends it; what was "
            "said is kept.",
        )
    )
    _add_takes(
        commands.add_parser(
            "takes",
            help="list, export and remove the takes that were saved as they were made",
            description="List the takes that were saved as they were made, and where they are.",
        )
    )
    add_models(
        commands.add_parser(
            "models",
            help="list the models that are known, fetch and remove them",
            description="List the models that are known: their size, their licence, where they "
            "are.",
        )
    )
    doctor = commands.add_parser(
        "doctor",
        help="say what this machine can do, and which models fit on it",
        description="Say what this machine is, which kernels and codecs it has, and which models "
        "fit on it, with which setting.",
    )
    add_doctor(doctor)
    _add_device(doctor)
    return top


def _steps(value: str) -> int | str:
    if value == "auto":
        return value
    try:
        return int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is neither a number nor auto") from None


def _port(value: str) -> int:
    return _whole(value, 0, 65535, "port")


def _count(value: str) -> int:
    return _whole(value, 1, 1000, "number of films")


def _whole(value: str, least: int, most: int, what: str) -> int:
    if value.isascii() and value.isdigit() and least <= int(value[:9]) <= most:
        return int(value)
    problem = f"{value!r} is no {what}: use a whole number from {least} to {most}"
    raise argparse.ArgumentTypeError(problem)


def _duration(value: str) -> float:
    with suppress(ValueError):
        if 1 <= float(value) <= LONGEST:
            return float(value)
    problem = f"{value!r} is no number of seconds: use one from 1 to {LONGEST:,}"
    raise argparse.ArgumentTypeError(problem)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="default: the bundled model")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--dtype",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="auto is what this processor is fast in (default)",
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1); any other than this machine's own needs "
        "a token, and one is made if there is none",
    )
    parser.add_argument("--port", type=_port, default=7860, help="default: 7860; 0 is any free one")
    parser.add_argument("--token", help="what visitors have to know")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="another address under which the studio is reached, behind a proxy for example",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate, for https")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    parser.add_argument(
        "--sessions", type=_count, default=1, metavar="N", help="films at a time (default: 1)"
    )
    parser.add_argument(
        "--idle",
        type=_duration,
        default=900.0,
        metavar="SECONDS",
        help="without anything asked for, after which a film is paused and its visitor told; five "
        "minutes later the next one is let in (default: 900)",
    )
    parser.add_argument(
        "--takes",
        type=Path,
        metavar="FOLDER",
        help="where films are saved (default: $LONGTAKE_TAKES, or longtake/takes in your data "
        "folder)",
    )
    parser.add_argument(
        "--witness",
        metavar="FOLDER",
        help="a Qwen2.5-VL that watches what visitors show, its name in `models`, or that on the "
        "Hugging Face hub (default: the bundled captioner, if there is one)",
    )
    _add_model(parser)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help='what is to be seen; repeat it for later ones: "@12.5s night falls", or '
        '"@12.5s~4 night falls" to let it take over in four chunks',
    )
    prompts.add_argument(
        "--script",
        type=Path,
        metavar="FILE",
        help='JSONL: {"at": seconds, "prompt": "..."} a line, perhaps with the chunks of a '
        '"transition", or LongLive\'s {"prompts": [...]}',
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
    _add_model(parser)
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


def _add_caption(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a video file; webcam, webcam:1 or a camera's device; or the http address of a stream",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the captions as they come: .vtt, .srt or .jsonl; or .mp4 for a copy of the "
        "file with the captions as subtitles, made at the end from a .vtt beside it",
    )
    parser.add_argument(
        "--ask",
        action="append",
        default=[],
        metavar="TEXT",
        help='a question, answered at once, or at its time: "@12.5s what is moving?"; repeat it '
        "for others",
    )
    parser.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="what to keep in mind all the time, for example which language to speak",
    )
    parser.add_argument(
        "--fps", type=float, help="frames a second that are looked at (default: the model's, 2)"
    )
    parser.add_argument(
        "--memory",
        type=float,
        metavar="SECONDS",
        help="of video that are remembered as pictures (default: the model's, 16); what is older "
        "is remembered in words",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="a Qwen2.5-VL in transformers' layout, its name in `models`, or that on the Hugging "
        "Face hub (default: the bundled captioner)",
    )
    parser.add_argument(
        "--quantization",
        choices=["8bit", "4bit"],
        help="keep the model in fewer bits, on an NVIDIA GPU",
    )
    _add_device(parser)


def _add_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        help="where they are (default: $LONGTAKE_TAKES, or longtake/takes in your data folder)",
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument(
        "--export",
        nargs=2,
        metavar=("NAME", "FILE"),
        help="save a take as FILE: .mp4, .png (its last frame), .webp or .gif (its last 3 s)",
    )
    actions.add_argument(
        "--command-line",
        metavar="NAME",
        help="print the command that makes the same film",
    )
    actions.add_argument(
        "--keep", metavar="NAME", help="never remove a take to make room for others"
    )
    actions.add_argument(
        "--clean",
        nargs="*",
        metavar="NAME",
        help="remove these takes, or all but those kept or being made; asks first",
    )
    parser.add_argument("--last", type=float, metavar="SECONDS", help="export no more than that")
    parser.add_argument("--yes", action="store_true", help="clean without asking")
