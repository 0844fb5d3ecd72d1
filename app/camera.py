"""Cameras, through OpenCV."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from longtake.app.sampling import Pixels
from longtake.app.shots import Shot
from longtake.streaming import StreamError

# Where Linux says which there are.
_LISTED = Path("/sys/class/video4linux")


class Camera:
    """A camera of this machine; a frame's time is when it came.

    Args:
        device: its number, or what else OpenCV opens: a device's path, a stream's address.

    Raises:
        StreamError: ``no_camera``: it is not there, or it cannot be opened.
    """

    live: bool = True
    duration: float | None = None

    def __init__(self, device: int | str) -> None:
        self.name = f"camera {device}"
        # It would tell of a camera that is not there in lines of its own.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(device)
        self._lock = threading.Lock()
        self._closed = False
        if not self._capture.isOpened():
            raise no_camera(device)

    def shots(self) -> Iterator[Shot]:
        """Every frame, as it comes.

        Raises:
            StreamError: ``source_lost``: the camera gives no more.
        """
        began = None
        while self._grab():
            now = time.monotonic()
            began = now if began is None else began
            yield Shot(now - began, self._read)
        if not self._closed:
            problem = f"{self.name} gives no more pictures"
            raise StreamError("source_lost", problem, "see whether it is still connected")

    def close(self) -> None:
        """Let go of it, at once or when the frame that is waited for has come."""
        self._closed = True
        if self._lock.acquire(timeout=1.0):
            self._capture.release()
            self._lock.release()

    def _grab(self) -> bool:
        with self._lock:
            return not self._closed and self._capture.grab()

    def _read(self) -> Pixels:
        with self._lock:
            _, picture = self._capture.retrieve()
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def no_camera(device: int | str) -> StreamError:
    """The failure to open a camera, for a person to read; it says which there are."""
    found = cameras()
    if device in {number for number, _ in found} | {f"/dev/video{number}" for number, _ in found}:
        problem = f"camera {device} is there but cannot be opened"
        hint = "end the program that uses it, or see whether you may use cameras"
        return StreamError("no_camera", problem, hint)
    if found:
        hint = "there are " + ", ".join(f"webcam:{number} ({name})" for number, name in found)
    elif _LISTED.parent.is_dir():
        hint = "this machine has none; give a video file or the address of a stream"
    else:
        hint = "try webcam:1, or see whether this program may use cameras"
    return StreamError("no_camera", f"there is no camera {device}", hint)


def cameras() -> list[tuple[int, str]]:
    """Numbers and names of this machine's cameras, where the system lists them (Linux)."""
    found = []
    for entry in _LISTED.glob("video*"):
        number = entry.name.removeprefix("video")
        if number.isdigit():
            found.append((int(number), (entry / "name").read_text("utf-8").strip()))
    return sorted(found)
