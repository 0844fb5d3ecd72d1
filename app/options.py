"""What the commands take from the command line."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from longtake.app.model_options import (
    add_bench,
    add_device,
    add_doctor,
    add_model,
    add_models,
)

# Seconds; nobody waits for longer than four months.
LONGEST = 10_000_000


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
    _add_convert(
        commands.add_parser(
            "convert",
            help="make a model folder of published weights (Wan 2.1, Self-Forcing, LongLive)",
            description="Make a model folder, for --model, of weights as they are published: "
            "Wan 2.1, Self-Forcing, LongLive, TAEHV. docs/weights.md goes through each.",
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
    add_doctor(
        commands.add_parser(
            "doctor",
            help="say what this machine can do, and which models fit on it",
            description="Say what this machine is, which kernels and codecs it has, and which "
            "models fit on it, with which setting.",
        )
    )
    add_bench(
        commands.add_parser(
            "bench",
            help="measure how fast films are made here, as a whole and part by part",
            description="Measure how fast films are made on this machine: the transformer alone, "
            "decoding alone, both together, the first frame, a new prompt, every kernel. Writes "
            "JSON that says what was counted.",
        )
    )
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


def _head_dim(value: str) -> int:
    return _whole(value, 2, 1024, "number of channels")


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
    add_model(parser)


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
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="a picture, or a clip of at most 5 s, that the film begins with and goes on from; it "
        "is scaled and cropped to the film's size",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length (default: 20)")
    parser.add_argument("--out", type=Path, default=Path("take.mp4"), help="default: take.mp4")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    add_model(parser)
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
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a summary as JSON; whatever else is said goes to stderr",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="say how the prompts were read, of a model that rewrites them to one",
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
        "for others, or type them while it runs",
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
        help="keep the model in fewer bits, by bitsandbytes: slower, in less memory",
    )
    add_device(parser)


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


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SRC",
        help="a checkpoint (.safetensors, .pt, .pth), a folder as it was downloaded, or the name "
        "of a model that was pulled; of several that hold the same part, the last one gives it",
    )
    parser.add_argument("out", type=Path, metavar="DST", help="the folder to make")
    parser.add_argument(
        "--lora", type=Path, metavar="FILE", help="merge this LoRA into the transformer"
    )
    stored = parser.add_mutually_exclusive_group()
    stored.add_argument(
        "--dtype",
        choices=["float32", "bfloat16"],
        help="of the stored weights (default: as they are)",
    )
    stored.add_argument(
        "--quantize",
        choices=["int8"],
        help="store the transformer and the text encoder in 8 bits, a quarter of float32; they "
        "are computed with in 16 or 32 all the same",
    )
    parser.add_argument(
        "--head-dim",
        type=_head_dim,
        metavar="N",
        help="channels of an attention head, which checkpoints do not say (default: that of the "
        "config.json beside it, or 128)",
    )
