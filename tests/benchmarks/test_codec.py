"""The benchmark of Wan's decoder, end to end at toy size."""

from __future__ import annotations

import json

import pytest
import torch

from longtake.benchmarks import codec


def test_every_way_is_set_against_diffusers_in_float32(tmp_path, capsys, monkeypatch):
    # What a compiler does is torch's to test, and it takes its time.
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    out = tmp_path / "codec.json"
    small = ["--toy", "--device", "cpu", "--dtype", "fp32", "--repeats", "1", "--seconds", "1000"]
    codec.main([*small, "--out", str(out)])
    result = json.loads(out.read_text())
    assert result.keys() == {*("hardware", "versions", "command", "metrics", "settings", "counted")}
    metrics = result["metrics"]
    names = {"diffusers", "ours", "by_latent", "reference_norm", "searched"}
    assert {name.removesuffix("_psnr") for name in metrics if name.endswith("_psnr")} == names
    assert all(metrics[f"{name}_psnr"] > 90 and metrics[f"{name}_ms"] > 0 for name in names)
    assert {"op_norm_fused_gbs", "op_attention_sdpa_tflops", "op_conv_out_8_ms"} <= metrics.keys()
    told = [line for line in capsys.readouterr().out.splitlines() if "failed" in line]
    assert told == ["graphed failed: RuntimeError: CUDA graphs need an NVIDIA GPU"]


def test_what_fails_is_one_line_and_the_next_goes_on(capsys):
    with codec.told("this"):
        raise ValueError("two\nlines")
    assert capsys.readouterr().out == "this failed: ValueError: two lines\n"


def test_nothing_is_begun_when_the_time_is_over(tmp_path, capsys):
    options = codec.parser().parse_args(["--toy", "--seconds", "0"])
    cpu = torch.device("cpu")
    with torch.inference_mode():
        assert codec.measure(cpu, torch.float32, options, lambda metrics: None) == {}
    assert "diffusers left out: 0 seconds are over" in capsys.readouterr().out


def test_what_is_slow_is_measured_less_often(monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(codec.time, "perf_counter", lambda: float(next(now)))
    calls = []
    codec.seconds_of(lambda: calls.append(1), torch.device("cpu"), 100, settling=2)
    assert len(calls) == 3


@pytest.mark.parametrize(("error", "decibels"), [(0.01, 20), (0.0, 200)])
def test_psnr_is_of_pictures_from_0_to_1(error, decibels):
    assert codec.psnr(error) == pytest.approx(decibels)
