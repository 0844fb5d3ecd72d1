"""Where what people make and fetch is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """Longtake's folder for what can be made anew; it need not be there."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "longtake"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake"


def user_data() -> Path:
    """Longtake's folder among the user's data; it need not be there."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "longtake"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "longtake"
