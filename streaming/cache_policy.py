"""What a cache keeps when something new comes in: pure arithmetic on spans, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """A run of cache entries of one kind.

    Attributes:
        start: index of the first entry, counted from the start of the stream.
        length: entries, at least 1; their unit is the cache's (frames, tokens).
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
        window: the newest entries, those coming in counted; None keeps all.
        rank: kinds of a lower rank are moved ahead of kinds of a higher one.
    """

    sink: int = 0
    window: int | None = None
    rank: int = 0

    def __post_init__(self) -> None:
        if self.sink < 0:
            raise ValueError(f"sink is {self.sink}; it cannot be negative")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; at least 1 is needed")


class Budget:
    """The rules of every kind of entry in one cache.

    The generator's is ``frame: sink 3 + window 9``; a captioner's is ``prompt: all``,
    ``vision: window``, ``text: sink + window``.

    Args:
        rules: kind -> rule.
    """

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self.rules = dict(rules)

    def keep(self, spans: Sequence[Span], incoming: Sequence[Span] = ()) -> tuple[Span, ...]:
        """Choose what stays beside what comes in.

        Args:
            spans: what the cache holds, disjoint.
            incoming: what is about to be added; it counts towards the windows.

        Returns:
            The spans to keep, in cache order: by rank, then by start. Neighbours are merged.

        Raises:
            KeyError: a kind without a rule.
        """
        kept: list[Span] = []
        for kind, rule in self.rules.items():
            mine = sorted(span for span in spans if span.kind == kind)
            new = sum(span.length for span in incoming if span.kind == kind)
            kept += _keep_kind(mine, new, rule)
        if strangers := {span.kind for span in (*spans, *incoming)} - self.rules.keys():
            raise KeyError(f"no rule for {', '.join(sorted(strangers))}")
        return tuple(sorted(kept, key=lambda span: (self.rules[span.kind].rank, span.start)))


def _keep_kind(spans: Sequence[Span], incoming: int, rule: Rule) -> list[Span]:
    total = sum(span.length for span in spans)
    if rule.window is None:
        return _merge(spans)
    tail = max(0, rule.window - incoming)
    head = min(rule.sink, total)
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


def _merge(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].stop == span.start:
            last = merged.pop()
            merged.append(Span(last.start, last.length + span.length, span.kind))
        else:
            merged.append(span)
    return merged
