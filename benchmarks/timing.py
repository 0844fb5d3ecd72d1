"""What benchmarks on a GPU have to do before they look at the clock."""

from __future__ import annotations

import torch


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done all that was started; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
