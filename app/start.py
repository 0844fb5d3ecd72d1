"""The first frames of a film, from a picture or a clip that somebody has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from longtake.app.film_source import FilmSource
from longtake.app.outputs import reason
from longtake.app.sampling import Pixels
from longtake.streaming import StreamError

MAX_SECONDS = 5
MAX_PIXELS = 40_000_000
"""Of a picture: more would take gigabytes on the way."""
SENT = "PICTURE"
"""Stands in a command for a file whose name is not known."""
# Pillow would take the first picture of an MPEG film for a picture.
_PICTURES = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Containers that hold their film themselves; a playlist would name other files.
_FILMS = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg"),
    *("ogg", "flv", "asf", "gif", "apng"),
)


@dataclass(frozen=True)
class Start:
    """What a film begins with.

    Attributes:
        frames: uint8 RGB, [time, height, width, 3], of the film's size and rate.
        receipt: JSON-like: the ``file`` that it came from, null where somebody sent it; its
            ``sha256``; and how many ``frames`` of the film it is.
    """

    frames: NDArray[np.uint8]
    receipt: dict[str, Any]


def read_start(path: Path, width: int, height: int, rate: int, fill: Callable[[int], int]) -> Start:
    """A picture, or the frames of a clip at the film's rate, scaled and cropped to its size.

    Whole chunks are filled: a picture is held for one; of a clip the last frames are left out, or
    the last one is held where there is less than a chunk.

    Args:
        path: of the file.
        width: pixels.
        height: pixels.
        rate: frames a second.
        fill: frames that so many chunks take.

    Raises:
        StreamError: ``bad_start``: there is no such file, it cannot be read, the clip is longer
            than :data:`MAX_SECONDS`, or a picture has more than :data:`MAX_PIXELS`.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        pictures = _read(path, width, height, rate)
    # Pillow calls a broken picture a syntax error.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise _bad(f"{path} cannot be read ({why})", "give a picture or a video file") from None
    chunks = 1
    while fill(chunks + 1) <= len(pictures):
        chunks += 1
    count = fill(chunks)
    held = [pictures[-1]] * (count - len(pictures))
    frames = np.stack([*pictures[:count], *held])
    receipt = {"file": str(path.absolute()), "sha256": digest, "frames": count}
    return Start(frames, receipt)


def read_sent(path: Path, width: int, height: int, rate: int, fill: Callable[[int], int]) -> Start:
    """As :func:`read_start`, of a file that somebody sent: where it lies here is not told.

    Raises:
        StreamError: as in :func:`read_start`.
    """
    try:
        start = read_start(path, width, height, rate, fill)
    except StreamError as error:
        message = error.message.replace(str(path), "the file")
        raise StreamError(error.code, message, error.hint) from None
    return Start(start.frames, start.receipt | {"file": None})


def remark_on(receipt: dict[str, Any]) -> str | None:
    """Why a film would not begin again as it did, in a sentence; None where its file is as it was.

    Args:
        receipt: of a :class:`Start`.
    """
    if receipt["file"] is None:
        return f"it begins with a file that was sent to the studio, put it in place of {SENT}"
    path = Path(receipt["file"])
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == receipt["sha256"]:
                return None
    except OSError as error:
        return f"it begins with {path}, which cannot be read ({reason(error)})"
    return f"it begins with {path}, which has changed since"


def _read(path: Path, width: int, height: int, rate: int) -> list[Pixels]:
    """A single picture, or a clip's frames."""
    try:
        with Image.open(path, formats=_PICTURES) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                problem = f"{path} has {picture.width}x{picture.height} pixels"
                raise _bad(problem, f"use at most {MAX_PIXELS:,}")
            if not getattr(picture, "is_animated", False):
                upright = ImageOps.exif_transpose(picture)
                # What is transparent shows black, as in a film without anything behind it.
                behind = Image.new("RGBA", upright.size, "black")
                whole = Image.alpha_composite(behind, upright.convert("RGBA"))
                return [_fit(whole.convert("RGB"), width, height)]
    except UnidentifiedImageError:
        pass
    return [_fit(Image.fromarray(each), width, height) for each in _clip(path, rate)]


def _clip(path: Path, rate: int) -> Iterator[Pixels]:
    """Its frames at the film's rate: at each time the newest one."""
    try:
        source = FilmSource(path, _FILMS, MAX_PIXELS)
    except StreamError as error:
        raise _bad(error.message, "give a picture or a video file") from None
    try:
        yield from islice(_at_rate(source, path, rate), MAX_SECONDS * rate)
    finally:
        source.close()


def _at_rate(source: FilmSource, path: Path, rate: int) -> Iterator[Pixels]:
    made, shown, end = 0, None, 0.0
    for shot in source.shots():
        if shot.time >= MAX_SECONDS:
            problem = f"{path} is longer than {MAX_SECONDS} s"
            raise _bad(problem, "cut it: a film begins with a picture or a short clip")
        while shown is not None and round(shot.time * rate, 3) > made:
            yield shown
            made += 1
        shown, end = shot.read(), shot.time + (shot.duration or 1 / rate)
    while shown is not None and (made == 0 or round(end * rate, 3) > made):
        yield shown
        made += 1


def _fit(picture: Image.Image, width: int, height: int) -> Pixels:
    """Scaled until it covers the film's picture, and cropped around its middle."""
    return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS))


def _bad(problem: str, hint: str) -> StreamError:
    return StreamError("bad_start", problem, hint)
