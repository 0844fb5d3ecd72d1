"""Files that people ask for: where they may be, what becomes of one in the way, what went wrong."""

from __future__ import annotations

import os
from pathlib import Path

from longtake.streaming import StreamError


def check_output(path: Path) -> None:
    """Refuse a place where no file can be written, before anything is made.

    Raises:
        StreamError: ``bad_output``.
    """
    if not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
        raise StreamError("bad_output", problem, "make it, or choose another place")
    if path.is_dir():
        raise StreamError("bad_output", f"{path} is a folder", "add a file name")
    if path.suffix.lower() != ".mp4":
        raise StreamError("bad_output", f"{path} does not end in .mp4", "films are MP4 files")
    if not os.access(path.parent, os.W_OK):
        problem = f"the folder {path.parent} is read-only"
        raise StreamError("bad_output", problem, "choose another place")


def keep_existing(path: Path) -> Path | None:
    """Rename a file that is in the way, ``take.mp4`` to ``take.1.mp4``, so nothing is lost.

    Returns:
        Its new name, or None where there was none.

    Raises:
        StreamError: ``bad_output``: the place does not fit, or renaming is not allowed.
    """
    check_output(path)
    if not path.exists():
        return None
    numbers = (path.with_suffix(f".{number}{path.suffix}") for number in range(1, 1_000_000))
    kept = next(candidate for candidate in numbers if not candidate.exists())
    try:
        path.rename(kept)
    except OSError as error:
        raise unwritable(path, error) from None
    return kept


def unwritable(path: Path, error: OSError) -> StreamError:
    """The failure to write a file, for a person to read."""
    problem = f"{path} cannot be written ({reason(error)})"
    return StreamError("bad_output", problem, "choose another place")


def reason(error: OSError) -> str:
    """What the system says of a failure."""
    return error.strerror or str(error)
