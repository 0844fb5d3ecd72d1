"""What the process holds in memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Bytes of main memory that this process has now; where there is no /proc, the most it had."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes()


def peak_bytes() -> int:
    """The most bytes of main memory that this process has had, pages of mapped files included."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    # Not what rusage says: that begins with what the process that started this one had.
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
