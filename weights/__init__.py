"""The bundled models, and where they are."""

from __future__ import annotations

from pathlib import Path

GENERATOR = Path(__file__).parent / "valley"
CAPTIONER = Path(__file__).parent / "witness"
JUDGE = Path(__file__).parent / "judge"
