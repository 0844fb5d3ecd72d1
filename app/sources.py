"""Which source a name means: a file, a stream of the network, a camera."""

from __future__ import annotations

import re
from pathlib import Path

from longtake.app.camera import Camera, no_camera
from longtake.app.film_source import FilmSource
from longtake.app.shots import Source
from longtake.streaming import StreamError

_CAMERA = re.compile(r"webcam(?::(?P<number>\d{1,3}))?")
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://.+", re.IGNORECASE)


def open_source(name: str | Path) -> Source:
    """Open a video to watch.

    Args:
        name: a file; ``webcam``, ``webcam:1`` or the path of a device; or an address that begins
            with ``http://`` or ``https://``.

    Raises:
        StreamError: ``bad_source`` or ``no_camera``: it cannot be watched, and why.
    """
    text = str(name)
    if match := _CAMERA.fullmatch(text):
        return Camera(int(match["number"] or 0))
    if match := _ADDRESS.fullmatch(text):
        if match["scheme"].lower() not in {"http", "https"}:
            problem = f"{match['scheme']} streams cannot be watched"
            raise StreamError("bad_source", problem, "give an http or https address")
        return FilmSource(text)
    path = Path(name)
    if path.is_char_device():
        return Camera(text)
    if path.is_relative_to("/dev"):
        raise no_camera(text)
    if path.is_dir():
        raise StreamError("bad_source", f"{path} is a folder", "give a file in it")
    if not path.exists():
        hint = "check the name; webcam and http addresses can be watched too"
        raise StreamError("bad_source", f"there is no file {path}", hint)
    if path.is_file() and not path.stat().st_size:
        raise StreamError("bad_source", f"{path} is empty", "give a whole video file")
    return FilmSource(path)
