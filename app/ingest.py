"""A source watched in a thread of its own: its samples go to a session, the rest is told of."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from longtake.app.sampling import Gap, Resized, Sample, Sampler
from longtake.app.shots import Shot, Source
from longtake.streaming import InputFrame, Session, StreamError

# Notices that wait for somebody who wants them; a source that flickers for hours fills no memory.
_MOST_NOTICES = 100


@dataclass(frozen=True)
class Dropped:
    """So many frames that were to be looked at came faster than they could be."""

    frames: int


@dataclass(frozen=True)
class Stalled:
    """The source has sent nothing for so many seconds; it is waited for."""

    seconds: float


@dataclass(frozen=True)
class Ended:
    """There is no more to watch, and all that could be said of it was said."""


Notice = Gap | Resized | Dropped | Stalled | Ended
"""What is no picture and no failure either."""


class Feed:
    """What a session is shown of a video; any thread may show it, one at a time does.

    Args:
        sampler: chooses the frames.
        session: a live one drops its oldest input, another one lets its feeder wait.
    """

    def __init__(self, sampler: Sampler, session: Session[Any]) -> None:
        self.session = session
        self._sampler = sampler
        self._lock = threading.Lock()
        self._notices: deque[Gap | Resized] = deque(maxlen=_MOST_NOTICES)

    def push(self, shot: Shot) -> None:
        """The next frame; may wait.

        Raises:
            StreamError: the session, or its input, has ended.
        """
        with self._lock:
            for each in self._sampler.push(shot.time, shot.read, shot.duration):
                if isinstance(each, Sample):
                    self.session.feed(InputFrame(each.time, each.pixels))
                else:
                    self._notices.append(each)

    def finish(self) -> None:
        """There are no more frames; the last round is shown whole. Errors as in :meth:`push`."""
        with self._lock:
            for sample in self._sampler.finish():
                self.session.feed(InputFrame(sample.time, sample.pixels))
            self.session.end_input()

    def notices(self) -> list[Gap | Resized]:
        """Those since the last call."""
        return [self._notices.popleft() for _ in range(len(self._notices))]


class Ingest:
    """Feeds a session from a source until that has no more or :meth:`close` is called.

    Args:
        source: which it closes.
        feed: to the session.

    Attributes:
        problem: why the source broke off, or None. The last round before was watched whole.
    """

    def __init__(self, source: Source, feed: Feed) -> None:
        self.problem: StreamError | None = None
        self._source = source
        self._feed = feed
        self._closed = threading.Event()
        self._waiting_since: float | None = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="longtake-ingest", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The source's."""
        return self._source.name

    @property
    def silence(self) -> float:
        """Seconds for which the source has been waited for; 0 while a frame is handed on."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Watch no more. May be repeated; a thread that waits for a frame ends after it."""
        self._closed.set()
        self._source.close()
        self._thread.join(timeout=1.0)

    def give_up(self, problem: StreamError) -> None:
        """Wait for the source no longer: what it showed is all there is. May be repeated."""
        if self._closed.is_set():
            return
        self.problem = problem
        self._closed.set()
        self._source.close()
        # Not here: whoever calls may be the one who makes room for the last frames.
        threading.Thread(target=self._finish, name="longtake-ingest", daemon=True).start()

    def _run(self) -> None:
        with suppress(StreamError):  # of the session, which has ended: its own reader is told
            self._watch()
        self._finish()
        self._source.close()

    def _finish(self) -> None:
        with suppress(StreamError):
            self._feed.finish()
        self._feed.session.end_input()

    def _watch(self) -> None:
        """Raises what the session raises; what the source does is kept."""
        shots = self._source.shots()
        while not self._closed.is_set():
            self._waiting_since = time.monotonic()
            try:
                shot = next(shots, None)
            except StreamError as error:
                self.problem = self.problem or error
                return
            except Exception as error:
                name, kind = self._source.name, type(error).__name__
                problem = f"{name} cannot be watched any more ({kind}: {error})"
                lost = StreamError("source_lost", problem, "try it once more")
                self.problem = self.problem or lost
                return
            finally:
                self._waiting_since = None
            if shot is None:
                return
            self._feed.push(shot)
