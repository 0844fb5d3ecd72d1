"""The Python API: a film being made, steered and kept."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from longtake.app.frames import Frame
from longtake.app.snapshots import write_snapshot
from longtake.models.video.film_state import FilmState
from longtake.streaming import Applied, Event, Session, Status, StreamError, Summary

if TYPE_CHECKING:
    from longtake.app.api import Model
    from longtake.app.recording import Recording

PENDING = "pending_frames"
"""In a snapshot: frames that were made and not yet handed out."""


class Take:
    """One film being made; made by :meth:`Model.take` and :meth:`Model.restore`."""

    def __init__(
        self,
        model: Model,
        session: Session[FilmState],
        about: dict[str, Any],
        pending: list[NDArray[np.uint8]] | None = None,
        delivered: int = 0,
    ) -> None:
        self.model = model
        self._session = session
        self._about = about
        self._pending = deque(pending or [])
        self._delivered = delivered
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._recording: Recording | None = None
        self._prompt: str = about["prompt"]
        self._seen = 0

    @property
    def time(self) -> float:
        """Seconds of film handed out so far."""
        return self._delivered / self.model.rate

    @property
    def log(self) -> list[Applied]:
        """Every prompt and setting that came into force, with its chunk and time."""
        return list(self._session.progress.log)

    @property
    def about(self) -> dict[str, Any]:
        """What made the film: seed, prompts, settings, model and conditions."""
        applied = [entry.note() for entry in self.log]
        return self._about | {"applied": applied} | self.model.about

    @property
    def reads(self) -> dict[float, str]:
        """What the film's prompts were rewritten to, by the time from which on they were.

        Empty for a model that reads them as they are. What they leave open is in :attr:`scene`.
        """
        told = self._told
        read: dict[float, str] = {}
        for count, (time, _) in enumerate(told, 1):
            whole = self.model.generator.reads([text for _, text in told[:count]])
            if whole is not None:
                read[time] = whole
        return read

    @property
    def scene(self) -> str | None:
        """The whole prompt that the newest frames were made from.

        That is what :attr:`reads` says last, and what the seed drew of all that no prompt tells of.
        None for a model that reads prompts as they are, and once the take is closed.
        """
        state = self._session.state
        if state is None:
            return None
        return self.model.generator.reads([text for _, text in self._told], state.draws)

    @property
    def _told(self) -> list[tuple[float, str]]:
        first = (0.0, str(self._about["prompt"]))
        applied = [each for each in self.log if each.event.field == "prompt"]
        return [first, *((each.time, str(each.event.value)) for each in applied)]

    def prompt(self, text: str, *, at: float = 0.0, transition: int = 0) -> None:
        """Change the prompt, from the next chunk on or from the first one at or after ``at``.

        Args:
            text: the new prompt.
            at: presentation time in seconds.
            transition: chunks over which it takes over from the one before, 0 to 64; at 0 it does
                at once.

        Raises:
            StreamError: ``bad_prompt``, ``bad_setting``.
        """
        self._session.submit(Event("prompt", text, at, transition=transition))

    def set(self, field: str, value: int | str, *, at: float = 0.0) -> None:
        """Change a setting: ``steps``, ``window``, ``sink`` or ``switch``; times as in ``prompt``.

        Raises:
            StreamError: ``bad_setting``.
        """
        self._session.submit(Event(field, value, at))

    def frames(self, seconds: float) -> Iterator[Frame]:
        """Make the next seconds of film, frame by frame, exactly round(seconds * rate) of them.

        Raises:
            StreamError: the model failed; the frames before were handed out.
        """
        count = round(seconds * self.model.rate)
        self._session.extend((self._delivered + count) / self.model.rate)
        for _ in range(count):
            while not self._pending:
                media = self._session.next()
                if media is None:
                    raise StreamError("closed", "the take is closed", "begin another one")
                self._pending.extend(media.payload.numpy())
            yield self._hand_out(self._pending.popleft())

    def run(self, seconds: float) -> None:
        """Make the next seconds of film and keep them for :meth:`save`.

        Raises:
            StreamError: the model failed or the disk is full; what was made before can be saved.
        """
        recording = self._begin_recording()
        for frame in self.frames(seconds):
            recording.write(frame.pixels, frame.index, self._session.progress.log)

    def save(self, path: str | Path) -> None:
        """Write what :meth:`run` made so far as an MP4, a chapter for each prompt; then go on.

        A file of that name is kept, as ``name.1.mp4``.

        Raises:
            StreamError: nothing was run yet, or the file cannot be written.
        """
        # Only here: a film that is not written needs no PyAV.
        from longtake.app.export import save_film  # noqa: PLC0415
        from longtake.app.stored import read_take  # noqa: PLC0415

        recording = self._begin_recording()
        recording.cut()
        save_film(read_take(recording.folder), Path(path))

    def snapshot(self, path: str | Path) -> None:
        """Save everything needed to go on later: see :meth:`Model.restore`.

        Raises:
            StreamError: ``bad_output``: the file cannot be written.
        """
        session = self._session
        running = session.status is Status.RUNNING
        session.pause()
        tensors, values, progress = session.snapshot()
        while (media := session.next()) is not None:
            self._pending.extend(media.payload.numpy())
        if running:
            session.resume()
        config = self.model.generator.config
        frames = np.array(self._pending, np.uint8).reshape(-1, config.height, config.width, 3)
        note = {
            "about": self._about,
            "conditions": self.model.conditions,
            "shape": self.model.shape,
            "delivered": self._delivered,
            "progress": progress.to_json(),
            "state": values,
        }
        write_snapshot(Path(path), dict(tensors) | {PENDING: torch.from_numpy(frames)}, note)

    def summary(self) -> Summary:
        """Measurements: rate, latencies, queues."""
        return self._session.summary()

    def close(self) -> None:
        """End the take and free its memory; what was saved stays, what was not is deleted."""
        self._session.close()
        if self._recording is not None and self._folder is not None:
            with suppress(StreamError):  # a full disk: it is deleted anyway
                self._recording.close()
            self._folder.cleanup()
            self._recording = self._folder = None

    def _begin_recording(self) -> Recording:
        from longtake.app.recording import Recording  # noqa: PLC0415 (as in `save`)

        if self._recording is None:
            config, model = self.model.generator.config, self.model
            self._folder = tempfile.TemporaryDirectory(prefix="longtake-")
            folder = Path(self._folder.name)
            self._recording = Recording(
                folder, config.width, config.height, config.rate, self.about, model.folder
            )
        return self._recording

    def _hand_out(self, pixels: NDArray[np.uint8]) -> Frame:
        index, time = self._delivered, self._delivered / self.model.rate
        log = self._session.progress.log
        while self._seen < len(log) and log[self._seen].time <= time:
            event = log[self._seen].event
            if event.field == "prompt":
                self._prompt = event.value
            self._seen += 1
        self._delivered += 1
        return Frame(pixels, index, time, self._prompt)
