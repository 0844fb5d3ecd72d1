"""What was measured can be measured again: no result names a place of the machine it comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longtake.benchmarks.report import origin

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def commands(told: object) -> Iterator[str]:
    """Every one, of the whole and of its parts."""
    if isinstance(told, dict):
        if "command" in told:
            yield told["command"]
        for each in told.values():
            yield from commands(each)


def test_a_result_that_goes_elsewhere_does_not_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["run", "--model", "/models/valley", "--out", "/results/it.json", "--films", "3"]
    monkeypatch.setattr("sys.argv", given)
    command = origin("-m longtake.benchmarks.x", torch.device("cpu"))["command"]
    assert command == "python -m longtake.benchmarks.x --model valley --out it.json --films 3"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_a_command_works_from_the_projects_folder(path: Path) -> None:
    found = list(commands(json.loads(path.read_text())))
    assert found
    for command in found:
        assert not [word for word in shlex.split(command) if Path(word).is_absolute()]
