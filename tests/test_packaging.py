"""What is installed beside the code: whatever it reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_READ = {"README.md", "SHA256SUMS"}
"""Names of files that are for people, and for who makes the weights."""
MADE = {"__pycache__"}


def test_every_file_that_code_reads_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    patterns = setuptools["package-data"]
    missing = set()
    for package, folder in setuptools["package-dir"].items():
        installed = {
            path for glob in patterns.get(package, ()) for path in (ROOT / folder).glob(glob)
        }
        missing |= {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
            and path.suffix != ".py"
            and path.name not in NOT_READ
            and not MADE & set(path.parts)
            and path not in installed
        }
    nested = {f"{folder}/" for folder in setuptools["package-dir"].values()}
    # A package within another brings its own.
    inner = tuple(each for each in nested if each.count("/") > 1)
    assert {path for path in missing if not path.startswith(inner)} == set()
