"""Films as MP4 files that stay playable whatever happens while they are written."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.app.outputs import error_code, keep_existing, reason, unwritable
from longtake.streaming import StreamError

# Fragments go to disk twice a second, so a kill costs half a second; closing the file properly
# turns it into an ordinary MP4 with an index.
_CONTAINER = {
    "movflags": "hybrid_fragmented+use_metadata_tags",
    "frag_duration": "500000",
    "flush_packets": "1",
}
# swscale converts RGB by BT.601; the file says so, or players would guess.
_ENCODER = {
    "preset": "veryfast",
    "tune": "zerolatency",
    "crf": "18",
    "x264-params": "colorprim=smpte170m:transfer=smpte170m:colormatrix=smpte170m",
}


class H264File:
    """H.264 (yuv420p) in an MP4, a key frame each second at least.

    Every method may raise an OSError; what was written before stays playable.

    Args:
        path: the file; its folder exists. It is made with the first frame.
        width: pixels, even.
        height: pixels, even.
        rate: frames a second.
    """

    def __init__(self, path: Path, width: int, height: int, rate: int) -> None:
        self.path = path
        self.frames = 0
        self.container = av.open(str(path), "w", format="mp4", options=_CONTAINER)
        self._stream = self.container.add_stream("libx264", rate=rate, options=_ENCODER)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, rate)
        self._stream.codec_context.gop_size = rate

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Add a frame: uint8 RGB, [height, width, 3]."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts = self.frames
        self.container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Turn it into an ordinary MP4 with an index."""
        self.container.mux(self._stream.encode(None))
        self.container.close()


class Mp4Writer:
    """Writes a film with a chapter for each prompt.

    Args:
        path: the file; its folder exists. A file of that name is kept under another (``kept``).
        width: pixels, even.
        height: pixels, even.
        rate: frames a second.
        about: what made the film, JSON-like; stored under the metadata key ``longtake``.
        with_prompts: whether prompts are stored, as chapters and title.

    Raises:
        StreamError: ``bad_output``: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        rate: int,
        about: Mapping[str, Any],
        *,
        with_prompts: bool = True,
    ) -> None:
        self.path = path
        self.kept = keep_existing(path)
        self._rate = rate
        self._with_prompts = with_prompts
        self._closed = False
        self._chapters: list[tuple[int, str]] = []
        try:
            self._film = H264File(path, width, height, rate)
        except OSError as error:
            raise unwritable(path, error) from None
        self._film.container.metadata["longtake"] = note(about)

    def write(self, pixels: NDArray[np.uint8], prompt: str) -> None:
        """Add a frame.

        Args:
            pixels: uint8 RGB, [height, width, 3].
            prompt: in force; a new one begins a chapter.

        Raises:
            StreamError: ``disk_full`` or ``bad_output``; what was written stays playable.
        """
        if not self._chapters or self._chapters[-1][1] != prompt:
            self._chapters.append((self._film.frames, prompt))
            if self._film.frames == 0 and self._with_prompts:
                self._film.container.metadata["title"] = prompt
        try:
            self._film.write(pixels)
        except OSError as error:
            raise self._interrupted(error) from None

    def close(self) -> None:
        """Finish the file: chapters and index. May be repeated.

        Raises:
            StreamError: ``disk_full`` or ``bad_output``; what was written stays playable.
        """
        if self._closed:
            return
        self._closed = True
        film = self._film
        if self._with_prompts:
            film.container.set_chapters(chapter_list(self._chapters, film.frames, self._rate))
        try:
            film.close()
        except OSError as error:
            raise self._interrupted(error) from None

    def _interrupted(self, error: OSError) -> StreamError:
        frames = self._film.frames
        if not frames:  # the file is made with its first frame
            return unwritable(self.path, error)
        problem = f"writing {self.path} failed after {frames} frames ({reason(error)})"
        hint = "make room; what was written stays playable"
        return StreamError(error_code(error), problem, hint)


def note(about: Mapping[str, Any]) -> str:
    """What made a film, as it is stored in its MP4: of the file it began with only the name.

    An MP4 is given to others, and the place of a file says something of whose it is.
    """
    told = dict(about)
    if start := told.get("start"):
        told["start"] = {**start, "file": start["file"] and Path(start["file"]).name}
    return json.dumps(told, ensure_ascii=False)


def packets(path: Path) -> Iterator[Any]:
    """The coded frames of a film, in order, up to where it is torn.

    Args:
        path: written by :class:`H264File`, perhaps still or by a process that was killed.

    Yields:
        Whole video packets as PyAV has them; none where the file does not even have a header.

    Raises:
        OSError: the file cannot be read.
    """
    source: str | io.BytesIO = str(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        whole = _whole_boxes(file, size)
        if whole < size:
            # FFmpeg refuses all of a file whose last box is torn at certain bytes.
            file.seek(0)
            source = io.BytesIO(file.read(whole))
    if not whole:
        return
    try:
        with av.open(source, format="mp4") as film:
            for packet in film.demux(*film.streams.video):
                # The last one only flushes; our streams hold nothing back.
                if packet.dts is None or packet.is_corrupt:
                    return
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def _whole_boxes(file: io.BufferedReader, size: int) -> int:
    """The length of an MP4 without a torn box at its end; torn media may hold whole frames."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4]), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:])
        if length < 8 or (start + length > size and kind != b"mdat"):
            break
        start += length
    return min(start, size)


def chapter_list(
    chapters: Sequence[tuple[int, str]], frames: int, rate: int
) -> list[dict[str, Any]]:
    """Chapters as PyAV takes them.

    Args:
        chapters: first frame and prompt of each.
        frames: of the film.
        rate: frames a second.
    """
    starts = [start for start, _ in chapters]
    return [
        {
            "id": index,
            "start": start,
            "end": stop,
            "time_base": Fraction(1, rate),
            "metadata": {"title": prompt},
        }
        for index, ((start, prompt), stop) in enumerate(
            zip(chapters, [*starts[1:], frames], strict=True)
        )
    ]
