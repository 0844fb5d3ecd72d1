"""The kernels' benchmark, end to end at toy size."""

from __future__ import annotations

import json

import pytest
import torch

from longtake.benchmarks import kernels
from longtake.kernels import BlockMap, implementations
from longtake.kernels.registry import OPERATIONS


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_every_kernel_that_runs_here_is_set_against_its_reference_and_the_machine(dtype, tmp_path):
    out = tmp_path / "kernels.json"
    small = ["--shapes", "toy", "--repeats", "1", "--device", "cpu", "--dtype", dtype]
    kernels.main([*small, "--out", str(out)])
    metrics = json.loads(out.read_text())["metrics"]
    for operation in OPERATIONS:
        labels = {label.partition("/")[0] for label in metrics if label.startswith(operation)}
        assert labels
        names = {each.name for each in implementations(operation)} & {"reference", "cpu"}
        for name in names:
            assert any(f"{label}/{name}_us" in metrics for label in labels)
    assert {"ceiling_tflops", "ceiling_int8_tflops", "ceiling_gbs", "int8_linear_speedup"} <= set(
        metrics
    )


def test_a_slow_call_is_repeated_until_there_is_no_more_time(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: 0.7 * next(clock))
    calls = []
    seconds = kernels.seconds_of(calls.append, (1,), torch.device("cpu"), 200)
    assert seconds == pytest.approx(0.7)
    assert len(calls) == 3


def test_what_is_achieved_is_set_against_the_ceiling_of_its_kind():
    most = {"ceiling_tflops": 10.0, "ceiling_int8_tflops": 20.0, "ceiling_gbs": 100.0}
    product = kernels.Case("attention", (), flops=5e12)
    assert kernels.achieved("a", product, 1.0, most) == {"a_tflops": 5, "a_share": 0.5}
    int8 = kernels.Case("int8_linear", (), flops=5e12, int8=True)
    assert kernels.achieved("a", int8, 1.0, most)["a_share"] == 0.25
    copy = kernels.Case("rope", (), moved=5e9)
    assert kernels.achieved("a", copy, 0.5, most) == {"a_gbs": 10, "a_share": 0.1}


def test_pairs_seen_are_counted_token_by_token():
    # Frames of 5 in blocks of 3: 3 queries see 3 + 2 keys, 2 queries see 2.
    blocks = BlockMap(torch.tensor([[0, 3], [1, 9]]), torch.tensor([2, 1]), 3)
    assert kernels.pairs_seen(blocks, 5) == 3 * 5 + 2 * 2


def test_radial_attention_is_measured_over_longer_memories_too():
    def draw(*shape):
        return torch.zeros(shape)

    made = dict(kernels.block_cases(kernels.SHAPES["bundled"], draw))
    labels = [
        f"{kind}_{n}" for kind, n in (("dense", 12), *(("radial", n) for n in (12, 42, 84, 168)))
    ]
    assert list(made) == [f"block_attention_{label}" for label in labels]
    dense, *radial = [made[f"block_attention_{label}"].flops for label in labels]
    assert dense == 4 * 384 * 144 * 12 * 72
    assert radial[0] < dense
    assert radial[2] < 2 * radial[0]
    # Each doubling adds the same.
    assert radial[3] - radial[2] == pytest.approx(radial[2] - radial[1], rel=0.35)
