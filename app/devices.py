"""Where to run and in which precision: asked for, or found out."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from longtake.kernels.cpu import has_bfloat16
from longtake.streaming import StreamError

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``mps`` to a device.

    Raises:
        StreamError: ``no_device``: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        problem = "there is no CUDA device that this torch can use"
        raise StreamError("no_device", problem, "leave --device out, or install a CUDA build")
    if name == "mps" and not torch.backends.mps.is_available():
        raise StreamError("no_device", "there is no MPS device", "leave --device out")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``, ``bf16`` or ``fp32`` to a dtype; ``auto`` is the one this processor is fast in."""
    if name in DTYPES:
        return DTYPES[name]
    return torch.bfloat16 if device.type != "cpu" or has_bfloat16() else torch.float32


def hardware(device: torch.device) -> str:
    """The processor in words, with its threads where it is a CPU."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {capability}, {torch.get_num_threads()} threads"
