"""How long OpenMP's threads wait for each other awake; to be said before torch is imported."""

from __future__ import annotations

import os

SPINS = "1000"
"""Enough to bridge the gaps between operations, where going to sleep would cost a third of the
speed; and few enough to let go of a core that another process wants. By default the runtime spins
for milliseconds, and a busy neighbour on one of two cores then slows a film to a few frames a
second."""


def limit_spinning() -> None:
    """Set ``GOMP_SPINCOUNT``, unless the user has said how threads wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
