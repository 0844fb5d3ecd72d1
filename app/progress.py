"""How fast a film is made, taken while its frames come."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from longtake.app.frames import Frame


@dataclass
class Progress:
    """What has come so far.

    Attributes:
        began: when the film did, by ``time.perf_counter``.
        warm_frames: frames at the start that :attr:`fps` leaves out.
        frames: so far.
        first_frame: seconds from the start to the first one.
        digest: SHA-256 of all pixels.
    """

    began: float
    warm_frames: int
    frames: int = 0
    first_frame: float = 0.0
    digest: Any = field(default_factory=hashlib.sha256)
    _warm: float = 0.0

    def frame(self, frame: Frame) -> None:
        """Count the next one."""
        self.frames += 1
        now = time.perf_counter()
        if self.frames == 1:
            self.first_frame = now - self.began
        if self.frames == self.warm_frames:
            self._warm = now
        self.digest.update(frame.pixels.tobytes())

    @property
    def fps(self) -> float:
        """Frames a second since the warm ones, whatever else is done with them included.

        It is 0 before there is one more.
        """
        later = self.frames - self.warm_frames
        return later / (time.perf_counter() - self._warm) if later > 0 else 0.0
