"""Which session runs next: earliest deadline first, and a share for those without one."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from longtake.streaming.session import Session

# Of the device's time, for sessions without a deadline, as long as they can run.
SHARE = 0.2
# Seconds that they may be owed, or may have had in advance: neither an idle hour nor a busy one
# counts for long.
MOST_OWED = 0.5


class Scheduler:
    """Chooses among sessions that could run a step now, on one device.

    A live film has a deadline, a watch and an export have none: they take turns in the time that
    the films leave. Where films want more than there is, they would leave nothing; so those
    without a deadline have at least :data:`SHARE` of the time in which they can run, together,
    and the films, whose clocks count others' steps, slow down evenly by as much. Which it is, is a
    matter of the clock alone, not of the model.
    """

    def __init__(self) -> None:
        # Seconds that sessions without a deadline should have had by now.
        self._owed = -MOST_OWED
        self._passed_over = False

    def choose(self, ready: Sequence[Session[Any]]) -> Session[Any] | None:
        """The session to run, None of none; :meth:`spent` tells afterwards how long it took."""
        patient = [session for session in ready if not _has_deadline(session)]
        self._passed_over = bool(patient)
        return min(patient if self._owed > 0 and patient else ready, key=_urgency, default=None)

    def spent(self, session: Session[Any], seconds: float) -> None:
        """The session that was chosen had the device for so many seconds."""
        if not _has_deadline(session):
            self._owed -= (1 - SHARE) * seconds
        elif self._passed_over:
            self._owed += SHARE * seconds
        self._owed = min(max(self._owed, -MOST_OWED), MOST_OWED)


def _has_deadline(session: Session[Any]) -> bool:
    return session.clock.deadline(session.time) < inf


def _urgency(session: Session[Any]) -> tuple[float, float]:
    """Earliest deadline first; among equals, whoever has waited longest."""
    return session.clock.deadline(session.time), session.last_run
