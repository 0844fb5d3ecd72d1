"""``generate``: a film from prompts and their times."""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from itertools import pairwise

from tqdm import tqdm

from longtake.app.api import Model, open_model
from longtake.app.cli import EXIT_INTERRUPTED
from longtake.app.cues import Cue, check_order, from_arguments, from_script
from longtake.app.model_options import model_arguments
from longtake.app.mp4 import Mp4Writer
from longtake.app.outputs import check_output
from longtake.app.progress import Progress
from longtake.app.resident import peak_bytes
from longtake.app.stopping import stop_request
from longtake.app.take import Take
from longtake.streaming import StreamError

MAX_SECONDS = 24 * 3600
PROMPT_COLUMNS = 40


def generate(options: argparse.Namespace, began: float) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.
        began: when the command did, by ``time.perf_counter``; importing torch is part of loading.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        StreamError: something in the options does not fit; nothing is left behind.
    """
    seconds = _check_seconds(options.seconds)
    if options.script is None:
        cues = from_arguments(options.prompt)
    else:
        cues = from_script(options.script, _check_seconds(options.every))
    check_order(cues, seconds)
    check_output(options.out)
    with open_model(**model_arguments(options)) as model:
        loaded = time.perf_counter() - began
        take = _begin(model, cues, options)
        _remark(model, cues)
        return _film(take, seconds, loaded, options)


def _check_seconds(seconds: float) -> float:
    if not 0 < seconds <= MAX_SECONDS:
        problem = f"a length of {seconds:g} s cannot be made"
        raise StreamError("bad_length", problem, f"use more than 0 and at most {MAX_SECONDS} s")
    return seconds


def _begin(model: Model, cues: list[Cue], options: argparse.Namespace) -> Take:
    steps = model.affordable_steps() if options.steps == "auto" else options.steps
    given = {} if steps is None else {"steps": steps}
    take = model.take(
        cues[0].prompt, seed=options.seed, start=options.start, switch=options.switch, **given
    )
    for cue in cues[1:]:
        take.prompt(cue.prompt, at=cue.at, transition=cue.transition)
    return take


def _remark(model: Model, cues: list[Cue]) -> None:
    """Say what of the prompts the model passes over."""
    for cue in cues:
        if remark := model.remark(cue.prompt):
            print(remark, file=sys.stderr)
    if model.generator.config.prompts == 1:
        for at in sorted({cue.at for cue, later in pairwise(cues) if cue.at == later.at}):
            newest = f"this model reads the newest prompt alone: of those at {at:g} s the last one"
            print(newest, file=sys.stderr)


def _film(take: Take, seconds: float, loaded: float, options: argparse.Namespace) -> int:
    """Write the film as it is made; however it ends, the file is left playable."""
    model = take.model
    progress = Progress(time.perf_counter(), model.generator.spec.chunk_units)
    writer: Mp4Writer | None = None
    failure: StreamError | None = None
    total = round(seconds * model.rate)
    try:
        with stop_request() as stop, tqdm(total=total, unit=" frames", disable=None) as bar:
            for frame in take.frames(seconds):
                if writer is None:
                    writer = _open_writer(take, options)
                writer.write(frame.pixels, frame.prompt)
                progress.frame(frame)
                bar.set_postfix_str(f"{progress.fps:.1f} FPS, {_shortened(frame.prompt)}", False)
                bar.update()
                if stop.is_set():
                    break
    except StreamError as error:
        failure = error
    fps = progress.fps
    if writer is None:
        raise failure or StreamError("bad_length", "the film has no frame", "make it longer")
    writer.close()
    if failure is not None:
        if not progress.frames:
            raise failure
        made = f"{progress.frames} frames are in {writer.path}"
        raise StreamError(failure.code, f"{failure.message}; {made}", failure.hint)
    _report(take, writer, progress, fps, loaded, options)
    return EXIT_INTERRUPTED if stop.is_set() else 0


def _open_writer(take: Take, options: argparse.Namespace) -> Mp4Writer:
    config = take.model.generator.config
    about = take.about
    if options.no_metadata:
        about = {key: about[key] for key in about.keys() - {"prompt", "applied"}}
    writer = Mp4Writer(
        options.out,
        config.width,
        config.height,
        config.rate,
        about,
        with_prompts=not options.no_metadata,
    )
    if writer.kept:
        print(f"{options.out} was there already; it is now {writer.kept}", file=sys.stderr)
    return writer


def _report(
    take: Take,
    writer: Mp4Writer,
    progress: Progress,
    fps: float,
    loaded: float,
    options: argparse.Namespace,
) -> None:
    model = take.model
    # A program that reads the summary gets nothing else to read.
    say = partial(print, file=sys.stderr if options.json else sys.stdout)
    length = progress.frames / model.rate
    size = f"{progress.frames} frames, {length:g} s"
    say(f"{writer.path}: {size}, made at {fps:.1f} FPS (it plays at {model.rate})")
    if 0 < fps < model.rate:
        say("this machine makes frames more slowly than they play; --steps 2, or auto, is faster")
    if options.verbose:
        whole = None
        for at, whole in take.reads.items():
            say(f"from {at:g} s on the prompt was read as: {whole}")
        if take.scene != whole:
            say(f"with what it leaves open, drawn by the seed, that is: {take.scene}")
    if options.json:
        summary = {
            "frames": progress.frames,
            "seconds": length,
            "fps": round(fps, 2),
            "first_frame_s": round(progress.first_frame, 3),
            "switch_s": round(take.summary().reaction_max, 3) or None,
            "load_s": round(loaded, 3),
            "peak_memory_mb": round(peak_bytes() / 2**20, 1),
            "seed": options.seed,
            "model": str(model.folder),
            "sha256": progress.digest.hexdigest(),
            "out": str(writer.path),
            "conditions": model.conditions,
        }
        print(json.dumps(summary))


def _shortened(prompt: str) -> str:
    return prompt if len(prompt) <= PROMPT_COLUMNS else prompt[: PROMPT_COLUMNS - 1] + "…"
