"""The Python API for watching: open a captioner, watch a video, ask about it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from longtake.app.catalogue import find_captioner
from longtake.app.closing import Closing
from longtake.app.devices import choose_device, choose_dtype
from longtake.app.ingest import Dropped, Ended, Feed, Ingest, Notice, Stalled
from longtake.app.sampling import Pixels, Sampler
from longtake.app.shots import Shot, Source
from longtake.app.sources import open_source
from longtake.app.transcript import Line, LineBuilder
from longtake.models.vlm.captioner import Captioner, WatchState
from longtake.models.vlm.load import load_captioner
from longtake.models.vlm.memory import Quantization
from longtake.models.vlm.words import Words
from longtake.streaming import Engine, Event, Media, Session, StreamError, Summary
from longtake.streaming.engine import OUTBOX_ITEMS
from longtake.weights import CAPTIONER

# Rounds that wait to be watched: more would only make what is said of a live source later.
_ROUNDS_WAITING = 2
# Words are few; where the thread that feeds frames is the one that reads, all of them may wait.
_FED_OUTBOX = 1_000_000
# Seconds until a source that sends nothing is told of, and until it is given up.
_STALL_SECONDS = 5.0
_LOST_SECONDS = 30.0
# How often notices are looked for while nothing is said, in seconds.
_LOOK_SECONDS = 0.2


def open_witness(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    quantization: Quantization | None = None,
    beside: Engine | None = None,
    **settings: Any,  # noqa: ANN401
) -> Witness:
    """Load a captioner.

    It is not :func:`.open_model` that does, because what that gives is steered and shot, and this
    is asked and listened to: a function that gave one or the other would give neither its type.

    Args:
        folder: a Qwen2.5-VL in transformers' layout, its name in ``models``, or that on the
            Hugging Face hub; the bundled captioner where it is left out.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``auto``, ``bf16`` or ``fp32``.
        quantization: ``8bit`` or ``4bit``, by bitsandbytes; None for neither.
        beside: a started engine to take turns on with what else it runs, a generator's say; None
            for one of its own. Whoever started it stops it.
        settings: fields of :class:`~longtake.models.vlm.settings.Settings` in place of the
            folder's: ``fps``, ``vision_seconds`` and others.

    Raises:
        StreamError: the folder does not fit, a setting does not, or there is no such device.
    """
    if folder is None and not CAPTIONER.is_dir():
        hint = "give a Qwen2.5-VL, Qwen/Qwen2.5-VL-3B-Instruct for example"
        raise StreamError("no_model", "no captioner comes with this version", hint)
    place = str(CAPTIONER if folder is None else find_captioner(folder))
    where = choose_device(device)
    engine = beside or Engine()
    if beside is None:
        engine.start()
    try:
        number = choose_dtype(dtype, where)
        load = partial(load_captioner, place, where, number, quantization, settings)
        captioner = engine.call(load)
        return Witness(captioner, engine, shared=beside is not None)
    except BaseException:
        if beside is None:
            engine.stop()
        raise


class Witness(Closing):
    """A loaded captioner and its worker; any number of watches share it.

    Args:
        captioner: loaded.
        engine: started; the captioner was loaded in its worker.
        shared: whether somebody else stops the engine.
    """

    def __init__(self, captioner: Captioner, engine: Engine, *, shared: bool = False) -> None:
        self.captioner = captioner
        self._engine = engine
        # A worker still inside torch when the interpreter ends would abort the process.
        self._stop = weakref.finalize(self, (lambda: None) if shared else engine.stop)

    def watch(
        self,
        source: str | Path | Source | None = None,
        *,
        prompt: str = "",
        seed: int = 0,
        live: bool = False,
    ) -> Watch:
        """Begin to watch.

        Args:
            source: a file, ``webcam``, ``webcam:1``, a device's path, an http address or what
                :func:`.open_source` gave, which is closed with the watch; None where frames are
                given by :meth:`Watch.feed`.
            prompt: a standing instruction, in force for good.
            seed: of the words' sampling.
            live: whether frames that are fed replace those that wait, instead of waiting. A source
                knows by itself.

        Raises:
            StreamError: the source cannot be watched, or the instruction does not fit.
        """
        opened = open_source(source) if isinstance(source, str | Path) else source
        frames = self.captioner.settings.round_frames
        try:
            session = self._engine.open(
                self.captioner,
                prompt,
                seed,
                outbox=OUTBOX_ITEMS if opened is not None else _FED_OUTBOX,
                live_input=live if opened is None else opened.live,
                input_capacity=_ROUNDS_WAITING * frames,
                input_batch=frames,
            )
        except BaseException:
            if opened is not None:
                opened.close()
            raise
        return Watch(self, session, Sampler(self.captioner.settings.fps, frames), opened)

    def close(self) -> None:
        """End every watch and the worker, unless that is shared."""
        self._stop()


class Watch(Closing):
    """One video being watched; made by :meth:`Witness.watch`.

    Iterate over it for whole lines, or over :meth:`events` for words as they come.

    Attributes:
        witness: who watches.
        question: that the words given last answer; empty where they are a caption.
    """

    def __init__(
        self,
        witness: Witness,
        session: Session[WatchState],
        sampler: Sampler,
        source: Source | None,
    ) -> None:
        # Its worker ends with the last reference to it.
        self.witness = witness
        self.question = ""
        self._session = session
        self._feed = Feed(sampler, session)
        self._ingest = Ingest(source, self._feed) if source is not None else None
        self._builder = LineBuilder()
        self._stop = threading.Event()
        self._dropped = 0
        self._stalled = False

    @property
    def time(self) -> float:
        """Seconds of video spoken of so far."""
        return self._session.time

    def feed(self, pixels: Pixels, time: float) -> None:
        """Show a frame, where there is no source; what is to be looked at is chosen by its time.

        Waits while enough others wait, unless the watch is live.

        Args:
            pixels: uint8 RGB, [height, width, 3].
            time: its presentation time in seconds, later than that of the frame before.

        Raises:
            StreamError: the watch has ended.
        """
        self._feed.push(Shot(time, lambda: pixels))

    def end(self) -> None:
        """No more frames are fed: iterating ends after what there is to say."""
        self._feed.finish()

    def ask(self, question: str, *, at: float = 0.0) -> None:
        """Ask; answered in the next round, or in the first one at or after ``at``.

        Args:
            question: of several each has a round of its own.
            at: presentation time in seconds.

        Raises:
            StreamError: ``bad_prompt``; or the watch has ended.
        """
        self._session.submit(Event("ask", question, at))

    def prompt(self, instruction: str, *, at: float = 0.0) -> None:
        """Change the standing instruction; times and errors as in :meth:`ask`."""
        self._session.submit(Event("prompt", instruction, at))

    def events(self) -> Iterator[Words | Line | Notice]:
        """All that happens, as it does: words, each line once it is whole, notices.

        Raises:
            StreamError: the model failed or the source broke off; what was said before is given
                first.
        """
        problem: StreamError | None = None
        while True:
            if over := self._stop.is_set():
                self._session.pause()
            over = over or self._session.inputs.ended
            try:
                media = self._session.next(None if over else _LOOK_SECONDS)
            except StreamError as error:
                problem = error
                break
            yield from self._notices()
            if media is not None:
                yield from self._said(media)
            elif over or self._session.state is None:
                break
        if line := self.unfinished():
            yield line
        if problem is None and self._ingest is not None:
            problem = self._ingest.problem
        if problem is not None:
            raise problem
        yield Ended()

    def __iter__(self) -> Iterator[Line]:
        return (event for event in self.events() if isinstance(event, Line))

    def stop(self) -> None:
        """Say to the end what is being said, and no more: :meth:`events` ends then.

        Only sets a flag, so that a signal handler may call it too.
        """
        self._stop.set()

    def unfinished(self) -> Line | None:
        """The line that was being said when one stopped listening; None where there is none."""
        return self._builder.end()

    def summary(self) -> Summary:
        """Measurements: rate, latencies, frames dropped."""
        return self._session.summary()

    def close(self) -> None:
        """Watch no more, and free the memory. May be repeated."""
        self._session.close()
        if self._ingest is not None:
            self._ingest.close()

    def _said(self, media: Media) -> Iterator[Words | Line]:
        words: Words = media.payload
        self.question = self._asked(media.chunk) if words.kind == "answer" else ""
        yield words
        if line := self._builder.add(words, self.question):
            yield line

    def _asked(self, chunk: int) -> str:
        """The question that a round answers: the last that applied to it or before."""
        for entry in reversed(self._session.progress.log):
            if entry.event.field == "ask" and entry.chunk <= chunk:
                return str(entry.event.value)
        return ""

    def _notices(self) -> Iterator[Notice]:
        before, self._dropped = self._dropped, self._session.inputs.dropped
        if self._dropped > before:
            yield Dropped(self._dropped - before)
        yield from self._feed.notices()
        if self._ingest is None:
            return
        silence = self._ingest.silence
        if silence > _LOST_SECONDS and not self._session.inputs.ended:
            problem = f"{self._ingest.name} has sent nothing for {silence:.0f} s"
            self._ingest.give_up(StreamError("stalled", problem, "see whether it still runs"))
        elif silence > _STALL_SECONDS and not self._stalled:
            yield Stalled(silence)
        self._stalled = silence > _STALL_SECONDS
