"""All that a captioner still remembers of the chat, in the order of its cache.

``prompt | old words | <|im_end|> | turn | turn | ...``: when a turn's video leaves the window, its
words move to the end of the old words, ahead of every turn that stays, and the rest of it goes
(StreamingVLM, section 3.1). Of the old words the first and the newest stay.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from longtake.models.vlm.positions import chain, text_positions, turn_positions
from longtake.models.vlm.turns import Grid, Turn
from longtake.streaming import Budget, Recent, Rule, Span


def make_budget(vision_seconds: float, text_sink: int, text_window: int) -> Budget:
    """The rules of :class:`Context`: old words by tokens, ahead of turns by milliseconds.

    Args:
        vision_seconds: above 0, how far back turns are kept, the one coming in included.
        text_sink: tokens.
        text_window: tokens.
    """
    return Budget(
        {
            "text": Rule(text_sink, text_window, rank=0),
            "turn": Recent(max(1, round(1000 * vision_seconds)), rank=1),
        }
    )


@dataclass
class Context:
    """Tokens by their structure, and their positions, contiguous from 0.

    Attributes:
        prompt: tokens of the system message and the previous text's beginning.
        closing: tokens that end the previous text.
        step: between two groups of frames on the time axis, see :func:`.vision_positions`.
        text: old words.
        numbers: which of all words ever moved the old words are.
        moved: how many those are.
        turns: whose video is kept, oldest first.
    """

    prompt: list[int]
    closing: list[int]
    step: float
    text: list[int] = field(default_factory=list)
    numbers: list[Span] = field(default_factory=list)
    moved: int = 0
    turns: list[Turn] = field(default_factory=list)

    def __len__(self) -> int:
        return self._first_turn + sum(map(len, self.turns))

    @property
    def _first_turn(self) -> int:
        return len(self.prompt) + len(self.text) + len(self.closing)

    def ids(self) -> list[int]:
        """All token ids, in order."""
        return sum((turn.ids for turn in self.turns), self.prompt + self.text + self.closing)

    def positions(self) -> Tensor:
        """Rotary positions of all tokens.

        Returns:
            float64, [tokens, 3], axes time, height, width.
        """
        turns = (turn_positions(turn, self.step) for turn in self.turns)
        return chain((text_positions(self._first_turn), *turns))

    def evict(self, budget: Budget, start: float, end: float) -> list[int]:
        """Make room for a turn to come.

        The newest turn stays in any case: the end of it is yet to be written into the cache.

        Args:
            budget: see :func:`make_budget`.
            start: presentation time of the turn to come, in seconds.
            end: as ``start``.

        Returns:
            For every token that stays, in the new order, its index in the old one.
        """
        spans = [_milliseconds(turn.start, turn.end) for turn in self.turns]
        near = set(budget.keep(spans[:-1], [*spans[-1:], _milliseconds(start, end)]))
        rows = list(range(len(self.prompt), len(self.prompt) + len(self.text)))
        closing = range(len(self.prompt) + len(self.text), self._first_turn)
        kept_turns: list[Turn] = []
        kept_rows: list[int] = []
        offset = self._first_turn
        for turn, span in zip(self.turns, spans, strict=True):
            if span in near or turn is self.turns[-1]:
                kept_turns.append(turn)
                kept_rows += range(offset, offset + len(turn))
            elif turn.words:
                first = offset + len(turn.head)
                rows += range(first, first + len(turn.words))
                self.text += turn.words
                self.numbers.append(Span(self.moved, len(turn.words), "text"))
                self.moved += len(turn.words)
            offset += len(turn)
        self.turns = kept_turns
        words = self._keep_words(budget)
        return [*range(len(self.prompt)), *(rows[word] for word in words), *closing, *kept_rows]

    def _keep_words(self, budget: Budget) -> list[int]:
        """Forget the middle of the old words; the indices of those that stay."""
        numbers = [number for span in self.numbers for number in range(span.start, span.stop)]
        self.numbers = list(budget.keep(self.numbers))
        kept = {number for span in self.numbers for number in range(span.start, span.stop)}
        indices = [index for index, number in enumerate(numbers) if number in kept]
        self.text = [self.text[index] for index in indices]
        return indices

    def newest(self, moved: int) -> range:
        """Where in the context the old words stand that moved after the first ``moved``."""
        end = len(self.prompt) + len(self.text)
        count = sum(max(0, span.stop - max(span.start, moved)) for span in self.numbers)
        return range(end - count, end)

    def save(self) -> dict[str, Any]:
        """Everything, as JSON-like values."""
        return asdict(self)

    @staticmethod
    def load(values: dict[str, Any]) -> Context:
        """From what :meth:`save` gave."""
        turns = [Turn(**(turn | {"grid": Grid(**turn["grid"])})) for turn in values["turns"]]
        numbers = [Span(**span) for span in values["numbers"]]
        return Context(**(values | {"turns": turns, "numbers": numbers}))


def _milliseconds(start: float, end: float) -> Span:
    return Span(round(1000 * start), max(1, round(1000 * (end - start))), "turn")
