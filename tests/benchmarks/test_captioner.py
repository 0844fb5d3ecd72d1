"""The captioner's evaluation, end to end on a toy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from longtake.benchmarks import captioner
from longtake.training.witness import (
    build_captioner,
    make_tokenizer,
    read_description,
    save_captioner,
)

TOY = Path(__file__).parents[1] / "toy_captioner.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, described = tmp_path_factory.mktemp("toy"), read_description(TOY)
    torch.manual_seed(0)
    tokenizer = make_tokenizer(described)
    save_captioner(build_captioner(described, tokenizer), tokenizer, described, path)
    return path


def run(folder: Path, out: Path, *more: str) -> dict[str, float]:
    captioner.main(["--model", str(folder), "--out", str(out), "--clips", "1", *more])
    metrics: dict[str, float] = json.loads(out.read_text())["metrics"]
    return metrics


def test_a_model_that_learned_nothing_knows_no_world(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "captioner.json"
    metrics = run(folder, out, "--only", "worlds")
    # It never says that it does not know one.
    assert metrics["out_of_world"] == 0.5
    assert metrics["in_world"] == 1


def test_parts_that_are_not_run_again_are_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "captioner.json"
    out.write_text(json.dumps({"metrics": {"questions": 0.5}, "parts": {}}))
    metrics = run(folder, out, "--only", "hours", "--hours", "0.006")
    assert metrics["questions"] == 0.5
    assert metrics["hour2_memory_ratio"] > 0
