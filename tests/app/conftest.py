"""A reader of the films that tests make."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import pytest


@dataclass
class Film:
    """What an MP4 holds, decoded from start to end."""

    frames: int
    size: tuple[int, int]
    chapters: list[tuple[float, str]]
    title: str | None
    about: dict[str, Any]
    codec: str
    times: list[float]


def _read(path: Path) -> Film:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        chapters = [
            (float(each["start"] * each["time_base"]), each["metadata"].get("title", ""))
            for each in container.chapters()
        ]
        metadata = container.metadata
        return Film(
            frames=len(times),
            size=(stream.width, stream.height),
            chapters=chapters,
            title=metadata.get("title"),
            about=json.loads(metadata.get("longtake", "{}")),
            codec=f"{stream.codec_context.name} {stream.codec_context.pix_fmt}",
            times=times,
        )


@pytest.fixture
def read_film() -> Callable[[Path], Film]:
    """Decode an MP4."""
    return _read
