"""The measurement of int8, end to end on a tiny model."""

from __future__ import annotations

import json
import math

import torch

from longtake.benchmarks import int8


def test_the_tiny_model_is_measured_with_and_without(tiny_model, tmp_path):
    out = tmp_path / "int8.json"
    more = ["--device", "cpu", "--dtype", "fp32", "--chunks", "1", "--out", str(out)]
    int8.main(["--model", str(tiny_model), *more])
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["cpu_int8_speedup"] > 0
    assert 20 < metrics["int8_psnr"] < 100
    assert 0.25 < metrics["int8_memory_ratio"] < 1


def test_psnr():
    black = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    assert int8.psnr(black, black + 255) == 0
    assert int8.psnr(black, black) == math.inf
