"""One stream for hours, on a virtual clock: what gets worse, slower or bigger, and with what.

The captioner as it is, and two others of the same weights (StreamingVLM, section 4, figure 6;
StreamingLLM, section 3): one that forgets nothing until its memory is full, and one whose window
has lost its first tokens, which much attention goes to.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from longtake.models.vlm.captioner import Captioner, WatchState
from longtake.streaming import Tensors
from longtake.training.caption_metrics import (
    Shares,
    mark_now,
    rendered_rounds,
    show,
    speak,
    story_of,
)
from longtake.training.valley.hearing import Listener
from longtake.training.valley.script import Scripts, draw_scripts

MEGABYTE = 1_000_000
FIRST, SECOND = 60, 120
"""Seconds that a window takes to be filled, and after which the second minute is over."""
AGAIN = 10
"""How often that minute is watched once more in the second half, and compared with a minute there:
a machine that others use is not as fast a quarter of an hour later."""


@dataclass(frozen=True)
class Round:
    """A second of the stream.

    `marks`: of what is believed after it; `cost`: seconds of computing for a token, read or found;
    `words`: seconds that each word took after the first; `held`: bytes of the cache with something
    in them; `taken`: all of it.
    """

    marks: dict[str, bool]
    cost: float
    words: list[float]
    held: int
    taken: int


Saved = tuple[Tensors, dict[str, Any]]
"""A watch that can go on from there, see `Captioner.save`."""
Part = tuple[Saved, Sequence[tuple[int, Tensor]]]
"""Some seconds of a story: what was saved before them, and each with its frames."""


@dataclass(frozen=True)
class Course:
    """A stream minute by minute: share of right attributes, ms a token, MB of what is held."""

    accuracy: list[float]
    token_ms: list[float]
    memory_mb: list[float]


@dataclass(frozen=True)
class Stream:
    """What came of a stream: `metrics` by name, and its `course`; `watched`: seconds of it."""

    metrics: dict[str, float]
    course: Course
    watched: int

    @property
    def about(self) -> dict[str, Any]:
        """What is written down beside the metrics."""
        return {"watched_seconds": self.watched, "course": asdict(self.course)}


def stream_bounded(captioner: Captioner, seconds: int, seed: int, memory: int) -> Stream:  # noqa: ARG001
    """The captioner as it is."""
    # Of a stream shorter than four minutes the second quarter stands for the second minute.
    first, last = max(1, min(FIRST, seconds // 4)), max(2, min(SECOND, seconds // 2))
    script, half = draw_story(captioner, seconds, seed), seconds // 2
    newest: deque[tuple[int, Tensor]] = deque(maxlen=last - first)
    begun: dict[int, Saved] = {}
    parts: list[Part] = []
    pairs: list[tuple[list[Round], list[Round]]] = []

    def remember(shown: Iterable[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
        for each in shown:
            newest.append(each)
            yield each

    def compare(state: WatchState) -> None:
        if start := begun.pop(state.round - (last - first), None):
            parts.append((start, list(newest)))
            if len(parts) > 1:
                pairs.append(_by_turns(captioner, script, parts[0], parts.pop()))
        later = state.round >= half and state.round % max(1, half // AGAIN) == 0
        if later or state.round == first:
            begun[state.round] = captioner.save(state)

    shown = remember(_shown(captioner, script, seconds))
    rounds = list(follow_on(captioner, captioner.open("", seed), script, shown, compare))
    late = rounds[half:]

    def ratio(cost: Callable[[Sequence[Round]], float]) -> float:
        return statistics.median(cost(now) / cost(then) for then, now in pairs)

    metrics = {
        "caption_hour2_delta": _accuracy(late) - _accuracy(rounds[:half]),
        "hour2_memory_ratio": late[-1].taken / rounds[last - 1].taken,
        "hour2_time_ratio": ratio(_cost),
        "hour2_word_ratio": ratio(_word_cost),
    }
    return Stream(metrics, course(rounds), seconds)


def _by_turns(
    captioner: Captioner, script: Scripts, *parts: Part
) -> tuple[list[Round], list[Round]]:
    """Two parts of a story watched once more, a round of each in its turn."""
    one, other = (
        follow_on(captioner, captioner.load(*start), script, frames) for start, frames in parts
    )
    then, now = zip(*zip(one, other, strict=True), strict=True)
    return list(then), list(now)


def stream_unbounded(captioner: Captioner, seconds: int, seed: int, memory: int) -> Stream:
    """All that was seen and said is kept, until `memory` bytes are full."""
    fits = seconds_within(captioner, memory)
    settings = replace(captioner.settings, vision_seconds=float(fits))
    rounds = list(follow(captioner.watching_with(settings), min(seconds, fits), seed))
    metrics = {"unbounded_token_ms": 1000 * _cost(rounds[-FIRST:])}
    if fits <= seconds:
        metrics["unbounded_seconds"] = fits
    return Stream(metrics, course(rounds), len(rounds))


def stream_sinkless(captioner: Captioner, seconds: int, seed: int, memory: int) -> Stream:  # noqa: ARG001
    """The same windows, but once they move the first tokens are lost with the rest."""
    full = round(captioner.settings.vision_seconds / captioner.settings.round_seconds)
    watcher = captioner.watching_with(replace(captioner.settings, text_sink=0))

    def lose(state: WatchState) -> None:
        if state.round == full:
            lose_sinks(state)

    rounds = list(follow(watcher, seconds, seed, lose))
    return Stream({"sinkless_accuracy": _accuracy(rounds[full:])}, course(rounds), seconds)


STREAMS: dict[str, Callable[[Captioner, int, int, int], Stream]] = {
    "hours": stream_bounded,
    "hours_unbounded": stream_unbounded,
    "hours_sinkless": stream_sinkless,
}
"""Each of a captioner, the stream's seconds, a seed, and the memory that may be filled in bytes."""


def follow(
    captioner: Captioner,
    seconds: int,
    seed: int,
    after: Callable[[WatchState], None] | None = None,
) -> Iterator[Round]:
    """Watch one rendered story for so many seconds; `after` is called at the end of each."""
    script = draw_story(captioner, seconds, seed)
    shown = _shown(captioner, script, seconds)
    return follow_on(captioner, captioner.open("", seed), script, shown, after)


def draw_story(captioner: Captioner, seconds: int, seed: int) -> Scripts:
    """The script of that story."""
    drawn = torch.Generator().manual_seed(seed)
    script = draw_scripts(1, seconds, drawn, held_out=True, still=0)
    return script.to(captioner.network.device)


def _shown(captioner: Captioner, script: Scripts, seconds: int) -> Iterator[tuple[int, Tensor]]:
    return enumerate(rendered_rounds(script, seconds, captioner.settings.fps))


def follow_on(
    captioner: Captioner,
    state: WatchState,
    script: Scripts,
    shown: Iterable[tuple[int, Tensor]],
    after: Callable[[WatchState], None] | None = None,
) -> Iterator[Round]:
    """As `follow`, from a state that is there: some seconds of a story, each with its frames.

    The state is closed in the end.
    """
    story, listener = story_of(script, 0), Listener()
    try:
        for second, frames in shown:
            show(captioner, state, second, frames)
            reread, spent = state.reread, list[float]()
            listener.hear(speak(captioner, state, spent))
            again = state.reread - reread
            cost = sum(spent) / (len(state.context.turns[-1]) + again)
            # One forward sees and one reads, which finds the first word or none; one more may have
            # read old words again.
            words = spent[2 + (again > 0) :]
            taken, room = state.cache.bytes, state.cache.get_max_length()
            held = taken * state.cache.length // room
            yield Round(mark_now(story, listener, second), cost, words, held, taken)
            if after is not None:
                after(state)
    finally:
        captioner.close(state)


@torch.inference_mode()
def lose_sinks(state: WatchState) -> None:
    """Forget the system message and the end of the old words, at a boundary: no token stays first.

    The instruction would be rewritten by a new one only.
    """
    context = state.context
    words = range(len(context.prompt), len(context.prompt) + len(context.text))
    kept = [*words, *range(words.stop + len(context.closing), state.written)]
    context.prompt, context.closing = [], []
    state.cache.compact(kept, context.positions()[: len(kept)])
    state.written = len(kept)


def seconds_within(captioner: Captioner, memory: int) -> int:
    """Seconds of video for which a cache of so many bytes has room, each as long as it may be.

    At least a round.
    """

    def cache(seconds: float) -> int:
        settings = replace(captioner.settings, vision_seconds=seconds)
        return captioner.watching_with(settings).session_need.parts["cache"]

    span = captioner.settings.round_seconds
    one = cache(2 * span) - cache(span)
    return int(span * max(1, 1 + (memory - cache(span)) // one))


def course(rounds: Sequence[Round]) -> Course:
    """Minutes of a stream; what is left over at its end counts as one."""
    minutes = [rounds[first : first + 60] for first in range(0, len(rounds), 60)]
    return Course(
        [round(_accuracy(each), 4) for each in minutes],
        [round(1000 * _cost(each), 3) for each in minutes],
        [round(each[-1].held / MEGABYTE, 2) for each in minutes],
    )


def _accuracy(rounds: Sequence[Round]) -> float:
    shares = Shares()
    for each in rounds:
        for name, right in each.marks.items():
            shares.add(name, right)
    return shares.share()


def _cost(rounds: Sequence[Round]) -> float:
    return statistics.median(each.cost for each in rounds)


def _word_cost(rounds: Sequence[Round]) -> float:
    # Of a stream too short for a word to be said there is nothing to compare.
    words = [seconds for each in rounds for seconds in each.words]
    return statistics.median(words) if words else 1.0
