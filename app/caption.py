"""``caption``: what is to be seen in a video, said while it is watched."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.app.captions_view import CaptionsView
from longtake.app.cli import EXIT_INTERRUPTED
from longtake.app.cues import Cue, from_arguments
from longtake.app.ingest import Ended
from longtake.app.outputs import check_output
from longtake.app.shots import Source
from longtake.app.sources import open_source
from longtake.app.stopping import stop_request
from longtake.app.subtitles import FILM, add_subtitles
from longtake.app.transcript import SUFFIXES, Line, TranscriptWriter, read_transcript
from longtake.app.typed import typed_lines
from longtake.app.witness import Watch, open_witness
from longtake.models.vlm.words import Words
from longtake.streaming import StreamError


def caption(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        StreamError: something in the options does not fit, or the source broke off; what was said
            before is in the transcript.
    """
    questions = _questions(options.ask)
    # What cannot be watched is said before a model is loaded, which may take a minute.
    source = open_source(options.source)
    try:
        transcript = _transcript_path(options.out, source)
        given = {"fps": options.fps, "vision_seconds": options.memory}
        settings = {key: value for key, value in given.items() if value is not None}
        with open_witness(
            options.model,
            device=options.device,
            dtype=options.dtype,
            quantization=options.quantization,
            **settings,
        ) as witness:
            if source.live:
                # Meanwhile it went on; what waits to be read is from then.
                source.close()
                source = open_source(options.source)
            watch = witness.watch(source, prompt=options.prompt, seed=options.seed)
            return _listen(watch, source, questions, transcript, options.out)
    finally:
        source.close()


def _questions(asked: list[str]) -> list[Cue]:
    questions = from_arguments(asked)
    if any(question.transition for question in questions):
        raise StreamError("bad_prompt", "a question takes no ~ chunks", "leave that out")
    return questions


def _transcript_path(out: Path | None, source: Source) -> Path | None:
    """Where lines go as they come; of a film with subtitles, a file beside it."""
    if out is None:
        return None
    check_output(out, (*SUFFIXES, *FILM))
    if out.suffix.lower() not in FILM:
        return out
    if not Path(source.name).is_file():
        problem = f"{source.name} is not kept, so there is no film to put subtitles into"
        raise StreamError("bad_output", problem, f"write {out.with_suffix('.vtt')} instead")
    if out.exists() and out.samefile(source.name):
        problem = f"{out} is the film that is watched"
        raise StreamError("bad_output", problem, "choose another name")
    return out.with_suffix(SUFFIXES[0])


def _listen(
    watch: Watch, source: Source, questions: list[Cue], transcript: Path | None, out: Path | None
) -> int:
    for question in questions:
        watch.ask(question.prompt, at=question.at)
    writer = None if transcript is None else TranscriptWriter(transcript)
    if writer is not None and writer.kept:
        print(f"{transcript} was there already; it is now {writer.kept}", file=sys.stderr)
    view = CaptionsView(sys.stdout, source.duration)
    began = time.monotonic()
    with stop_request(watch.stop) as stop, _typed_questions(watch, view):
        try:
            _follow(watch, view, writer)
        except StreamError as error:
            if writer is None:
                raise
            kept = f"{writer.lines} lines are in {writer.path}"
            raise StreamError(error.code, f"{error.message}; {kept}", error.hint) from None
        finally:
            view.end()
            if writer is not None:
                # After a second Ctrl-C there may be one.
                if line := watch.unfinished():
                    writer.write(line)
                writer.close()
    spent = max(time.monotonic() - began, 1e-9)
    watched = f"{watch.time:g} s watched"
    if not source.live:
        watched += f" in {spent:.0f} s"
    print(watched if writer is None else f"{writer.path}: {writer.lines} lines, {watched}")
    if writer is not None and out is not None and out != writer.path:
        _write_film(source, writer, out)
    return EXIT_INTERRUPTED if stop.is_set() else 0


@contextmanager
def _typed_questions(watch: Watch, view: CaptionsView) -> Iterator[None]:
    """What is typed meanwhile is asked, where somebody sits at the terminal."""

    def ask(question: str) -> None:
        try:
            watch.ask(question)
            view.tell(f"asked: {question}")
        except StreamError as error:
            view.tell(str(error))

    # Without one that was left open there is no stdin at all.
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        yield
        return
    with typed_lines(sys.stdin.fileno(), view.typing, ask) as reads:
        if reads:
            view.tell("type a question and press Enter; Ctrl-C ends")
        yield


def _follow(watch: Watch, view: CaptionsView, writer: TranscriptWriter | None) -> None:
    """Show and write what is said until there is no more."""
    for event in watch.events():
        match event:
            case Words():
                view.words(event, watch.question)
                if event.final:
                    view.progress(watch.time)
            case Line():
                view.line(event)
                if writer is not None:
                    writer.write(event)
            case Ended():
                pass
            case _:
                view.notice(event)


def _write_film(source: Source, writer: TranscriptWriter, out: Path) -> None:
    kept = add_subtitles(Path(source.name), read_transcript(writer.path), out)
    if kept:
        print(f"{out} was there already; it is now {kept}", file=sys.stderr)
    print(f"{out}: the film with its captions as subtitles")
