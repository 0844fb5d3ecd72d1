"""From published files to films, end to end at toy size."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import av
import pytest
import torch

from longtake.app.expected import expected_fps
from longtake.benchmarks import full_size, published
from longtake.benchmarks.full_size import Filming, Results
from longtake.benchmarks.published import original_names
from longtake.benchmarks.random_model import NoDecoder, wan_shape
from longtake.kernels import bind
from longtake.models.video.memory import FilmSizes
from longtake.models.video.originals import rename_transformer
from longtake.models.video.transformer import WanTransformer

CPU = torch.device("cpu")
TOY = ["--toy", "--device", "cpu", "--dtype", "fp32", "--seconds", "3"]
# In a folder of PYTHONPATH: the interpreter, and those that it starts, find no such packages.
MISSING = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
absent = {"av", "gradio", "websockets", "bitsandbytes"}


def find_other(name, path=None, target=None):
    return None if name.partition(".")[0] in absent else find(name, path, target)


PathFinder.find_spec = staticmethod(find_other)
"""


def test_the_names_are_those_of_the_published_transformer():
    shape = wan_shape()
    with torch.device("meta"):
        module = WanTransformer(shape.transformer, bind(CPU, torch.float32))
    names = original_names(shape.transformer.num_layers)
    assert len(names) == len(set(names)) == 825
    assert {"blocks.29.self_attn.norm_q.weight", "head.modulation", "time_projection.1.bias"} < (
        set(names)
    )
    renamed = rename_transformer(names)
    assert renamed.keys() == dict(module.named_parameters()).keys()
    assert set(renamed.values()) == set(names)


def test_films_are_made_of_what_was_converted(tmp_path, monkeypatch):
    counted = {}

    def predicted(self, settings):
        counted[str(settings)] = count(self, settings)
        return counted[str(settings)]

    count = Filming.predicted
    monkeypatch.setattr(Filming, "predicted", predicted)
    assert full_size.main([*TOY, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "full_size_cpu.json").read_text())
    assert result["failures"] == {}
    assert result["model"] == "toy"
    metrics, settings = result["metrics"], result["settings"]
    for name in ("", "offload_text_", "offload_text_once_", "int8_"):
        for key in ("fps", "first_frame_s", "switch_s", "load_s", "predicted_mb", "resident_mb"):
            assert metrics[f"{name}{key}"] > 0
    for name, changes in full_size.VARIANTS.items():
        told = f"{metrics[f'{name}fps']:.1f} (full_size_cpu.json)"
        sizes = counted[str(changes)]
        assert expected_fps("mine", sizes, result["hardware"], tmp_path) == [told]
    assert metrics["int8_predicted_mb"] < metrics["predicted_mb"]
    assert metrics["convert_peak_mb"] > 0
    assert settings["text_encoder"] == "a stand-in of one layer"
    # As it was filmed: what converting says, but for the toy's picture and cache.
    assert (settings["streaming"]["width"], settings["streaming"]["steps"]) == (32, 4)
    with av.open(str(tmp_path / "film.mp4")) as film:
        titles = [chapter["metadata"]["title"] for chapter in film.chapters()]
        assert len(list(film.decode(video=0))) == metrics["frames"] == 48 + 8
    assert titles == [full_size.PROMPT, full_size.OTHER]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        *("full_size_cpu.json", "film.mp4", "offload_text_film.mp4"),
        *("offload_text_once_film.mp4", "int8_film.mp4"),
    }


def test_without_what_codes_and_serves_films_are_made_and_counted(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(MISSING)
    command = [sys.executable, "-m", "longtake.benchmarks.full_size", *TOY]
    told = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command += ["--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=told)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").iterdir()
    result = json.loads(file.read_text())
    assert result["failures"] == {}
    assert result["settings"]["films"] == "not coded: PyAV is missing"
    assert result["metrics"]["frames"] == 56
    assert result["metrics"]["int8_fps"] > 0


def test_a_part_that_fails_is_a_line_and_the_next_goes_on(tmp_path, monkeypatch, capsys):
    made = []

    def film(self, name, settings, seconds, to):
        made.append(name)
        if name == "offload_text_":
            raise RuntimeError("no kernel\nfor this device")

    def convert(sources, out, largest, results):
        out.mkdir()

    monkeypatch.setattr(Filming, "film", film)
    monkeypatch.setattr(Filming, "predicted", lambda self, settings: wan_sizes())
    monkeypatch.setattr(full_size, "convert", convert)
    assert full_size.main([*TOY, "--out", str(tmp_path)]) == 1
    assert made == list(full_size.VARIANTS)
    line = "RuntimeError: no kernel for this device"
    assert f"offload_text_film failed: {line}\n" in capsys.readouterr().err
    result = json.loads((tmp_path / "full_size_cpu.json").read_text())
    assert result["failures"] == {"offload_text_film": line}


def test_a_conversion_that_fails_says_why_and_nothing_is_filmed(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "original_names", lambda layers: original_names(layers)[:-1])
    monkeypatch.setattr(Filming, "film", pytest.fail)
    assert full_size.main([*TOY, "--out", str(tmp_path)]) == 1
    result = json.loads((tmp_path / "full_size_cpu.json").read_text())
    assert "lacks tensor blocks.1" in result["failures"]["convert"]


def wan_sizes():
    return FilmSizes(
        wan_shape().transformer,
        NoDecoder(),
        wan_shape().streaming,
        torch.bfloat16,
        {"transformer": 10**9, "vae": 10**8},
    )


@pytest.mark.parametrize(("share", "holds"), [(0.89, False), (0.91, True), (1.09, True), (1.2, 0)])
def test_a_peak_is_held_against_what_was_predicted(share, holds):
    results, sizes = Results(), wan_sizes()
    total = sizes.need.total
    results.compare("int8_", sizes, 11 * 10**8, round(share * total), 2 * total)
    assert results.checks == {"int8_peak": bool(holds)}
    assert results.metrics["int8_peak_ratio"] == pytest.approx(share)
    assert (
        results.metrics["int8_weights_predicted_mb"] == results.metrics["int8_weights_mb"] == 1100
    )
