"""A take on disk, read back from its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from longtake.app.journal import is_open, read_journal
from longtake.app.mp4 import packets
from longtake.app.recording import JOURNAL
from longtake.streaming import Applied, Event, StreamError

KEPT = "kept"
"""Name of the file that marks a take as kept."""


@dataclass(frozen=True)
class Segment:
    """A part of a take.

    Attributes:
        path: of its MP4.
        first: number of its first frame in the film.
        frames: it holds.
    """

    path: Path
    first: int
    frames: int


@dataclass(frozen=True)
class StoredTake:
    """A take as it is on disk, whoever wrote it and however that ended.

    Attributes:
        folder: of the take.
        began: when, in seconds since the epoch.
        width: pixels.
        height: pixels.
        rate: frames a second.
        model: the folder of the model that made it.
        about: what made the film: seed, prompts, settings, model and conditions.
        applied: every prompt and setting that came into force before its end.
        segments: in order, each with at least a frame.
        state: ``open`` while a process writes it, ``interrupted`` where that was killed.
        kept: it is not to be removed to make room.
        size: bytes.
    """

    folder: Path
    began: float
    width: int
    height: int
    rate: int
    model: Path
    about: Mapping[str, Any]
    applied: tuple[Applied, ...]
    segments: tuple[Segment, ...]
    state: Literal["open", "finished", "interrupted"]
    kept: bool
    size: int

    @property
    def name(self) -> str:
        """Its folder's name: when it began, in local time."""
        return self.folder.name

    @property
    def prompt(self) -> str:
        """The first one."""
        chapters = self.chapters
        return chapters[0][1] if chapters else str(self.about.get("prompt", ""))

    @property
    def frames(self) -> int:
        """Frames it holds."""
        return sum(segment.frames for segment in self.segments)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.rate

    @property
    def stop(self) -> int:
        """Number of the film's frame after its last one."""
        return _stop(self.segments)

    @property
    def missing(self) -> int:
        """Frames between its first and its last that were not recorded."""
        return self.stop - self.segments[0].first - self.frames if self.segments else 0

    @property
    def prompts(self) -> list[Applied]:
        """Every prompt that came into force before its end, in order; several may at one time."""
        first = Applied(Event("prompt", str(self.about.get("prompt", ""))), 0, 0.0)
        return [first, *(entry for entry in self.applied if entry.event.field == "prompt")]

    @property
    def chapters(self) -> list[tuple[int, str]]:
        """The first frame, counted in what is recorded, and the newest prompt of each."""
        if not self.segments:
            return []
        prompts: dict[int, str] = {}
        for entry in self.prompts:
            prompts[self._recorded(round(entry.time * self.rate))] = entry.event.value
        chapters: list[tuple[int, str]] = []
        for frame, prompt in prompts.items():
            if not chapters or chapters[-1][1] != prompt:
                chapters.append((frame, prompt))
        return chapters

    def until(self, stop: int) -> StoredTake:
        """The take as if it had ended before a frame of the film."""
        segments = tuple(
            replace(each, frames=min(each.frames, stop - each.first))
            for each in self.segments
            if each.first < stop
        )
        applied = _before_the_end(self.applied, segments, self.rate)
        return replace(self, segments=segments, applied=applied)

    def _recorded(self, index: int) -> int:
        """Where in what is recorded a frame of the film is, or the next one that is."""
        before = 0
        for segment in self.segments:
            if index < segment.first + segment.frames:
                return before + max(0, index - segment.first)
            before += segment.frames
        return before


def read_take(folder: Path) -> StoredTake:
    """A take from its folder; what a kill tore off its end is left out.

    Raises:
        StreamError: ``bad_take``: there is none, or it cannot be read.
    """
    try:
        # Asked first: a take that ends in between has been read to its end.
        being_made = is_open(folder / JOURNAL)
        header, *lines = read_journal(folder / JOURNAL)
        if header["version"] != 1:
            raise ValueError("it is of another version")
        counted = {line["segment"]: line["frames"] for line in lines if "segment" in line}
        segments = []
        numbered = [path for path in folder.glob("*.mp4") if path.stem.isdecimal()]
        for path in sorted(numbered, key=lambda path: int(path.stem)):
            frames = counted.get(path.name)
            if frames is None:
                frames = sum(1 for _ in packets(path))
            if frames:
                segments.append(Segment(path, int(path.stem), frames))
        applied = (
            Applied(
                Event(line["applied"], line["value"], transition=line.get("transition", 0)),
                line["chunk"],
                line["time"],
            )
            for line in lines
            if "applied" in line
        )
        finished = any("finished" in line for line in lines)
        return StoredTake(
            folder=folder,
            began=header["began"],
            width=header["width"],
            height=header["height"],
            rate=header["rate"],
            model=Path(header["model"]),
            about=header["about"],
            applied=_before_the_end(applied, segments, header["rate"]),
            segments=tuple(segments),
            state="open" if being_made else "finished" if finished else "interrupted",
            kept=(folder / KEPT).exists(),
            size=sum(entry.stat().st_size for entry in os.scandir(folder)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{folder} holds no take that can be read ({error})"
        raise StreamError("bad_take", problem, "choose another take") from None


def _before_the_end(
    applied: Iterable[Applied], segments: Sequence[Segment], rate: int
) -> tuple[Applied, ...]:
    """Of what came into force, that which did before the last frame of some segments ended."""
    length = _stop(segments) / rate
    return tuple(entry for entry in applied if entry.time < length)


def _stop(segments: Sequence[Segment]) -> int:
    return segments[-1].first + segments[-1].frames if segments else 0
