"""Files of visitors: what they saved, to be fetched over HTTP, and what they sent."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

from longtake.app.background import BackgroundRecording
from longtake.app.export import save_film, save_still
from longtake.app.mp4 import packets
from longtake.app.stored import StoredTake, read_take
from longtake.app.wire import SavedFile
from longtake.streaming import StreamError

# Of a session; an older file makes room for a newer one.
FILES_KEPT = 16


class Shelf:
    """Files under names that the server made, in a temporary folder.

    Files are looked up by name in a table; no path is ever made of what a client sends. Every
    method may be called from any thread.

    Args:
        starts: of the files that a session sent as many are kept, the newest.
    """

    def __init__(self, starts: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="longtake-studio-"))
        self._files: dict[str, dict[str, Path]] = defaultdict(dict)
        self._starts: dict[str, dict[str, Path]] = defaultdict(dict)
        self._most_starts = starts
        self._count = 0
        # One file at a time is saved; a film on its way needs the disk and the processor more.
        self._lock = threading.Lock()

    def find(self, session: str, name: str) -> Path | None:
        """The file of a session under a name; None where there is none."""
        return self._files.get(session, {}).get(name)

    def save_film(
        self, session: str, take: int, recording: BackgroundRecording, stop: int, last: float | None
    ) -> tuple[SavedFile, str | None]:
        """Save what of a take is before a frame, or the last seconds of it, as an MP4.

        Args:
            session: whose file it is.
            take: its number, for the name.
            recording: of the take; it goes on.
            stop: number of the frame.
            last: seconds up to it, or None for all.

        Returns:
            The file, and a remark on what is missing.

        Raises:
            StreamError: ``nothing_recorded``, ``disk_full`` or ``bad_output``.
        """
        with self._lock:
            stored = _read(recording, stop)
            missing = stop - stored.frames
            path = self._new_path(".mp4")
            save_film(stored, path, last)
            seconds = sum(1 for _ in packets(path)) / stored.rate
            file = self._add(session, f"take-{take}", path, seconds)
        return file, f"{missing} frames of the take could not be recorded" if missing else None

    def save_still(
        self, session: str, take: int, recording: BackgroundRecording, index: int
    ) -> SavedFile:
        """Save one frame of a take as a PNG.

        Args:
            session: whose file it is.
            take: its number, for the name.
            recording: of the take; it goes on.
            index: of the frame in the take.

        Raises:
            StreamError: ``nothing_recorded``, ``disk_full`` or ``bad_output``.
        """
        with self._lock:
            stored = _read(recording, index + 1)
            if stored.stop != index + 1:
                problem = f"frame {index} is not recorded"
                raise StreamError("nothing_recorded", problem, "choose another frame")
            path = self._new_path(".png")
            save_still(stored, path)
            return self._add(session, f"take-{take}-{index}", path, 0.0)

    def place_for_start(self) -> Path:
        """Where a file that is being sent may be written; it is there until it is kept."""
        return self._folder / f"start-{secrets.token_hex(8)}"

    def keep_start(self, session: str, path: Path) -> str:
        """Keep a file that a session sent; its name in the protocol."""
        name = secrets.token_hex(8)
        with self._lock:
            starts = self._starts[session]
            starts[name] = path
            while len(starts) > self._most_starts:
                starts.pop(next(iter(starts))).unlink(missing_ok=True)
        return name

    def find_start(self, session: str, name: str) -> Path:
        """A file that a session sent.

        Raises:
            StreamError: ``bad_start``: there is none of that name.
        """
        path = self._starts.get(session, {}).get(name)
        if path is None:
            problem = "there is no such start any more"
            raise StreamError("bad_start", problem, "send the file again")
        return path

    def clear(self, session: str) -> None:
        """Delete what a session saved and sent."""
        with self._lock:
            for files in (self._files, self._starts):
                for path in files.pop(session, {}).values():
                    path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete everything."""
        self._files.clear()
        self._starts.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _new_path(self, suffix: str) -> Path:
        self._count += 1
        return self._folder / f"{self._count}{suffix}"

    def _add(self, session: str, stem: str, path: Path, seconds: float) -> SavedFile:
        files = self._files[session]
        name = f"{stem}{path.suffix}"
        if name in files:
            name = f"{stem}_{path.name}"
        files[name] = path
        while len(files) > FILES_KEPT:
            files.pop(next(iter(files))).unlink(missing_ok=True)
        url = f"/files/{session}/{name}"
        return SavedFile(url=url, size=path.stat().st_size, seconds=seconds)


def _read(recording: BackgroundRecording, stop: int) -> StoredTake:
    """What is on disk before a frame, the newest one included."""
    if recording.error is None:
        recording.cut()
    return read_take(recording.folder).until(stop)
