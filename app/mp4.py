"""Films as MP4 files that stay playable whatever happens while they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.app.outputs import keep_existing, reason, unwritable
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


class Mp4Writer:
    """Writes H.264 (yuv420p) with a chapter for each prompt.

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
        self.frames = 0
        self.kept = keep_existing(path)
        self._rate = rate
        self._with_prompts = with_prompts
        self._closed = False
        self.chapters: list[tuple[int, str]] = []
        try:
            self._container = av.open(str(path), "w", format="mp4", options=_CONTAINER)
        except OSError as error:
            raise unwritable(path, error) from None
        self._container.metadata["longtake"] = json.dumps(dict(about), ensure_ascii=False)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_ENCODER)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, rate)
        self._stream.codec_context.gop_size = rate

    def write(self, pixels: NDArray[np.uint8], prompt: str) -> None:
        """Add a frame.

        Args:
            pixels: uint8 RGB, [height, width, 3].
            prompt: in force; a new one begins a chapter.

        Raises:
            StreamError: ``bad_output``: the disk is full, say; what was written stays playable.
        """
        if not self.chapters or self.chapters[-1][1] != prompt:
            self.chapters.append((self.frames, prompt))
            if self.frames == 0 and self._with_prompts:
                self._container.metadata["title"] = prompt
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts = self.frames
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise self._interrupted(error) from None
        self.frames += 1

    def close(self) -> None:
        """Finish the file: chapters and index. May be repeated.

        Raises:
            StreamError: ``bad_output``: the disk is full, say; what was written stays playable.
        """
        if self._closed:
            return
        self._closed = True
        if self._with_prompts:
            self._container.set_chapters(chapter_list(self.chapters, self.frames, self._rate))
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
        except OSError as error:
            raise self._interrupted(error) from None

    def _interrupted(self, error: OSError) -> StreamError:
        if not self.frames:  # the file is made with its first frame
            return unwritable(self.path, error)
        problem = f"writing {self.path} failed after {self.frames} frames ({reason(error)})"
        return StreamError("bad_output", problem, "make room; what was written stays playable")


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
