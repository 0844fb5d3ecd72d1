"""The door: ``python launch.py generate --prompt "..." --out take.mp4``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # This folder holds packages named `kernels` and `models`; on the path they would shadow
    # other people's.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    try:
        from longtake.app.cli import main
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed: run  pip install -c constraints.txt -e .  first")
    sys.exit(main())
