from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from longtake.app.api import open_model
from longtake.benchmarks import bundled, film, table
from longtake.benchmarks.camera import StreamCamera
from longtake.benchmarks.pictures import save_sheet, sheet
from longtake.models.video.settings import StreamingConfig
from longtake.training import check, codec, package
from longtake.training.judge import Judge, JudgeConfig, load_judge
from longtake.training.pool import clip_pool, renders
from longtake.training.valley.world import COUNTS, sample_scenes

TOY = Path(__file__).parents[1] / "toy.json"
PAGES = {".json", ".md"}


@pytest.fixture(scope="module")
def packaged(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy stages as model folders."""
    folder = tmp_path_factory.mktemp("packaged")
    package.package(built / "generator", built / "codec", built / "judge", folder)
    return folder


def _reading_of_everything(folder: Path, device: torch.device) -> Judge:
    """The packaged judge, which as a toy reads the same in all clips, reading at random instead."""
    judge = load_judge(folder, device)

    def read(clips: Tensor) -> Tensor:
        total = clips.flatten(1).sum(1, dtype=torch.long)[:, None]
        return total * torch.arange(1, 12) % 97 % torch.tensor(COUNTS)

    judge.read = read
    return judge


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Short parts, and a `generate` that only notes its options; 8 FPS with AVX2, else 40."""
    made: dict[str | None, int] = {}
    monkeypatch.setattr(bundled, "load_judge", _reading_of_everything)
    options: list[tuple[str, ...]] = []

    def generate(seconds: float, *given: str, environment: dict[str, str]) -> dict[str, Any]:
        options.append(given)
        speeds = {"avx2": [7.0, 8.0, 30.0], None: [40.0, 41.0, 1.0]}
        capability = environment.get("ATEN_CPU_CAPABILITY")
        made[capability] = made.get(capability, 0) + 1
        return {"fps": speeds[capability][made[capability] % 3]}

    monkeypatch.setattr(bundled, "generate", generate)
    monkeypatch.setattr(bundled, "LONG_SECONDS", 8.0)
    monkeypatch.setattr(bundled, "KEPT_SECONDS", 6.0)
    monkeypatch.setattr(bundled, "SEEDS", 2)
    return options


def _options(packaged: Path, out: Path, *more: str) -> argparse.Namespace:
    given = ["--model", str(packaged / "valley"), "--judge", str(packaged / "judge")]
    given += ["--out", str(out), "--films", "5", "--dtype", "fp32", "--device", "cpu"]
    return bundled.parser().parse_args([*given, *more])


def test_a_packaged_model_is_measured_through_the_application(
    packaged: Path, tmp_path: Path, spoken: list[tuple[str, ...]]
) -> None:
    out = tmp_path / "results" / "bundled.json"
    bundled.evaluate(_options(packaged, out))
    result = json.loads(out.read_text())
    metrics = result["metrics"]
    assert table.TARGETS.keys() <= metrics.keys()
    more = {"adherence_colour", "adherence_training_pairs", "persistence_renders"}
    more |= {"adherence_after_switch_renders", "ablation_recache_second_-1", "int8_adherence_delta"}
    more |= {f"open{way}_{what}" for way in ("", "_undrawn") for what in ("told", "kept")}
    assert more <= metrics.keys()
    for row in ("recache", "keep", "flush", "sink0", "window10"):
        assert {f"ablation_{row}_{column}" for column in table.COLUMNS} <= metrics.keys()
    assert result["parts"].keys() == bundled.PARTS.keys()
    assert (metrics["cpu_fps"], metrics["cpu_fps_avx2"]) == (40, 8)
    assert all(str(packaged / "valley") in given for given in spoken)
    lengths = {given[given.index("--chunk") + 1] for given in spoken if "--chunk" in given}
    assert lengths == {"1", "2", "3"}
    assert {f"chunk{n}_fps{more}" for n in (1, 2, 3) for more in ("", "_avx2")} <= metrics.keys()
    page = out.with_suffix(".md").read_text()
    assert "| cpu_fps | ≥ 20 | ≥ 30 | 40 |" in page
    pictures = sorted(path.name for path in out.parent.iterdir() if path.suffix not in PAGES)
    assert pictures == ["bundled_ablation.png", "bundled_films.webp", "bundled_switches.webp"]
    assert all(f"({name})" in page for name in pictures)

    marked = metrics | {"adherence": 0.5, "codec_psnr": 0.5}
    out.write_text(json.dumps(result | {"metrics": marked}))
    again = bundled.evaluate(_options(packaged, out, "--only", "speed", "codec"))
    assert again == metrics | {"adherence": 0.5}
    assert again == json.loads(out.read_text())["metrics"]


def test_what_was_measured_outlasts_a_failure(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bundled.Bench) -> dict[str, float]:
        raise KeyboardInterrupt

    parts = {"codec": lambda _: {"codec_psnr": 30.0}, "speed": fail}
    monkeypatch.setattr(bundled, "PARTS", parts)
    out = tmp_path / "bundled.json"
    with pytest.raises(KeyboardInterrupt):
        bundled.evaluate(_options(packaged, out))
    assert json.loads(out.read_text())["metrics"] == {"codec_psnr": 30}
    assert [path.name for path in tmp_path.iterdir()] == ["bundled.json"]


def test_the_quick_check_measures_the_same(built: Path) -> None:
    given = [f"--{name}={built / name}" for name in ("generator", "codec", "judge")]
    options = check.parser().parse_args([*given, "--films", "4", "--long", "8", "--device", "cpu"])
    metrics = check.check(options)
    assert {"adherence_mean", "switch_early", "switch_seam", "drift_drift"} <= metrics.keys()
    assert (built / "generator" / "switch.png").stat().st_size > 0


def test_the_stream_camera_shoots_what_the_application_makes(tiny_model: Path) -> None:
    scripts = [{0: "a red ball", 2: "night falls"}, {0: "green grass"}]
    with open_model(tiny_model, device="cpu", dtype="fp32") as model:
        camera = StreamCamera(model)
        films = list(camera.shoot(scripts, 4, 3))
        take = model.take("a red ball", seed=3)
        take.prompt("night falls", at=2 * camera.chunk_frames / model.rate)
        frames = [frame.pixels for frame in take.frames(4 * camera.chunk_frames / model.rate)]
        second = model.take("green grass", seed=4)
        first_frame = next(iter(second.frames(1))).pixels
        flushed = next(iter(StreamCamera(model, switch="flush").shoot(scripts[:1], 4, 3)))
        border = 2 * camera.chunk_frames
    assert np.array_equal(films[0][0].permute(0, 2, 3, 1).numpy(), np.stack(frames))
    assert np.array_equal(films[1][0, 0].permute(1, 2, 0).numpy(), first_frame)
    assert torch.equal(flushed[:, :border], films[0][:, :border])
    assert not torch.equal(flushed[:, border:], films[0][:, border:])


def test_renders_for_comparison_are_of_the_same_attributes(packaged: Path) -> None:
    judge = argparse.Namespace(config=JudgeConfig())
    rows = sample_scenes(2, torch.Generator().manual_seed(0)).attributes
    with open_model(packaged / "valley", device="cpu") as model:
        bench = bundled.Bench(model, judge, 5, 1, Path("x.json"))
        shown = bench.rendered(rows, 5.0)
        assert shown.shape == (2, 32, 3, 144, 256)
        assert torch.equal(shown, bench.rendered(rows, 5.0))
        # Half a second later the same films have moved on by eight frames.
        assert torch.equal(bench.rendered(rows, 5.5)[:, :24], shown[:, 8:])


@pytest.mark.parametrize(
    ("chunk", "window", "windows"),
    [(2, 10, {6, 12}), (3, 9, {6, 12}), (2, 6, {10, 12}), (6, 12, {6})],
)
def test_the_ablation_tries_other_caches_than_the_models_own(
    chunk: int, window: int, windows: set[int]
) -> None:
    described = json.loads(TOY.read_text())["streaming"]
    config = StreamingConfig(**described | {"chunk": chunk, "window": window})
    rows = bundled.ablation_settings(config)
    assert list(rows)[:4] == ["recache", "keep", "flush", "sink0"]
    assert {row["window"] for row in rows.values() if "window" in row} == windows


class _Same:
    """A codec that loses nothing, or everything."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def parameters(self):
        return iter([torch.zeros(1)])

    def encode(self, frames: Tensor) -> Tensor:
        return frames * self.gain

    def decode(self, latents: Tensor) -> tuple[Tensor, None]:
        return latents, None


def test_the_codecs_ratio_is_what_the_judge_loses() -> None:
    clips, rows, _ = clip_pool(3, 40, torch.Generator().manual_seed(0), held_out=True)

    class Knows:
        def read(self, some: Tensor) -> Tensor:
            right = (some == clips[:, 8:]).flatten(1).all(1)
            return torch.where(right[:, None], rows, -1)

    def ratio(gain: float) -> dict[str, float]:
        return codec.measure(_Same(gain), Knows(), 3, torch.Generator().manual_seed(0))

    assert ratio(1.0)["judge_ratio"] == 1
    assert ratio(0.5)["judge_ratio"] == 0
    assert ratio(0.5)["psnr"] < 20


def test_the_page_says_what_was_missed_and_with_what_it_was_made() -> None:
    part = {"hardware": "a CPU", "command": "python -m x", "weights": "1", "seconds": 1}
    metrics = {"seam": 3.5, "drift_120s": -0.02, "motion_ratio": 1.2, "other": 1.0}
    page = table.page({"metrics": metrics, "parts": {"a": part, "b": part}}, [])
    assert "- a, b: `python -m x` (a CPU)" in page
    assert "| seam | ≤ 3 | ≤ 1.5 | **3.5** |" in page
    assert "| drift_120s | ≥ -0.03 | ≥ 0 | -0.02 |" in page
    assert "| motion_ratio | 0.85 to 1.15 | 0.95 to 1.05 | **1.2** |" in page
    assert "| other | 1 |" in page
    assert "ablation" not in page
    assert "same weights" not in page
    mixed = {"metrics": metrics, "parts": {"a": part, "b": part | {"weights": "2"}}}
    assert "Not all of it was measured with the same weights" in table.page(mixed, [])


def test_sheets_are_small(tmp_path: Path) -> None:
    scenes = sample_scenes(4, torch.Generator().manual_seed(0))
    cpu = torch.device("cpu")
    (films,) = renders(scenes, scenes, start=0.0, frames=7, change=0.0, device=cpu)
    path = tmp_path / "new" / "sheet.webp"
    save_sheet(sheet(list(films), ["one line", "two\nlines", "", "last"]), path)
    assert path.stat().st_size < 60_000
    with Image.open(path) as picture:
        assert picture.size == (7 * 128, 4 * (72 + 14 + 4) + 14)


def test_generate_runs_with_the_environment_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def run(command: list[str], **given: Any) -> argparse.Namespace:
        told.update(given, command=command)
        return argparse.Namespace(stdout='{"fps": 12.5}\n')

    monkeypatch.setattr(film.subprocess, "run", run)
    monkeypatch.setenv("KEPT", "1")
    environment = {"ATEN_CPU_CAPABILITY": "avx2"}
    assert film.generate(60, "--dtype", "fp32", environment=environment) == {"fps": 12.5}
    assert told["env"].items() >= {("KEPT", "1"), ("ATEN_CPU_CAPABILITY", "avx2")}
    assert told["command"][-6:-2] == ["--dtype", "fp32", "--seconds", "60"]


@pytest.mark.parametrize("module", ["bundled", "film", "kernels"])
def test_benchmarks_tell_threads_to_spin_little_before_torch_is_there(module: str) -> None:
    code = f"""
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
sys.argv = ["benchmark", "--help"]
runpy.run_module("longtake.benchmarks.{module}", run_name="__main__")
"""
    kept = {k: v for k, v in film.os.environ.items() if not k.startswith(("GOMP_", "OMP_WAIT"))}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "1000"
