"""A copy of a film with what was said of it as subtitles that a player can show or hide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av

from longtake.app.film_source import moving, origin
from longtake.app.outputs import write_whole
from longtake.app.transcript import Line, spoken
from longtake.streaming import StreamError

FILM = (".mp4",)
# Of subtitles' times; an MP4 counts them in microseconds whatever is asked for.
_TICKS = 1_000_000
# What an encoder of subtitles has to be told of styles: that there is one.
_STYLES = (
    "[Script Info]\r\nScriptType: v4.00+\r\n\r\n"
    "[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    "Style: Default,Arial,16\r\n\r\n[Events]\r\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


def add_subtitles(film: Path, lines: Sequence[Line], path: Path) -> Path | None:
    """Copy a film's pictures, sound and chapters as they are, and put a subtitle track beside them.

    Args:
        film: a video file, or anything else that holds pictures an MP4 can hold.
        lines: in order; a line is shown until the next one begins at the latest.
        path: ends in ``.mp4``; whole or not there at all. A file of that name is kept under
            another.

    Returns:
        The name under which an existing file was kept, or None.

    Raises:
        StreamError: ``bad_source``: the film cannot be copied into an MP4; ``disk_full`` or
            ``bad_output``.
    """
    try:
        return write_whole(path, FILM, lambda part: _copy(film, lines, part))
    except av.error.FFmpegError as error:
        raise _uncopied(film, error) from None


def _copy(film: Path, lines: Sequence[Line], path: Path) -> None:
    options = {"movflags": "use_metadata_tags"}
    with av.open(str(film)) as source, av.open(str(path), "w", "mp4", options) as copy:
        copy.metadata.update(source.metadata)
        copy.set_chapters(source.chapters())
        pictures = moving(source)[0]
        kept = [pictures, *source.streams.audio]
        try:
            streams = {each.index: copy.add_stream_from_template(each) for each in kept}
        except ValueError as error:
            raise _uncopied(film, error) from None
        words = copy.add_stream("mov_text")
        words.codec_context.subtitle_header = _STYLES.encode()
        words.time_base = Fraction(1, _TICKS)
        begin = origin(source, pictures)
        cues = _cues(words, lines, begin)
        cue = next(cues, None)
        for packet in _timed(source.demux(kept)):
            # A muxer wants all tracks in step.
            while cue is not None and cue.pts <= packet.dts * packet.time_base * _TICKS:
                copy.mux(cue)
                cue = next(cues, None)
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)
        while cue is not None:
            copy.mux(cue)
            cue = next(cues, None)


def _timed(packets: Iterable[Any]) -> Iterator[Any]:
    """Packets with the decoding times that a muxer needs; Matroska says none for the first few."""
    untimed: dict[int, list[Any]] = defaultdict(list)
    for packet in packets:
        if not packet.size:  # only flushes
            continue
        waiting = untimed[packet.stream.index]
        waiting.append(packet)
        if packet.dts is None:
            continue
        for back, each in enumerate(reversed(waiting)):
            each.dts = packet.dts - back * (packet.duration or 1)
        yield from waiting
        waiting.clear()


def _cues(stream: Any, lines: Sequence[Line], begin: Fraction) -> Iterator[Any]:  # noqa: ANN401
    """Lines as the format has them (3GPP TS 26.245), none of them longer than to the next."""
    for line, later in zip_longest(lines, lines[1:]):
        until = line.end if later is None else min(line.end, later.start)
        start = round((line.start + begin) * _TICKS)
        duration = round((until - line.start) * _TICKS)
        text = spoken(line).encode()
        # Not by FFmpeg's encoder, for which braces and backslashes would be commands.
        packet = av.Packet(len(text).to_bytes(2) + text)
        packet.pts = packet.dts = start
        packet.duration = duration
        packet.time_base = Fraction(1, _TICKS)
        packet.stream = stream
        yield packet


def _uncopied(film: Path, error: Exception) -> StreamError:
    problem = f"{film} cannot be copied into an MP4 ({error})"
    return StreamError("bad_source", problem, "use the transcript beside it")
