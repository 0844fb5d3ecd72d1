"""A maker of pictures and takes, and a reader of the films that tests make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.app.recording import Recording
from longtake.app.takes import TakesFolder
from longtake.streaming import Applied, Event

LEVELS = 50


def make_picture(index: int) -> NDArray[np.uint8]:
    """A grey frame, 48x32, whose level says its number, up to LEVELS."""
    return np.full((32, 48, 3), 5 * (index % LEVELS), np.uint8)


def read_numbers(pictures: Iterable[NDArray[np.uint8]]) -> list[int]:
    """The numbers of frames, whatever coding made of their levels."""
    return [round(float(each.mean()) / 5) for each in pictures]


def begin_take(takes: TakesFolder) -> Recording:
    """A take at 8 frames a second."""
    about = {"seed": 7, "prompt": "day", "model": "tiny", "conditions": {"device": "cpu"}}
    return takes.begin(48, 32, 8, about, Path("/models/tiny"))


def record_frames(recording: Any, indices: Iterable[int], *prompts: tuple[int, str]) -> None:
    """Write numbered frames of a film whose chunk is a second, with prompts at seconds."""
    log = [Applied(Event("prompt", prompt), at, float(at)) for at, prompt in prompts]
    for index in indices:
        recording.write(make_picture(index), index, log)


@pytest.fixture
def takes(tmp_path: Path) -> TakesFolder:
    """An empty takes folder."""
    return TakesFolder(tmp_path / "takes")


@pytest.fixture
def picture() -> Callable[[int], NDArray[np.uint8]]:
    """Make a numbered frame."""
    return make_picture


@pytest.fixture
def numbers() -> Callable[[Iterable[NDArray[np.uint8]]], list[int]]:
    """Read the numbers of frames."""
    return read_numbers


@pytest.fixture
def begin() -> Callable[[TakesFolder], Recording]:
    """Begin a take."""
    return begin_take


@pytest.fixture
def record() -> Callable[..., None]:
    """Write frames into a recording."""
    return record_frames


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
    numbers: list[int]


def _read(path: Path) -> Film:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [
            (each.time, each.to_ndarray(format="rgb24")) for each in container.decode(stream)
        ]
        times = [time for time, _ in pictures]
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
            numbers=read_numbers(pixels for _, pixels in pictures),
        )


@pytest.fixture
def read_film() -> Callable[[Path], Film]:
    """Decode an MP4."""
    return _read
