"""How much memory a model needs, how much there is, and what is said where that is too little."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

import torch

from longtake.models.folder import read_headers
from longtake.models.quantization import SCALE_SUFFIX
from longtake.streaming import StreamError

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
# What the CPU's allocator says: it has no exception of its own.
_CPU_REFUSALS = ("can't allocate memory", "not enough memory")


class Memory(NamedTuple):
    """Of a device, in bytes.

    Attributes:
        free: that may be taken now.
        total: that there are.
    """

    free: int
    total: int


@dataclass(frozen=True)
class Need:
    """Bytes that a model takes, by what takes them.

    Attributes:
        parts: names of what takes memory (``transformer``, ``cache``) and the bytes.
    """

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """The sum, written out."""
        terms = " + ".join(f"{name} {in_words(size)}" for name, size in self.parts.items())
        return terms if len(self.parts) == 1 else f"{terms} = {in_words(self.total)}"


Alternative = tuple[str, Need]
"""A setting in words, and what the model needs with it."""


class Sizes(Protocol):
    """All that decides how much memory a model takes."""

    @property
    def need(self) -> Need:
        """Of its weights and one session."""
        ...

    def alternatives(self) -> Iterator[Alternative]:
        """Settings that take less, in the order of preference."""
        ...


def in_words(size: int) -> str:
    """Bytes for a person to read."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of a part's weights once they are loaded, from the headers of its files.

    Args:
        folder: with safetensors files, int8 or not.
        dtype: of the loaded weights.

    Raises:
        StreamError: ``bad_model``: there is no file, or one that cannot be read.
    """
    headers = dict(read_headers(folder))
    scales = {name + SCALE_SUFFIX for name, header in headers.items() if header.dtype == "I8"}
    return dtype.itemsize * sum(
        math.prod(header.shape) for name, header in headers.items() if name not in scales
    )


def memory_of(device: torch.device) -> Memory:
    """What a device has; of a Mac's processor no more is known than what there is in all."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What torch keeps from tensors that are gone is as good as free.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(free + kept, total)
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return Memory(total - torch.mps.driver_allocated_memory(), total)
    if not _MEMINFO.exists():
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Memory(total, total)
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    machine = {words[0]: int(words[1]) * 1024 for words in lines}
    return _within_container(Memory(machine["MemAvailable:"], machine["MemTotal:"]))


@contextmanager
def making_room(what: object, sizes: Sizes, device: torch.device) -> Iterator[None]:
    """Refuse to load a model that does not fit; within, it is loaded.

    Args:
        what: its name or folder, for the message.
        sizes: of it.
        device: whose memory it takes.

    Raises:
        StreamError: ``no_memory``: more is needed than is free, with the sum and what would fit;
            or memory runs out all the same.
    """
    memory, need = memory_of(device), sizes.need
    if need.total > memory.free:
        problem = f"{what} needs {need}, and of the {device.type}'s {in_words(memory.total)} only"
        problem += f" {in_words(memory.free)} are free"
        raise StreamError("no_memory", problem, advice(sizes, memory.free))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise _ran_out(device, need) from None


def advice(sizes: Sizes, free: int) -> str:
    """What to do where something does not fit.

    Args:
        sizes: of it.
        free: bytes.
    """
    for setting, need in sizes.alternatives():
        if need.total <= free:
            return f"{setting} would fit, with {in_words(need.total)}"
    return "no setting makes it fit: end what else takes memory, or choose a smaller model"


class _Model(Protocol):
    """What :func:`tells_of_memory` asks of a model."""

    @property
    def device(self) -> torch.device: ...

    @property
    def session_need(self) -> Need: ...


Self = TypeVar("Self", bound=_Model)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def tells_of_memory(
    method: Callable[Concatenate[Self, Given], Result],
) -> Callable[Concatenate[Self, Given], Result]:
    """A method that makes one sentence of it where memory runs out.

    Its ``StreamError`` has the code ``no_memory``, and holds on to no tensor.
    """

    @wraps(method)
    def told(self: Self, /, *given: Given.args, **named: Given.kwargs) -> Result:
        try:
            return method(self, *given, **named)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        # Out here the failed forward's tensors are free, and the error holds on to none.
        raise _ran_out(self.device, self.session_need)

    return told


def _ran_out(device: torch.device, need: Need) -> StreamError:
    memory = memory_of(device)
    problem = f"the {device.type}'s memory of {in_words(memory.total)} ran out"
    problem += f" ({in_words(memory.free)} are free; it takes {need})"
    hint = "run fewer at a time, or with less to remember; `python launch.py doctor` says what fits"
    return StreamError("no_memory", problem, hint)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _CPU_REFUSALS)


def _within_container(machine: Memory) -> Memory:
    """What is left of a machine's memory where a control group (a container) is given less."""

    def number(name: str) -> int:
        return int((_CGROUP / name).read_text())

    try:
        limit, taken = number("memory.max"), number("memory.current")
        stat = dict(map(str.split, (_CGROUP / "memory.stat").read_text().splitlines()))
    except (OSError, ValueError):  # there is none, or its limit is "max"
        return machine
    # Files that were read count as taken until something else needs the room.
    free = limit - taken + int(stat.get("inactive_file", 0))
    return Memory(min(machine.free, free), min(machine.total, limit))
