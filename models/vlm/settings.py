"""What a video is watched with: the published numbers, and what may change on the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from reprlib import repr as brief

from longtake.models.checks import check_text
from longtake.streaming import Event, StreamError

MAX_TEXT = 2000
MAX_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Settings:
    """``streaming.json`` of a captioner's folder; a folder without one has the defaults.

    The defaults are StreamingVLM's (Xu et al. 2025, section 3 and its command line's), but for the
    answers' length, which it has no use for.

    Attributes:
        fps: frames a second that are looked at, taken by their presentation times.
        round_seconds: the video that is read, and then spoken of, at a time.
        vision_seconds: how far back what was seen is kept, the round being watched included.
        text_sink: tokens of the first words, kept for good.
        text_window: tokens of the newest words whose video is kept no more.
        clock_seconds: after so many the clock that is told with the frames begins anew, so that it
            has as many digits in the second hour as in the second minute; 0 lets it run on, as
            StreamingVLM's does.
        reread: whether words are read again where they move to when their video leaves, as the
            plain text that a previous text is in training. Otherwise they keep the keys and values
            that they were said with, as StreamingVLM's do.
        round_tokens: said in a round at most.
        answer_tokens: said in a round at most where a question was asked.
        temperature: of sampling; 0 always takes the likeliest token.
        top_k: so many of the likeliest tokens are sampled from; 0 for all.
        repetition_penalty: above 1 makes what is remembered less likely to be said again (CTRL,
            section 4.1).
        min_pixels: of a frame as it is looked at; kept within what the folder's processor allows.
        max_pixels: as ``min_pixels``.
    """

    fps: float = 2.0
    round_seconds: float = 1.0
    vision_seconds: float = 16.0
    text_sink: int = 512
    text_window: int = 512
    clock_seconds: float = 0.0
    reread: bool = False
    round_tokens: int = 20
    answer_tokens: int = 64
    temperature: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.05
    min_pixels: int = 78_400
    max_pixels: int = 602_112

    def __post_init__(self) -> None:
        for name in ("fps", "round_seconds", "vision_seconds", "repetition_penalty"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it has to be above 0")
        for name in ("round_tokens", "answer_tokens", "min_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in ("text_sink", "text_window", "top_k"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it cannot be negative")
        if not (isfinite(self.clock_seconds) and self.clock_seconds >= 0):
            raise ValueError(f"clock_seconds is {self.clock_seconds}; use 0, or so many seconds")
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise ValueError(f"temperature is {self.temperature}; use 0 to {MAX_TEMPERATURE}")
        if self.max_pixels < self.min_pixels:
            raise ValueError(f"max_pixels is {self.max_pixels}, below {self.min_pixels}")
        if abs(self.fps * self.round_seconds - self.round_frames) > 1e-6 or not self.round_frames:
            shown = f"fps {self.fps} and round_seconds {self.round_seconds}"
            raise ValueError(f"{shown} make no whole number of frames")

    @property
    def round_frames(self) -> int:
        """Frames in a round."""
        return round(self.fps * self.round_seconds)


def check_event(event: Event) -> None:
    """Refuse an unknown field or an unfit value.

    Fields are ``prompt`` (the standing instruction; empty for none), ``ask`` (a question, answered
    in the next round) and ``temperature``.

    Raises:
        StreamError: ``bad_prompt``, ``bad_setting``.
    """
    value = event.value
    if event.transition:
        hint = "leave transition out: it is for a film's prompts"
        raise StreamError("bad_setting", f"{brief(event.field)} makes no transition", hint)
    if event.field == "prompt":
        check_text("instruction", value, MAX_TEXT, "say what to speak of")
    elif event.field == "ask":
        hint = "ask about what is seen"
        check_text("question", value, MAX_TEXT, hint)
        if not value.strip():
            raise StreamError("bad_prompt", "the question is empty", hint)
    elif event.field == "temperature":
        if not _is_number(value) or not 0 <= value <= MAX_TEMPERATURE:
            hint = f"use 0 to {MAX_TEMPERATURE}"
            raise StreamError("bad_setting", f"temperature is {brief(value)}", hint)
    else:
        hint = "there are prompt, ask, temperature"
        raise StreamError("bad_setting", f"there is no field {brief(event.field)}", hint)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
