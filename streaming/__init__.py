"""The engine: sessions, time, queues and budgets. It knows no model, no web and no file format."""

from __future__ import annotations

from longtake.streaming.cache_policy import Budget, Recent, Rule, Span
from longtake.streaming.clock import Clock, VirtualClock, WallClock
from longtake.streaming.engine import Engine
from longtake.streaming.errors import StreamError
from longtake.streaming.events import Applied, Boundary, Event, InputFrame, Media, Step, Tensors
from longtake.streaming.metrics import Summary
from longtake.streaming.model import Spec, StreamModel
from longtake.streaming.session import Progress, Session, Status

__all__ = [
    "Applied",
    "Boundary",
    "Budget",
    "Clock",
    "Engine",
    "Event",
    "InputFrame",
    "Media",
    "Progress",
    "Recent",
    "Rule",
    "Session",
    "Span",
    "Spec",
    "Status",
    "Step",
    "StreamError",
    "StreamModel",
    "Summary",
    "Tensors",
    "VirtualClock",
    "WallClock",
]
