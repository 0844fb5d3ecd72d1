"""What is installed beside the code: whatever it reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_READ = {"README.md", "SHA256SUMS"}
"""Names of files that are for people, and for who makes the weights."""


def test_every_file_that_code_reads_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {package: ROOT / folder for package, folder in setuptools["package-dir"].items()}
    installed = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in folders[package].glob(pattern)
    }
    read = {
        path
        for folder in folders.values()
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix != ".py"
        and path.name not in NOT_READ
        and "__pycache__" not in path.parts
    }
    assert {path.relative_to(ROOT).as_posix() for path in read - installed} == set()
