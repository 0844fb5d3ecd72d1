"""What a client holds of the take on the server: frames to be shown, receipts, measurements."""

from __future__ import annotations

import io
import time
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from longtake.app.frames import Frame
from longtake.app.wire import Applied, Codec, EncodedFrame, FrameId, Metrics, Ready
from longtake.app.wire_faults import broken
from longtake.streaming import StreamError

FORMATS = {Codec.JPEG: "JPEG", Codec.WEBP: "WEBP"}


@dataclass(frozen=True)
class Receipt:
    """A prompt came into force.

    Attributes:
        prompt: the text.
        take: the number of its take.
        chunk: the first one made under it.
        time: that chunk's presentation time in seconds.
        read: the whole prompt that the model was given for the film's prompts so far; None where
            it reads them as they are.
        milliseconds: from sending the prompt to handing out the first frame made under it; None
            until then.
    """

    prompt: str
    take: int
    chunk: int
    time: float
    read: str | None = None
    milliseconds: float | None = None


class Inbox:
    """Of one session. It doesn't lock: the lock of the :class:`.Link` guards it.

    It holds no more frames than the server may send beyond the last one reported, each coded.

    Attributes:
        receipts: of every prompt that came into force, in order.
        metrics: the newest measurements, or None.
        failure: why the take ended, or None.
        resting: why the server paused the film, or None while it goes on.
        shown: the last frame that was handed out, or None.
        reported: whether the server was told of that one.
        next: the first frame that did not come; of the first take before there is one.
    """

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.metrics: Metrics | None = None
        self.failure: StreamError | None = None
        self.resting: StreamError | None = None
        self.shown: FrameId | None = None
        self.reported = True
        self.next = FrameId(take=1, index=0)
        self._take: int | None = None
        self._frames: deque[EncodedFrame] = deque()
        # The frame from which the server counts how far it may go.
        self._credited = 0
        self._prompt = ""
        # When the prompts of the newest receipts were sent, those whose frames are still to be
        # handed out; None where that is not known.
        self._unseen: deque[float | None] = deque()
        # Request -> when it was sent, and the time from which its prompt is due.
        self._sent: dict[int, tuple[float, float]] = {}
        # The requests whose prompts came into force with the chunk of the newest receipt.
        self._together: set[int] = set()

    def __len__(self) -> int:
        """Frames that wait to be handed out."""
        return len(self._frames)

    @property
    def begun(self) -> bool:
        """Whether there is a take."""
        return self._take is not None

    def expect(self, request_id: int, at: float = 0.0, instead_of: int | None = None) -> None:
        """A request was sent whose prompt may come into force.

        Args:
            request_id: its own.
            at: presentation time from which it is due.
            instead_of: the request that was lost, and is sent again as this one.
        """
        lost = self._sent.pop(instead_of, None) if instead_of is not None else None
        self._sent[request_id] = lost or (time.monotonic(), at)

    def forget(self, request_id: int) -> None:
        """A request was refused."""
        self._sent.pop(request_id, None)

    def begin(self, take: int, request_id: int) -> None:
        """A take begins; what was held of the one before is dropped."""
        self._take = take
        self._frames.clear()
        self._prompt = ""
        self._unseen.clear()
        self._together.clear()
        self._sent = {sent: when for sent, when in self._sent.items() if sent >= request_id}
        self.metrics = self.failure = self.resting = self.shown = None
        self.next = FrameId(take=take, index=0)
        self.reported = True
        self._credited = 0

    def put(self, frame: EncodedFrame, limit: int) -> None:
        """Add a frame; one of another take, or that came before, is left out.

        Args:
            frame: as it came.
            limit: how many frames the server may send beyond the last one reported.

        Raises:
            StreamError: ``bad_message``: frames are missing before it, or too many came.
        """
        if frame.take != self._take:
            return
        if frame.index < self.next.index:
            return
        if frame.index > self.next.index:
            raise broken(f"frame {frame.index} came instead of frame {self.next.index}")
        if frame.index > self._credited + limit:
            raise broken(f"frame {frame.index} came before frame {self._credited} was reported")
        self.next = FrameId(take=frame.take, index=frame.index + 1)
        self._frames.append(frame)

    def report(self) -> FrameId:
        """The last frame handed out, which the server is told of now."""
        assert self.shown is not None
        self.reported, self._credited = True, self.shown.index
        return self.shown

    def apply(self, applied: Applied) -> None:
        """A prompt or settings came into force; a receipt that is repeated is left out."""
        if applied.prompt is None or applied.take != self._take:
            return
        newest = self.receipts[-1] if self.receipts else None
        if newest and newest.take == applied.take and newest.chunk >= applied.chunk:
            if newest.chunk > applied.chunk or applied.id in self._together:
                return
        else:
            self._begin_chunk(newest)
        self._together.add(applied.id)
        where = (applied.take, applied.chunk, applied.time)
        self.receipts.append(Receipt(applied.prompt, *where, applied.read))
        self._unseen.append(self._sent.pop(applied.id, (None, 0.0))[0])

    def _begin_chunk(self, newest: Receipt | None) -> None:
        """A receipt of a later chunk has come than that of the newest one."""
        unseen = self.receipts[len(self.receipts) - len(self._unseen) :]
        if len({receipt.chunk for receipt in unseen}) > len(self._frames):
            raise broken("prompts come into force with no frame between them")
        if newest and self._together:
            # Those sent before its last one and due by then can no longer come into force.
            last = max(self._together)
            self._sent = {
                sent: (when, due)
                for sent, (when, due) in self._sent.items()
                if sent > last or due > newest.time
            }
        self._together.clear()

    def take(self) -> tuple[EncodedFrame, str]:
        """The next frame and the prompt in force; there is one."""
        coded = self._frames.popleft()
        self.shown, self.reported = FrameId(take=coded.take, index=coded.index), False
        while self._unseen and self.receipts[-len(self._unseen)].chunk <= coded.chunk:
            at, sent = -len(self._unseen), self._unseen.popleft()
            self._prompt = self.receipts[at].prompt
            if sent is not None:
                waited = 1000 * (time.monotonic() - sent)
                self.receipts[at] = replace(self.receipts[at], milliseconds=waited)
        return coded, self._prompt


def decode(coded: EncodedFrame, prompt: str, ready: Ready) -> Frame:
    """A frame as pixels.

    Raises:
        StreamError: ``bad_message``: it is no picture of the film's size.
    """
    try:
        with Image.open(io.BytesIO(coded.payload), formats=[FORMATS[coded.codec]]) as picture:
            # Its header says the size: a picture that would fill the memory is not decoded.
            if picture.size != (ready.width, ready.height):
                raise broken(f"frame {coded.index} has {picture.width}x{picture.height} pixels")
            pixels = np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise broken(f"frame {coded.index} is no picture") from None
    return Frame(pixels, coded.index, coded.index / ready.rate, prompt)
