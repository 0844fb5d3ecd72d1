"""What was said of a video: timed lines, from words and to files, and back."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from unicodedata import category

from longtake.app.outputs import keep_existing, reason, unwritable
from longtake.models.vlm.words import Words
from longtake.streaming import StreamError

SUFFIXES = (".vtt", ".srt", ".jsonl")


@dataclass(frozen=True)
class Line:
    """A caption, or the answer to a question.

    Attributes:
        start: presentation time in seconds at which what it speaks of begins.
        end: presentation time in seconds at which it ends.
        text: a single line, never empty.
        kind: ``caption`` or ``answer``.
        question: that it answers; empty for a caption.
    """

    start: float
    end: float
    text: str
    kind: Literal["caption", "answer"] = "caption"
    question: str = ""


class LineBuilder:
    """Puts lines together from the words of a captioner."""

    def __init__(self) -> None:
        self._pieces: list[Words] = []
        self._question = ""

    def add(self, words: Words, question: str = "") -> Line | None:
        """Take the next piece.

        Args:
            words: as the captioner gives them.
            question: that they answer.

        Returns:
            The line that they end, or None: it goes on, or nothing was said.
        """
        self._pieces.append(words)
        self._question = question
        return self.end() if words.final else None

    def end(self) -> Line | None:
        """The line as far as it got, where something was said; the next words begin another."""
        pieces, self._pieces = self._pieces, []
        text = _one_line("".join(piece.text for piece in pieces))
        if not text:
            return None
        first, last = pieces[0], pieces[-1]
        question = _one_line(self._question) if first.kind == "answer" else ""
        return Line(first.start, last.end, text, first.kind, question)


class TranscriptWriter:
    """Writes lines as they come; the file is whole after each of them, whatever happens then.

    Args:
        path: ends in ``.vtt`` (WebVTT), ``.srt`` (SubRip) or ``.jsonl``. A file of that name is
            kept under another (``kept``).

    Raises:
        StreamError: ``disk_full`` or ``bad_output``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self.kept = keep_existing(path, SUFFIXES)
        self._form = _FORMS[path.suffix.lower()]
        try:
            self._file = path.open("x", encoding="utf-8", newline="\n")
            if path.suffix.lower() == ".vtt":
                self._put("WEBVTT\n\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def write(self, line: Line) -> None:
        """Add a line.

        Raises:
            StreamError: ``disk_full`` or ``bad_output``; those before are in the file.
        """
        try:
            self._put(self._form(line, self.lines + 1))
        except OSError as error:
            hint = f"make room; the {self.lines} lines before are in it"
            raise unwritable(self.path, error, hint) from None
        self.lines += 1

    def close(self) -> None:
        """End the file. May be repeated."""
        with suppress(OSError):  # of what could not be written, as was said then
            self._file.close()

    def _put(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def read_transcript(path: Path) -> list[Line]:
    """Lines of a file that :class:`TranscriptWriter` wrote, perhaps torn at its end.

    Subtitles of other makers are read too, as captions.

    Args:
        path: ends in ``.vtt``, ``.srt`` or ``.jsonl``.

    Raises:
        StreamError: ``bad_transcript``: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        problem = f"{path} does not end in {', '.join(SUFFIXES)}"
        raise StreamError("bad_transcript", problem, "give a transcript")
    try:
        # A kill may have torn a character.
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        problem = f"{path} cannot be read ({reason(error)})"
        raise StreamError("bad_transcript", problem, "give a transcript") from None
    return _json_lines(path, text) if suffix == ".jsonl" else _cues(text, escaped=suffix == ".vtt")


def search(lines: Iterable[Line], words: str) -> list[Line]:
    """Lines in which every word is found, in any order, case or part of a longer word.

    Args:
        lines: of a transcript.
        words: separated by spaces; none finds nothing.
    """
    wanted = words.casefold().split()
    if not wanted:
        return []
    return [
        line
        for line in lines
        if all(word in f"{line.question} {line.text}".casefold() for word in wanted)
    ]


def plain(text: str) -> str:
    """Text without characters that command a terminal or end a line; spaces in their place."""
    return "".join(" " if category(each) in {"Cc", "Zl", "Zp"} else each for each in text)


def _one_line(text: str) -> str:
    """An empty line would end a cue, and others begin where none should."""
    return " ".join(plain(text).split())


def spoken(line: Line) -> str:
    """A line as a subtitle shows it: an answer below its question."""
    return f"Q: {line.question}\nA: {line.text}" if line.kind == "answer" else line.text


def _vtt(line: Line, _: int) -> str:
    start, end = _clock(line.start, "."), _clock(line.end, ".")
    return f"{start} --> {end}\n{html.escape(spoken(line), quote=False)}\n\n"


def _srt(line: Line, number: int) -> str:
    return f"{number}\n{_clock(line.start, ',')} --> {_clock(line.end, ',')}\n{spoken(line)}\n\n"


def _jsonl(line: Line, _: int) -> str:
    return json.dumps(asdict(line), ensure_ascii=False) + "\n"


_FORMS: dict[str, Callable[[Line, int], str]] = {".vtt": _vtt, ".srt": _srt, ".jsonl": _jsonl}


def _clock(seconds: float, point: str) -> str:
    """``00:01:02.345``, with as many hours as there are."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


_TIME = r"(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})"
_TIMING = re.compile(rf"{_TIME}\s+-->\s+{_TIME}(?:\s.*)?")


def _cues(text: str, *, escaped: bool) -> list[Line]:
    lines = []
    for block in re.split(r"\n{2,}", text.replace("\r\n", "\n")):
        rows = block.strip("\n").split("\n")
        # The times may follow a number or a name.
        at, times = next(
            ((at, found) for at, row in enumerate(rows[:2]) if (found := _TIMING.fullmatch(row))),
            (0, None),
        )
        if times is None:
            continue
        numbers = [int(each or 0) for each in times.groups()]
        start, end = _seconds(*numbers[:4]), _seconds(*numbers[4:])
        said = [html.unescape(row) if escaped else row for row in rows[at + 1 :]]
        match said:
            case [question, answer] if question.startswith("Q: ") and answer.startswith("A: "):
                lines.append(Line(start, end, answer[3:], "answer", question[3:]))
            case [_, *_]:
                lines.append(Line(start, end, _one_line(" ".join(said))))
    return [line for line in lines if line.text]


def _seconds(hours: int, minutes: int, seconds: int, milliseconds: int) -> float:
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _json_lines(path: Path, text: str) -> list[Line]:
    # What follows the last line's end is empty, unless the writer was killed.
    *rows, _ = text.split("\n")
    try:
        lines = [Line(**json.loads(row)) for row in rows if row.strip()]
    except (ValueError, TypeError):
        problem = f"{path} holds a line that is none of a transcript"
        raise StreamError("bad_transcript", problem, "give a transcript") from None
    return lines
