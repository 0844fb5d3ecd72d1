"""The takes folder: every take is a folder in it, written while the take is made."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longtake.app.journal import Journal
from longtake.app.outputs import error_code, reason
from longtake.app.places import user_data
from longtake.app.recording import JOURNAL, Recording
from longtake.app.stored import KEPT, StoredTake, read_take
from longtake.streaming import StreamError

PLACE_VARIABLE = "LONGTAKE_TAKES"
CAP_BYTES = 10 << 30
# Names that begin with a dot are no takes: one is being made ready, one is being removed.
_LOCK, _NEW, _REMOVED = ".lock", ".new", ".removed"


class TakesFolder:
    """Where takes are saved as they are made; several processes may use one at a time.

    Args:
        path: the folder, made when a take begins. By default what the environment variable
            ``LONGTAKE_TAKES`` says, or else ``longtake/takes`` in the user's data folder.
        cap: bytes that all takes together may have. The oldest finished takes make room for new
            ones, then interrupted ones; never one that is being made or is marked kept. While a
            take is made its size is looked at every 256th of the cap.
    """

    def __init__(self, path: str | Path | None = None, cap: int = CAP_BYTES) -> None:
        self.path = Path(path or os.environ.get(PLACE_VARIABLE) or user_data() / "takes")
        self.cap = cap

    def begin(
        self, width: int, height: int, rate: int, about: Mapping[str, Any], model: Path
    ) -> Recording:
        """A new take, to be written and closed; for the arguments see :class:`.Recording`.

        Raises:
            StreamError: ``bad_takes``: the folder cannot be used; ``disk_full``; ``takes_full``:
                the cap is reached and nothing may be removed.
        """
        with self._locked():
            self._make_room()
            new = self.path / _NEW
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            recording = Recording(
                new, width, height, rate, about, model, _Watch(self).segment_begins
            )
            recording.folder = new.rename(self._unused_name())
        return recording

    def takes(self) -> list[StoredTake]:
        """All takes, the newest first; what is no take is passed over.

        Raises:
            StreamError: ``bad_takes``: the folder cannot be read.
        """
        found = []
        for folder in self._folders():
            with suppress(StreamError):
                found.append(read_take(folder))
        return sorted(found, key=lambda take: take.began, reverse=True)

    def find(self, name: str) -> StoredTake:
        """The take of a name. A name is only compared, so it cannot lead out of the folder.

        Raises:
            StreamError: ``no_take``: there is none; ``bad_take``: it cannot be read; ``bad_takes``.
        """
        for folder in self._folders():
            if folder.name == name:
                return read_take(folder)
        hint = "python launch.py takes  lists those there are"
        raise StreamError("no_take", f"there is no take {name!r} in {self.path}", hint)

    def keep(self, name: str, kept: bool = True) -> None:
        """Mark a take as never to be removed to make room, or take the mark away.

        Raises:
            StreamError: ``no_take``, ``bad_takes`` or ``disk_full``.
        """
        mark = self.find(name).folder / KEPT
        try:
            if kept:
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
        except OSError as error:
            raise self._unusable(error) from None

    def settle(self, name: str) -> None:
        """Make an interrupted take a finished one: its maker has seen what is left of it.

        Raises:
            StreamError: ``no_take``, ``bad_takes`` or ``disk_full``.
        """
        with self._locked():
            take = self.find(name)
            if take.state != "interrupted":
                return
            journal = Journal(take.folder / JOURNAL)
            try:
                journal.append(finished=True)
            finally:
                journal.close()

    def remove(self, name: str) -> None:
        """Delete a take, kept or not.

        Raises:
            StreamError: ``no_take``; ``take_open``: it is being made; ``bad_takes``.
        """
        with self._locked():
            take = self.find(name)
            if take.state == "open":
                problem = f"the take {name} is being made"
                raise StreamError("take_open", problem, "end it first")
            self._delete(take)

    def make_room(self) -> None:
        """Remove what the cap asks for.

        Raises:
            StreamError: ``takes_full``: too little may be removed; ``bad_takes``.
        """
        with self._locked():
            self._make_room()

    def _folders(self) -> list[Path]:
        try:
            return [entry for entry in self.path.iterdir() if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from None

    def _make_room(self) -> None:
        takes = self.takes()
        size = sum(take.size for take in takes)
        removable = [take for take in takes if take.state != "open" and not take.kept]
        removable.sort(key=lambda take: (take.state == "interrupted", take.began))
        for take in removable:
            if size <= self.cap:
                break
            self._delete(take)
            size -= take.size
        if size > self.cap:
            problem = f"the takes in {self.path} are being made or kept, and have {size:,} bytes"
            problem += f" of {self.cap:,}"
            hint = "python launch.py takes --clean NAME  removes one that is kept"
            raise StreamError("takes_full", problem, hint)

    def _delete(self, take: StoredTake) -> None:
        # Renamed first, so that a kill on the way leaves no half of a take.
        removed = self.path / _REMOVED
        shutil.rmtree(removed, ignore_errors=True)
        take.folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _unused_name(self) -> Path:
        name = time.strftime("%Y-%m-%d_%H-%M-%S")
        paths = (self.path / f"{name}{more}" for more in ("", *(f"_{n}" for n in range(2, 10_000))))
        return next(path for path in paths if not path.exists())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Between processes: while one begins or removes a take, no other does."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / _LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> StreamError:
        code = error_code(error)
        problem = f"the takes folder {self.path} cannot be used ({reason(error)})"
        if code == "disk_full":
            return StreamError(code, problem, "make room")
        return StreamError("bad_takes", problem, f"set {PLACE_VARIABLE} to another one")


class _Watch:
    """Looks now and then at whether the take being made has outgrown the cap."""

    def __init__(self, takes: TakesFolder) -> None:
        self._takes = takes
        self._looked = 0

    def segment_begins(self, size: int) -> None:
        if size - self._looked >= self._takes.cap // 256:
            self._takes.make_room()
            self._looked = size
