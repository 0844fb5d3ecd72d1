"""What a take on disk is given out as: a film, a still, a short animation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
from PIL import Image

from longtake.app.mp4 import chapter_list, note, packets
from longtake.app.outputs import reason, write_whole
from longtake.app.stored import Segment, StoredTake
from longtake.streaming import StreamError

FILM = (".mp4",)
STILL = (".png",)
ANIMATION = (".webp", ".gif")
ANIMATION_SECONDS = 3.0
# All frames of an animation are in memory at once.
MAX_ANIMATION_SECONDS = 20.0


def export(take: StoredTake, path: Path, last: float | None = None) -> Path | None:
    """Save a take as what the file's name ends in: a film, a still of its end, an animation.

    Args:
        take: may still be being made; what is not on disk yet is not in it.
        path: ends in ``.mp4``, ``.png``, ``.webp`` or ``.gif``. A file of that name is kept
            under another.
        last: seconds up to the take's end; all of it by default, of an animation 3 s.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``nothing_recorded``, ``bad_length``, ``bad_take``, ``disk_full`` or
            ``bad_output``.
    """
    suffix = path.suffix.lower()
    if suffix in STILL:
        return save_still(take, path)
    if suffix in ANIMATION:
        return save_animation(take, path, ANIMATION_SECONDS if last is None else last)
    return save_film(take, path, last)


def save_film(take: StoredTake, path: Path, last: float | None = None) -> Path | None:
    """Save a take as one MP4 with its chapters; nothing is decoded or encoded.

    Args:
        take: what of it is on disk.
        path: ends in ``.mp4``. A file of that name is kept under another.
        last: seconds up to the take's end, or None for all of it. A film can only begin with a
            key frame, so it begins up to a second earlier.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``nothing_recorded``, ``bad_length``, ``bad_take``, ``disk_full`` or
            ``bad_output``.
    """
    start = _start(take, last)
    return write_whole(path, FILM, lambda part: _join(take, start, part))


def save_still(take: StoredTake, path: Path, at: float | None = None) -> Path | None:
    """Save one frame as a PNG.

    Args:
        take: what of it is on disk.
        path: ends in ``.png``. A file of that name is kept under another.
        at: seconds from the start of what is recorded; the last frame by default.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``nothing_recorded``, ``bad_length``, ``bad_take``, ``disk_full`` or
            ``bad_output``.
    """
    number = _start(take, 0.0)
    if at is not None:
        if not 0 <= at < take.seconds:
            problem = f"there is no frame at {at:g} s of a take of {take.seconds:g} s"
            raise StreamError("bad_length", problem, "give another time")
        number = min(number, round(at * take.rate))
    picture = next(_pictures(take, number))
    return write_whole(path, STILL, partial(picture.save, format="PNG"))


def save_animation(take: StoredTake, path: Path, last: float = ANIMATION_SECONDS) -> Path | None:
    """Save the end of a take as a picture that moves, over and over.

    Args:
        take: what of it is on disk.
        path: ends in ``.webp`` or ``.gif`` (256 colours a frame, and larger). A file of that
            name is kept under another.
        last: seconds up to the take's end, at most 20.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``nothing_recorded``, ``bad_length``, ``bad_take``, ``disk_full`` or
            ``bad_output``.
    """
    if last > MAX_ANIMATION_SECONDS:
        problem = f"an animation of {last:g} s is too long"
        raise StreamError("bad_length", problem, f"use at most {MAX_ANIMATION_SECONDS:g} s")
    first, *more = _pictures(take, _start(take, last))
    # A GIF counts in hundredths of a second; rounded one by one, its frames would drift.
    ends = [round(100 * frame / take.rate) for frame in range(len(more) + 2)]
    save = partial(
        first.save,
        format=path.suffix[1:].upper(),
        save_all=True,
        append_images=more,
        duration=[10 * (end - start) for start, end in pairwise(ends)],
        loop=0,
    )
    return write_whole(path, ANIMATION, save)


def _start(take: StoredTake, last: float | None) -> int:
    """The frame at which the last seconds begin; there is at least one from there on."""
    if not take.frames:
        raise StreamError("nothing_recorded", "nothing has been recorded", "make some film first")
    if last is None:
        return 0
    if not last >= 0:
        raise StreamError("bad_length", f"there are no last {last:g} s", "give a length above 0")
    return max(0, take.frames - max(1, round(min(last, take.seconds) * take.rate)))


def _pictures(take: StoredTake, start: int) -> Iterator[Image.Image]:
    """The frames from one on; at least one."""
    frame = None
    for segment, before in _segments_from(take, start):
        decoded = (frame for packet in _coded(segment) for frame in packet.decode())
        for frame in islice(decoded, max(0, start - before), None):
            yield frame.to_image()
    if frame is None:
        raise _unreadable(take)


def _join(take: StoredTake, start: int, path: Path) -> None:
    """Copy the packets from the last key frame at or before a frame on."""
    begin = _key_frame(take, start)
    about = {**take.about, "applied": [entry.note() for entry in take.applied]}
    if begin:
        about["begins"] = begin / take.rate
    # Of the chapters up to the beginning the last one stays.
    chapters = {max(0, frame - begin): prompt for frame, prompt in take.chapters}
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(path), "w", format="mp4", options=options) as film:
        film.metadata["longtake"] = note(about)
        film.metadata["title"] = chapters[0]
        film.set_chapters(chapter_list([*chapters.items()], take.frames - begin, take.rate))
        stream = None
        for segment, before in _segments_from(take, begin):
            for frame, packet in enumerate(_coded(segment), before - begin):
                if frame < 0:
                    continue
                if stream is None:
                    stream = film.add_stream_from_template(packet.stream)
                packet.duration = round(1 / (take.rate * packet.time_base))
                packet.pts = packet.dts = frame * packet.duration
                packet.stream = stream
                film.mux(packet)
        if stream is None:
            raise _unreadable(take)


def _key_frame(take: StoredTake, start: int) -> int:
    """The last frame at or before one that can be decoded without those before it."""
    segment, before = next(_segments_from(take, start))
    numbered = enumerate(islice(_coded(segment), start - before + 1), before)
    return max((frame for frame, packet in numbered if packet.is_keyframe), default=before)


def _coded(segment: Segment) -> Iterator[Any]:
    """The packets of a segment, one a frame; where it is being written, no more than counted."""
    try:
        yield from islice(packets(segment.path), segment.frames)
    except OSError as error:
        problem = f"{segment.path} cannot be read ({reason(error)})"
        raise StreamError("bad_take", problem, "choose another take") from None


def _segments_from(take: StoredTake, start: int) -> Iterator[tuple[Segment, int]]:
    """The segment that holds a frame and those after it, each with how many frames are before."""
    before = 0
    for segment in take.segments:
        if start < before + segment.frames:
            yield segment, before
        before += segment.frames


def _unreadable(take: StoredTake) -> StreamError:
    problem = f"the frames of the take in {take.folder} cannot be read"
    return StreamError("bad_take", problem, "choose another take")
