"""What the captioner says, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Words:
    """A piece of timed text: the payload of a captioner's media.

    Pieces of one round, joined, are what it said; nothing is stripped or added. Silence is a
    single piece, empty and final.

    Attributes:
        text: as it goes on; empty where the piece only ends something.
        start: presentation time in seconds at which what it speaks of begins.
        end: presentation time in seconds at which it ends.
        kind: ``caption`` of what is seen, or ``answer`` to a question.
        final: nothing more belongs to this caption or answer.
    """

    text: str
    start: float
    end: float
    kind: Literal["caption", "answer"]
    final: bool
