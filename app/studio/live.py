"""One film as it is made: fetched from the engine, coded and recorded in a thread of its own."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake.app import wire
from longtake.app.api import Model
from longtake.app.background import BackgroundRecording
from longtake.app.recording import Recording
from longtake.app.resident import resident_bytes
from longtake.app.start import Start
from longtake.app.studio.failures import failure
from longtake.app.studio.outgoing import Item, Outgoing
from longtake.app.studio.watching import LiveWatch
from longtake.app.takes import TakesFolder
from longtake.models.video.film_state import FilmState
from longtake.streaming import (
    Applied,
    Boundary,
    Event,
    Media,
    Session,
    StreamError,
    WallClock,
)

JPEG_QUALITY = 90
# Changes that may wait for their chunk. Those without a time of their own are as few as can apply
# to one; each time of a film adds as many.
MAX_WAITING = 4096
# Seconds after which a recording that failed is tried anew.
RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Requested(Event):
    """An event that a client asked for.

    Attributes:
        request: its ``id``.
    """

    request: int = 0


@dataclass(frozen=True)
class Opening:
    """What a take begins with.

    Attributes:
        request: the ``id`` of the request that begins it.
        number: the take's, in its visit.
        prompt: in force from the first frame.
        seed: of the noise.
        settings: by name; the model's own for those left out.
        start: the name of a file that the client sent, with its first frames; None without.
    """

    request: int
    number: int
    prompt: str
    seed: int
    settings: Mapping[str, int | str]
    start: str | None = None


class LiveTake:
    """A film being made at the speed at which it is shown.

    Its thread waits for the engine, codes frames and hands them to ``post``; the engine makes no
    more of them than :attr:`outgoing` has credit for, so that no queue on the way can grow.

    Args:
        model: makes it.
        takes: where it is recorded.
        opening: what it begins with.
        ahead: as in :class:`.Outgoing`.
        post: called in the take's thread with whatever is for :attr:`outgoing`.
        start: its first frames; made from the prompt where left out.

    Attributes:
        opening: what it began with.
        paused: whether the client paused it.
        outgoing: for the client; not to be used in the take's thread.
        recording: of the film.

    Raises:
        StreamError: the prompt or a setting does not fit, or the take cannot be recorded.
    """

    def __init__(
        self,
        model: Model,
        takes: TakesFolder,
        opening: Opening,
        ahead: int,
        post: Callable[[LiveTake, Item], None],
        start: Start | None = None,
    ) -> None:
        self.opening = opening
        self.outgoing = Outgoing(ahead)
        self._model = model
        self._post = post
        self.paused = False
        self._failed_at: float | None = None
        self._watch: LiveWatch | None = None
        first = [
            Requested(field, value, request=opening.request)
            for field, value in opening.settings.items()
        ]
        self._session: Session[FilmState] = model.begin(
            opening.prompt, opening.seed, first, WallClock(), start
        )
        try:
            # The first chunk is made while the disk is seen to.
            self.grant()
            self.recording = BackgroundRecording(self._record(takes, start))
        except BaseException:
            self._session.close()
            raise
        self._thread = threading.Thread(target=self._run, name="longtake-take", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing more will be made."""
        return self._session.state is None

    def submit(self, *events: Requested) -> Boundary:
        """Change prompt or settings at one chunk; see :meth:`.Session.submit`.

        Raises:
            StreamError: one does not fit, or too many wait, and then none is submitted; or the
                take has ended.
        """
        if self._session.summary().controls + len(events) > MAX_WAITING:
            problem = f"{MAX_WAITING} changes wait for their chunk"
            raise StreamError("too_fast", problem, "wait until some of them are in force")
        return self._session.submit(*events)

    def pause(self) -> Boundary:
        """Stop before the chunk that is returned."""
        self.paused = True
        return self._session.pause()

    def resume(self) -> Boundary:
        """Go on with the chunk that is returned."""
        self.paused = False
        return self._session.resume()

    def wanted(self) -> tuple[str, dict[str, int | str]]:
        """The prompt and settings in force, or due at the next chunk; without the model's own.

        Where the model makes one prompt of all that a film was told, it is that one.
        """
        wanted = self._session.wanted()
        settings = {event.field: event.value for event in wanted if event.field != "prompt"}
        prompts = self._told(wanted)
        return self._read(prompts) or prompts[-1], settings

    def grant(self) -> None:
        """Let the engine make what there is credit for."""
        self._session.extend((self.outgoing.last_allowed + 1) / self._model.rate)

    def metrics(self) -> wire.Metrics:
        """Measurements."""
        summary, state = self._session.summary(), self._session.state
        return wire.Metrics(
            chunks=summary.chunks,
            frames=summary.units,
            fps=summary.rate,
            speed=self._session.clock.speed,
            first_frame=summary.first_media,
            chunk_p50=summary.chunk_p50,
            chunk_p95=summary.chunk_p95,
            reaction=summary.reaction,
            reaction_max=summary.reaction_max,
            unsent=self.outgoing.unsent,
            waiting=summary.controls,
            cache=state.cache.bytes if state else 0,
            memory=resident_bytes(),
        )

    def show_to(self, watch: LiveWatch) -> None:
        """Show every frame from now on to a watch too, which ends with the take."""
        self._watch = watch
        if self.ended:
            self._end_watch()

    def close(self) -> None:
        """End the take; it is on disk when this returns. May be repeated."""
        self._session.close()
        self._thread.join()

    def _record(self, takes: TakesFolder, start: Start | None) -> Recording:
        config, opening = self._model.generator.config, self.opening
        about: dict[str, Any] = {"seed": opening.seed, "prompt": opening.prompt, **opening.settings}
        about |= {"start": start.receipt} if start else {}
        about |= self._model.about
        return takes.begin(config.width, config.height, config.rate, about, self._model.folder)

    def _run(self) -> None:
        """The take's thread."""
        try:
            self._post(self, self._first_receipt())
            told = 0
            for media in self._session.follow():
                log = self._session.progress.log
                due = [entry for entry in log[told:] if entry.chunk <= media.chunk]
                told += len(due)
                for receipt in self._receipts(due, log):
                    self._post(self, receipt)
                self._show(media, log)
        except Exception as error:
            self._post(self, failure(error))
            self._session.close()
        finally:
            self._end_watch()
            with suppress(StreamError):  # told already
                self.recording.close()

    def _show(self, media: Media, log: Sequence[Applied]) -> None:
        watch = self._watch
        for index, pixels in enumerate(media.payload.numpy(), media.start):
            self.recording.write(pixels, index, log)
            if watch is not None:
                watch.feed(pixels, index / self._model.rate)
            frame = wire.EncodedFrame(
                codec=wire.Codec.JPEG,
                take=self.opening.number,
                chunk=media.chunk,
                index=index,
                pts=round(index * 1_000_000 / self._model.rate),
                payload=_jpeg(pixels),
            )
            self._post(self, frame)
        self._see_to_recording()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end("the film has ended", "watch the next one")

    def _see_to_recording(self) -> None:
        """Tell once that nothing is recorded any more; try again now and then."""
        error, now = self.recording.error, time.monotonic()
        if error is None:
            return
        if self._failed_at is None:
            self._post(self, wire.Notice.of(error))
        elif now < self._failed_at + RETRY_SECONDS:
            return
        else:
            self.recording.resume()
        self._failed_at = now

    def _first_receipt(self) -> wire.Applied:
        opening = self.opening
        settings = {**asdict(self._model.generator.defaults), **opening.settings}
        return wire.Applied(
            id=opening.request,
            take=opening.number,
            chunk=0,
            time=0.0,
            prompt=opening.prompt,
            read=self._read([opening.prompt]),
            settings=wire.Settings(**settings),
        )

    def _told(self, events: Iterable[Event]) -> list[str]:
        """The opening prompt, and those of these events."""
        later = (event.value for event in events if event.field == "prompt")
        return [self.opening.prompt, *later]

    def _read(self, prompts: Sequence[str]) -> str | None:
        """What the model makes of all prompts so far."""
        whole = self._model.generator.reads(prompts)
        return None if whole is None else whole[: wire.MAX_PROMPT]

    def _receipts(self, due: Sequence[Applied], log: Sequence[Applied]) -> list[wire.Applied]:
        """One for each request and chunk; the opening's own settings are in the first receipt."""
        read: dict[int, str | None] = {}
        for chunk in {entry.chunk for entry in due if entry.event.field == "prompt"}:
            so_far = (each.event for each in log if each.chunk <= chunk)
            read[chunk] = self._read(self._told(so_far))
        grouped: dict[tuple[int, int, float], dict[str, Any]] = {}
        for entry in due:
            event = entry.event
            assert isinstance(event, Requested)
            if event.request != self.opening.request:
                key = (event.request, entry.chunk, entry.time)
                grouped.setdefault(key, {})[event.field] = event.value
        return [
            wire.Applied(
                id=request,
                take=self.opening.number,
                chunk=chunk,
                time=at,
                read=read.get(chunk) if "prompt" in values else None,
                prompt=values.pop("prompt", None),
                settings=wire.Settings(**values) if values else None,
            )
            for (request, chunk, at), values in grouped.items()
        ]


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    coded = io.BytesIO()
    Image.fromarray(pixels).save(coded, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return coded.getvalue()
