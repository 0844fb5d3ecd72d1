"""What a cache keeps when something new comes in: pure arithmetic on spans, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """A run of cache entries of one kind.

    Attributes:
        start: index of the first entry, counted from the start of the stream.
        length: entries, at least 1; their unit is the kind's (frames, tokens, milliseconds).
        kind: which rule applies.
    """

    start: int
    length: int
    kind: str = "frame"

    @property
    def stop(self) -> int:
        """Index after the last entry."""
        return self.start + self.length


@dataclass(frozen=True)
class Rule:
    """How much of one kind is kept.

    Attributes:
        sink: the first entries, kept for good (attention sinks: StreamingLLM, section 3).
        window: the newest entries, those coming in counted; 0 keeps none, None all.
        rank: kinds of a lower rank are moved ahead of kinds of a higher one.
    """

    sink: int = 0
    window: int | None = None
    rank: int = 0

    def __post_init__(self) -> None:
        if self.sink < 0:
            raise ValueError(f"sink is {self.sink}; it cannot be negative")
        if self.window is not None and self.window < 0:
            raise ValueError(f"window is {self.window}; it cannot be negative")

    def keep(self, spans: Sequence[Span], incoming: Sequence[Span]) -> list[Span]:
        """What stays of one kind; a span may be cut, and neighbours are merged.

        Args:
            spans: held, disjoint, ascending.
            incoming: about to be added.
        """
        if self.window is None:
            return _merge(spans)
        total = sum(span.length for span in spans)
        tail = max(0, self.window - sum(span.length for span in incoming))
        head = min(self.sink, total)
        dropped = range(head, max(head, total - tail))
        pieces: list[Span] = []
        offset = 0
        for span in spans:
            before = max(0, min(span.length, dropped.start - offset))
            after = max(0, min(span.length, offset + span.length - dropped.stop))
            if before:
                pieces.append(Span(span.start, before, span.kind))
            if after:
                pieces.append(Span(span.stop - after, after, span.kind))
            offset += span.length
        return _merge(pieces)


@dataclass(frozen=True)
class Recent:
    """Whole spans are kept while they are near enough to the newest one's end.

    Unlike :class:`Rule`'s window this measures, across gaps, and cuts nothing: for seconds.

    Attributes:
        reach: from the newest end, what is coming in included, back to where the oldest span
            that is kept may begin.
        rank: as :class:`Rule`'s.
    """

    reach: int
    rank: int = 0

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise ValueError(f"reach is {self.reach}; at least 1 is needed")

    def keep(self, spans: Sequence[Span], incoming: Sequence[Span]) -> list[Span]:
        """What stays of one kind, span by span; see :meth:`Rule.keep`."""
        newest = max((span.stop for span in (*spans, *incoming)), default=0)
        return [span for span in spans if span.start >= newest - self.reach]


class Budget:
    """The rules of every kind of entry in one cache.

    The generator's is ``frame: sink 3 + window 9``; the captioner's is ``text: sink 512 + window
    512`` ahead of ``turn: the last 16 seconds``.

    Args:
        rules: kind -> rule.
    """

    def __init__(self, rules: Mapping[str, Rule | Recent]) -> None:
        self.rules = dict(rules)

    def keep(self, spans: Sequence[Span], incoming: Sequence[Span] = ()) -> tuple[Span, ...]:
        """Choose what stays beside what comes in.

        Args:
            spans: what the cache holds, disjoint.
            incoming: what is about to be added; it counts towards the windows.

        Returns:
            The spans to keep, in cache order: by rank, then by start.

        Raises:
            KeyError: a kind without a rule.
        """
        kept: list[Span] = []
        for kind, rule in self.rules.items():
            mine = sorted(span for span in spans if span.kind == kind)
            kept += rule.keep(mine, [span for span in incoming if span.kind == kind])
        if strangers := {span.kind for span in (*spans, *incoming)} - self.rules.keys():
            raise KeyError(f"no rule for {', '.join(sorted(strangers))}")
        return tuple(sorted(kept, key=lambda span: (self.rules[span.kind].rank, span.start)))


def _merge(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].stop == span.start:
            last = merged.pop()
            merged.append(Span(last.start, last.length + span.length, span.kind))
        else:
            merged.append(span)
    return merged
