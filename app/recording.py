"""A film kept while it is made, to be saved at any time and gone on with."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from longtake.app.mp4 import Mp4Writer, chapter_list
from longtake.app.outputs import keep_existing
from longtake.streaming import StreamError


class Recording:
    """Frames encoded to disk as they come; memory stays constant however long the film.

    Every :meth:`save` ends a segment and joins all so far, without encoding anything twice.

    Args:
        width: pixels, even.
        height: pixels, even.
        rate: frames a second.
    """

    def __init__(self, width: int, height: int, rate: int) -> None:
        self._size = (width, height, rate)
        self._folder = tempfile.TemporaryDirectory(prefix="longtake-")
        self._segments: list[Mp4Writer] = []
        self._open: Mp4Writer | None = None

    def write(self, pixels: NDArray[np.uint8], prompt: str) -> None:
        """Add a frame.

        Args:
            pixels: uint8 RGB, [height, width, 3].
            prompt: in force; a new one begins a chapter.
        """
        if self._open is None:
            path = Path(self._folder.name) / f"{len(self._segments)}.mp4"
            self._open = Mp4Writer(path, *self._size, about={})
            self._segments.append(self._open)
        self._open.write(pixels, prompt)

    def save(self, path: Path, about: Mapping[str, Any]) -> Path | None:
        """Write everything recorded so far as one MP4 with chapters.

        Args:
            path: the file. A file of that name is kept under another.
            about: what made the film, JSON-like; stored under the metadata key ``longtake``.

        Returns:
            The name under which an existing file was kept, or None.

        Raises:
            StreamError: ``nothing_recorded``, or ``bad_output``: the file cannot be written.
        """
        if not self._segments:
            problem = "nothing has been recorded"
            raise StreamError("nothing_recorded", problem, "call run() before save()")
        if self._open is not None:
            self._open.close()
            self._open = None
        kept = keep_existing(path)
        try:
            self._join(path, about)
        except OSError as error:
            path.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            problem = f"{path} cannot be written ({reason})"
            hint = "nothing recorded is lost: make room or save elsewhere"
            raise StreamError("bad_output", problem, hint) from None
        return kept

    def close(self) -> None:
        """Delete what was recorded; what was saved stays."""
        if self._open is not None:
            self._open.close()
            self._open = None
        self._folder.cleanup()

    def _join(self, path: Path, about: Mapping[str, Any]) -> None:
        rate = self._size[2]
        chapters: list[tuple[int, str]] = []
        offset = 0
        options = {"movflags": "use_metadata_tags"}
        with av.open(str(path), "w", format="mp4", options=options) as film:
            film.metadata["longtake"] = json.dumps(dict(about), ensure_ascii=False)
            stream = None
            for segment in self._segments:
                for start, prompt in segment.chapters:
                    if not chapters or chapters[-1][1] != prompt:
                        chapters.append((offset + start, prompt))
                with av.open(str(segment.path)) as source:
                    track = source.streams.video[0]
                    if stream is None:
                        film.metadata["title"] = chapters[0][1]
                        stream = film.add_stream_from_template(track)
                    shift = int(offset * Fraction(1, rate) / track.time_base)
                    for packet in source.demux(track):
                        if packet.dts is None:
                            continue
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        film.mux(packet)
                offset += segment.frames
            film.set_chapters(chapter_list(chapters, offset, rate))
