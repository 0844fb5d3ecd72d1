"""A take on disk: one safetensors file whose header carries the rest as JSON."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from longtake.streaming import StreamError

FORMAT = "longtake.take/2"


def write_snapshot(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write a snapshot; an earlier one of that name is replaced, whole or not at all.

    Args:
        path: the file; its folder exists.
        tensors: named, on the CPU.
        note: JSON-like.

    Raises:
        StreamError: ``bad_output``: the file cannot be written.
    """
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        os.close(handle)
        save_file(tensors, name, {"longtake": json.dumps(note | {"format": FORMAT})})
        Path(name).replace(path)
    except (OSError, SafetensorError) as error:
        if name:
            Path(name).unlink(missing_ok=True)
        problem = f"{path} cannot be written ({error})"
        raise StreamError("bad_output", problem, "choose another place") from None


def read_snapshot(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note of a snapshot.

    Raises:
        StreamError: ``bad_snapshot``: the file cannot be read, or is something else.
    """
    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {}).get("longtake", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        problem = f"{path} cannot be read ({error})"
        raise StreamError("bad_snapshot", problem, _HINT) from None
    if note.get("format") != FORMAT:
        problem = f"{path} is no snapshot of a take"
        raise StreamError("bad_snapshot", problem, _HINT)
    return tensors, note


_HINT = "give a file made by Take.snapshot()"
