"""Longtake: one continuous shot that you steer while it is being shot.

The public Python API. Names load when they are first used, so that a part can be imported without
the libraries of the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtake.app.api import Model
    from longtake.app.api import open_model as open  # noqa: A004
    from longtake.app.client import RemoteSession, connect
    from longtake.app.frames import Frame
    from longtake.app.take import Take
    from longtake.app.transcript import Line
    from longtake.app.witness import Watch, Witness
    from longtake.app.witness import open_witness as witness
    from longtake.streaming import StreamError

__version__ = "0.1.0"
__all__ = [
    "Frame",
    "Line",
    "Model",
    "RemoteSession",
    "StreamError",
    "Take",
    "Watch",
    "Witness",
    "__version__",
    "connect",
    "open",
    "witness",
]

_HOMES = {
    "Frame": ("longtake.app.frames", "Frame"),
    "Line": ("longtake.app.transcript", "Line"),
    "Model": ("longtake.app.api", "Model"),
    "RemoteSession": ("longtake.app.client", "RemoteSession"),
    "StreamError": ("longtake.streaming", "StreamError"),
    "Take": ("longtake.app.take", "Take"),
    "Watch": ("longtake.app.witness", "Watch"),
    "Witness": ("longtake.app.witness", "Witness"),
    "connect": ("longtake.app.client", "connect"),
    "open": ("longtake.app.api", "open_model"),
    "witness": ("longtake.app.witness", "open_witness"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'longtake' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    import_module("longtake.app.threads").limit_spinning()
    return getattr(import_module(module), attribute)
