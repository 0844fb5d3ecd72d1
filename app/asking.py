"""A question on the terminal."""

from __future__ import annotations

import sys


def agreed(question: str) -> bool:
    """Whether the answer is yes; anything else, no answer too, is no."""
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
