"""The bundled models, and where they are."""

from __future__ import annotations

from pathlib import Path

GENERATOR = Path(__file__).parent / "valley"
JUDGE = Path(__file__).parent / "judge"
