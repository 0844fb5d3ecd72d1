"""What a visitor shows to the captioner, and what that says: threads of their own, few and bounded.

Frames are decoded, and words waited for, off the event loop. Nothing shown is stored or logged.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from PIL import Image

from longtake.app import wire
from longtake.app.ingest import Dropped, Ended, Notice, Stalled
from longtake.app.sampling import Gap, Pixels, Resized
from longtake.app.witness import Watch, Witness
from longtake.models.vlm.frames import MAX_ASPECT
from longtake.models.vlm.words import Words
from longtake.streaming import StreamError

# Coded frames that may wait to be decoded; of more, the oldest is dropped.
FRAMES_WAITING = 8
# Seconds without a frame after which a client is told of it, and after which the watch ends.
STALL_SECONDS = 5.0
LOST_SECONDS = 30.0

ALL_SAID = "all that was shown is spoken of"

Post = Callable[[wire.ServerMessage], None]


class Captioners:
    """The captioner that all visitors share, loaded when the first of them watches.

    Args:
        load: gives it; called again where it failed before.
    """

    def __init__(self, load: Callable[[], Witness]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loaded: Witness | None = None

    def get(self) -> Witness:
        """The captioner; waits while it is loaded.

        Raises:
            StreamError: it cannot be loaded.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


class LiveWatch:
    """A video that is watched for a client; every method may be called from any thread.

    Args:
        number: in its visit.
        watch: begun, live, without a source; it is closed with this.
        post: called in the watch's threads with what is for the client.
    """

    def __init__(self, number: int, watch: Watch, post: Post) -> None:
        self.number = number
        self._watch = watch
        self._post = post
        # A frame that comes as the watch ends is fed before or not at all.
        self._feeding = threading.Lock()
        # Why no more frames are taken; None while they are.
        self._ending: StreamError | None = None
        self._closed = False
        self._listener = _start(self._listen)

    def feed(self, pixels: Pixels, time: float) -> None:
        """Show it a frame, as in :meth:`.Watch.feed`; never waits, and never raises."""
        with self._feeding:
            if self._ending is not None:
                return
            try:
                self._watch.feed(pixels, time)
            except StreamError:
                pass  # the watch has ended: whoever listens to it tells why
            except Exception:
                logging.getLogger(__name__).exception("a watch failed")
                self._watch.close()

    def ask(self, question: str) -> None:
        """Ask about what is seen; see :meth:`.Watch.ask`."""
        self._watch.ask(question)

    def end(self, message: str = ALL_SAID, hint: str = "") -> None:
        """Take no more frames; what was shown is spoken of, and then the client is told."""
        with self._feeding, suppress(StreamError):
            if self._ending is None:
                self._ending = StreamError("ended", message, hint)
                self._watch.end()

    def close(self) -> None:
        """End at once, and say nothing any more. May be repeated."""
        self._closed = True
        self.end()
        self._watch.close()
        self._listener.join()

    def _listen(self) -> None:
        """The thread of the words."""
        try:
            for event in self._watch.events():
                if isinstance(event, Words):
                    self._say_words(event)
                elif isinstance(event, Notice):
                    self._tell(event)
        except StreamError as error:
            self._say("failed", error.message, error.hint)
        except Exception as error:
            logging.getLogger(__name__).exception("a watch failed")
            self._say("failed", f"the watch failed with {type(error).__name__}", "begin again")
        finally:
            self._watch.close()
            self.end()

    def _say_words(self, words: Words) -> None:
        if self._closed:
            return
        self._post(
            wire.Words(
                watch=self.number,
                kind=words.kind,
                start=words.start,
                end=words.end,
                text=words.text[: wire.MAX_SENTENCE],
                final=words.final,
                question=self._watch.question,
            )
        )

    def _tell(self, notice: Notice) -> None:
        match notice:
            case Dropped(frames):
                message = f"the captioner was too slow for {frames} frames"
                self._say("dropped", message, "show fewer, or expect less", frames)
            case Gap(start, stop):
                # A film may be watched from its middle on.
                if start:
                    self._say("gap", f"nothing was shown from {start:.0f} s to {stop:.0f} s")
            case Resized(time=at, width=width, height=height):
                self._say("resized", f"from {at:.0f} s on the picture is {width}x{height}")
            case Stalled(seconds):
                self._say("stalled", f"no frame has come for {seconds:.0f} s", "show more")
            case Ended():
                why = self._ending
                message, hint = (why.message, why.hint) if why else ("the watch has ended", "")
                self._say("ended", message, hint)

    def _say(self, what: str, message: str, hint: str = "", frames: int = 0) -> None:
        if self._closed:
            return
        fields = {"watch": self.number, "what": what, "frames": frames}
        texts = {
            key: text.encode(errors="replace").decode()[: wire.MAX_SENTENCE]
            for key, text in (("message", message), ("hint", hint))
        }
        self._post(wire.Watching.model_validate(fields | texts))


class ClientWatch(LiveWatch):
    """A video that a client shows frame by frame, coded; arguments as of :class:`LiveWatch`."""

    def __init__(self, number: int, watch: Watch, post: Post) -> None:
        self._frames: deque[wire.ShownFrame] = deque()
        self._left_out = 0
        self._refusing = False
        self._changed = threading.Condition()
        # What to tell once the frames that wait are fed; None while more may come.
        self._over: tuple[str, str] | None = None
        super().__init__(number, watch, post)
        self._looker = _start(self._look)

    def show(self, frame: wire.ShownFrame) -> None:
        """Take a frame; never waits."""
        with self._changed:
            if len(self._frames) == FRAMES_WAITING:
                self._frames.popleft()
                self._left_out += 1
            self._frames.append(frame)
            self._changed.notify_all()

    def end(self, message: str = ALL_SAID, hint: str = "") -> None:
        """As in :meth:`LiveWatch.end`."""
        with self._changed:
            self._over = self._over or (message, hint)
            self._changed.notify_all()

    def close(self) -> None:
        """As in :meth:`LiveWatch.close`."""
        super().close()
        self._looker.join()

    def _look(self) -> None:
        """The thread of the frames."""
        while (frame := self._next()) is not None:
            try:
                pixels = decode(frame.payload)
            except StreamError as error:
                # Of several bad frames in a row the first is told of.
                if not self._refusing:
                    self._say("refused", error.message, error.hint)
                self._refusing = True
                continue
            self._refusing = False
            self.feed(pixels, frame.pts / 1_000_000)
        assert self._over is not None
        super().end(*self._over)

    def _next(self) -> wire.ShownFrame | None:
        """The next frame, waited for; None at the end."""
        began, told = time.monotonic(), False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._over, STALL_SECONDS)
                left_out, self._left_out = self._left_out, 0
                frame = self._frames.popleft() if self._frames else None
            if left_out:
                self._tell(Dropped(left_out))
            if frame or self._over:
                return frame
            silence = time.monotonic() - began
            if silence >= LOST_SECONDS:
                self.end(f"nothing was shown for {LOST_SECONDS:.0f} s", "begin to watch again")
            elif not told:
                self._tell(Stalled(silence))
                told = True


def _start(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="longtake-watch", daemon=True)
    thread.start()
    return thread


def decode(payload: bytes) -> Pixels:
    """A shown picture as uint8 RGB, [height, width, 3].

    Raises:
        StreamError: ``bad_frame``: it is no JPEG, too large or absurdly long.
    """
    try:
        with Image.open(io.BytesIO(payload), formats=("JPEG",)) as image:
            width, height = image.size
            too_many = width * height > wire.MAX_SHOWN_PIXELS
            if not too_many and max(width, height) <= MAX_ASPECT * min(width, height):
                return np.asarray(image.convert("RGB"))
    except Exception:  # what Pillow raises of hostile bytes is of no one family
        problem = "a frame is no JPEG that can be decoded"
        raise StreamError("bad_frame", problem, "send a whole one") from None
    hint = f"keep it to {wire.MAX_SHOWN_PIXELS:,} pixels, its sides within {MAX_ASPECT} to 1"
    raise StreamError("bad_frame", f"a frame has {width}x{height} pixels", hint)
