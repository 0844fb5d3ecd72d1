"""Checkpoint files as others publish them: safetensors and pickles, mapped into memory.

Nothing is read until it is used, and no code of a pickle is ever run.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtake.models.folder import read_file, read_tensors
from longtake.streaming import StreamError

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
# What training wraps around modules, anywhere in a name, and what stands before all of it.
WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"}
PREFIXES = {"base_model", "model", "diffusion_model", "transformer"}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: of the file, or of the folder of a checkpoint in several.
        tensors: by their names in the file, on the CPU.
        entry: of the pickle, in which they were; empty where it holds nothing else.
        left_out: its other entries.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    entry: str = ""
    left_out: tuple[str, ...] = ()


def read_checkpoint(path: Path, entries: Sequence[str]) -> Checkpoint:
    """Map a file.

    Args:
        path: its suffix says what it is.
        entries: of a pickle that holds more than one set of tensors, the ones to use, best first.

    Raises:
        StreamError: ``bad_checkpoint``: it is truncated, no checkpoint, holds objects other than
            tensors, or none of the entries.
    """
    if path.suffix == ".safetensors":
        return Checkpoint(path, read_safetensors(path))
    if path.suffix not in PICKLES:
        hint = f"give a .safetensors file, or one of {', '.join(PICKLES)}"
        raise StreamError("bad_checkpoint", f"{path} is no checkpoint by its name", hint)
    data = _unpickle(path)
    if tensors := _tensors(data):
        return Checkpoint(path, tensors)
    assert isinstance(data, Mapping)
    for entry in entries:
        if tensors := _tensors(data.get(entry)):
            left_out = tuple(str(name) for name in data if name != entry)
            return Checkpoint(path, tensors, entry, left_out)
    problem = f"{path} holds {_listed(data)}, and none of {', '.join(entries)}"
    raise StreamError("bad_checkpoint", problem, "give the file that holds the weights")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file, or all those of a folder, which belong together.

    Raises:
        StreamError: ``bad_checkpoint``: one is truncated, missing or no safetensors file, or a
            tensor is in two of them.
    """
    tensors: dict[str, Tensor] = {}
    try:
        for name, tensor in read_tensors(path) if path.is_dir() else read_file(path):
            if name in tensors:
                problem = f"tensor {name} is in two files of {path}"
                hint = "keep there the files of one checkpoint only"
                raise StreamError("bad_checkpoint", problem, hint)
            tensors[name] = tensor
    except StreamError as error:
        if error.code == "bad_checkpoint":
            raise
        raise StreamError("bad_checkpoint", error.message, REFETCH) from None
    return tensors


def _unpickle(path: Path) -> object:
    try:
        # Files of before torch 1.6 are no archives and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if "unsupported global" not in str(error).lower():
            raise _unreadable(path, "it is no pickle of tensors") from None
        problem = f"{path} holds more than tensors, and loading it could run whatever it says"
        hint = "ask its makers for a .safetensors file"
        raise StreamError("bad_checkpoint", problem, hint) from None
    except Exception as error:  # a broken pickle raises all sorts
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise _unreadable(path, reason) from None
    if not isinstance(data, Mapping):
        problem = f"{path} holds a {type(data).__name__}, no tensors by their names"
        raise StreamError("bad_checkpoint", problem, "give the file that holds the weights")
    return data


def _unreadable(path: Path, reason: str) -> StreamError:
    return StreamError("bad_checkpoint", f"{path} cannot be read ({reason})", REFETCH)


def _tensors(data: object) -> dict[str, Tensor] | None:
    """The data if it is nothing but named tensors, at least one."""
    if not isinstance(data, Mapping) or not data:
        return None
    named = {str(name): value for name, value in data.items() if isinstance(value, Tensor)}
    return named if len(named) == len(data) else None


def _listed(names: Mapping[object, object]) -> str:
    listed = ", ".join(str(name) for name in list(names)[:5])
    return (listed or "nothing") + (", ..." if len(names) > 5 else "")


def bare_name(name: str) -> str:
    """A tensor's name without what training wrapped around its module.

    >>> bare_name("model._fsdp_wrapped_module.blocks.0.modulation")
    'blocks.0.modulation'
    """
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] in PREFIXES:
        del parts[0]
    return ".".join(parts)


REFETCH = "download it again"
