"""Files that people ask for: where they may be, what becomes of one in the way, what went wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from longtake.streaming import StreamError


def write_whole(path: Path, suffixes: Sequence[str], write: Callable[[Path], None]) -> Path | None:
    """Write a file, whole or not at all; one that is in the way is kept, see `keep_existing`.

    Args:
        path: of the file.
        suffixes: that its name may have.
        write: writes it under the name that it is given, whatever that ends in.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``disk_full`` or ``bad_output``; what was there before is as it was.
    """
    check_output(path, suffixes)
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        kept = keep_existing(path, suffixes)
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error, "nothing recorded is lost: save elsewhere") from None
    finally:
        part.unlink(missing_ok=True)
    return kept


def check_output(path: Path, suffixes: Sequence[str] = (".mp4",)) -> None:
    """Refuse a place where no file can be written, before anything is made.

    Args:
        path: of the file.
        suffixes: that its name may have.

    Raises:
        StreamError: ``bad_output``.
    """
    if not path.parent.is_dir():
        problem = f"there is no folder {path.parent}"
        raise StreamError("bad_output", problem, "make it, or choose another place")
    if path.is_dir():
        raise StreamError("bad_output", f"{path} is a folder", "add a file name")
    if path.suffix.lower() not in suffixes:
        problem = f"{path} does not end in {' or '.join(suffixes)}"
        raise StreamError("bad_output", problem, "choose another name")
    if not os.access(path.parent, os.W_OK):
        problem = f"the folder {path.parent} is read-only"
        raise StreamError("bad_output", problem, "choose another place")


def keep_existing(path: Path, suffixes: Sequence[str] = (".mp4",)) -> Path | None:
    """Rename a file that is in the way, ``take.mp4`` to ``take.1.mp4``, so nothing is lost.

    Args:
        path: of the file that is to be written.
        suffixes: that its name may have.

    Returns:
        Its new name, or None where there was none.

    Raises:
        StreamError: ``bad_output``: the place does not fit, or renaming is not allowed.
    """
    check_output(path, suffixes)
    if not path.exists():
        return None
    numbers = (path.with_suffix(f".{number}{path.suffix}") for number in range(1, 1_000_000))
    kept = next(candidate for candidate in numbers if not candidate.exists())
    try:
        path.rename(kept)
    except OSError as error:
        raise unwritable(path, error) from None
    return kept


def unwritable(path: Path, error: OSError, hint: str = "choose another place") -> StreamError:
    """The failure to write a file, for a person to read."""
    return StreamError(error_code(error), f"{path} cannot be written ({reason(error)})", hint)


def error_code(error: OSError) -> str:
    """``disk_full`` (or a quota is), or ``bad_output`` for all else."""
    return "disk_full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "bad_output"


def reason(error: OSError) -> str:
    """What the system says of a failure."""
    return error.strerror or str(error)
