"""The command `bench`, end to end at toy size."""

from __future__ import annotations

import json

import pytest
import torch

from longtake.app.cli import main
from longtake.app.expected import expected_fps
from longtake.benchmarks import bench, random_model
from longtake.kernels import bind
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import film_sizes
from longtake.models.video.tiny_codec import TinyCodec
from longtake.models.video.transformer import WanTransformer
from longtake.models.video.wan_codec import WanCodec

CPU = torch.device("cpu")
SMALL = ["--device", "cpu", "--dtype", "fp32", "--seconds", "0.5"]


def result_of(out, *options):
    assert main(["bench", *SMALL, *options, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_toy_is_measured_whole_and_part_by_part(tmp_path):
    result = result_of(tmp_path / "bench.json", "--toy", "--kernels", "1")
    assert result.keys() == {*("hardware", "versions", "command", "metrics", "settings", "counted")}
    assert result["command"].split()[:2] == ["python", "launch.py"]
    metrics = result["metrics"]
    wanted = {"dit_fps_fp32", "dit_fps_int8", "e2e_fps_tiny_decoder", "e2e_fps_wan_vae"}
    wanted |= {"int8_memory_ratio", "switch_cost_chunks", "first_frame_s", "int8_linear_speedup"}
    wanted |= {"decode_chunk_ms_wan_vae", "cold_first_chunk_s_fp32", "ceiling_tflops"}
    wanted |= {f"radial{frames}_over_dense6" for frames in (42, 84, 168)}
    assert wanted <= metrics.keys()
    assert all(value > 0 for name, value in metrics.items() if "_fps" in name or "_ms" in name)
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    settings = result["settings"]
    assert settings["kernels"] == dict(bind(CPU, torch.float32).names)
    assert settings["streaming"]["chunk"] == 2
    assert "CUDA graphs need an NVIDIA GPU" in settings["forwards"]
    assert {"dit_fps", "e2e_fps", "text encoder", "cold"} <= result["counted"].keys()


def test_a_folder_is_measured_with_its_own_decoder(tiny_model, tmp_path):
    result = result_of(tmp_path / "bench.json", "--model", str(tiny_model), "--kernels", "0")
    metrics = result["metrics"]
    for int8, name in ((False, "fp32"), (True, "int8")):
        sizes = film_sizes(tiny_model, torch.float32, CPU, int8=int8)
        told = f"{metrics[f'e2e_fps_tiny_decoder_{name}']:.1f} (bench.json)"
        assert expected_fps("mine", sizes, result["hardware"], tmp_path) == [told]
    assert {"dit_fps_fp32", "e2e_fps_tiny_decoder", "int8_memory_ratio"} <= metrics.keys()
    assert not [name for name in metrics if "wan_vae" in name or "ceiling" in name]
    assert result["settings"]["model"] == "tiny"


@pytest.mark.parametrize(
    ("capability", "precisions"), [("avx512_bf16", ["bf16"]), ("avx2", ["bf16", "int8"])]
)
def test_int8_is_measured_where_something_of_a_folder_is_faster_in_it(
    capability, precisions, tiny_model, monkeypatch
):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {capability: True})
    subject = bench.Subject(CPU, torch.bfloat16, tiny_model, random_model.toy_shape())
    assert list(subject.precisions) == precisions


def test_a_cache_in_fp8_is_measured_where_it_is_served(tmp_path, monkeypatch):
    monkeypatch.setattr("longtake.benchmarks.int8.serves_fp8", lambda *where: True)
    metrics = result_of(tmp_path / "bench.json", "--toy", "--kernels", "0")["metrics"]
    assert {"dit_fps_int8_fp8", "e2e_fps_wan_vae_int8_fp8"} <= metrics.keys()
    assert metrics["weights_mb_int8_fp8"] == metrics["weights_mb_int8"]


def test_what_was_measured_before_it_is_stopped_is_kept(tmp_path, monkeypatch):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "film_metrics", stopped)
    out = tmp_path / "bench.json"
    assert main(["bench", *SMALL, "--toy", "--out", str(out)]) == 130
    result = json.loads(out.read_text())
    assert {"dit_fps_fp32", "decode_chunk_ms_tiny_decoder"} <= result["metrics"].keys()
    assert result["settings"]["dtype"] == "fp32"


def test_a_missing_folder_is_one_sentence(tmp_path, capsys):
    assert main(["bench", "--model", str(tmp_path / "none")]) == 2
    assert "there is no model folder" in capsys.readouterr().err


def test_the_full_shape_is_wan_1_3b_with_longlives_cache():
    shape = random_model.wan_shape()
    with torch.device("meta"):
        transformer = WanTransformer(shape.transformer, bind(CPU, torch.float32))
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 1_418_996_800
    config = shape.streaming
    assert (config.height, config.width, config.chunk, config.steps) == (480, 832, 3, 4)
    assert (config.sink, config.window) == (3, 9)
    assert (shape.tiny_decoder.temporal, shape.tiny_decoder.spatial) == (4, 8)


@pytest.fixture
def toy() -> VideoGenerator:
    shape, kernels = random_model.toy_shape(), bind(CPU, torch.float32)
    return random_model.random_generator(shape, kernels, CPU, torch.float32, int8=False)


@pytest.mark.parametrize(("name", "kind"), [("tiny_decoder", TinyCodec), ("wan_vae", WanCodec)])
def test_random_weights_make_films_with_either_decoder(toy, name, kind):
    codec = random_model.random_decoder(random_model.toy_shape(), name, CPU, torch.float32)
    assert isinstance(codec, kind)
    film = random_model.with_decoder(toy, codec)
    state = film.open(bench.PROMPT, 1)
    frames = []
    while not (step := film.step(state)).boundary:
        frames += [payload for payload, _ in step.media]
    made = torch.cat(frames)
    # Wan's first latent is one frame; of two latents that makes five.
    assert made.shape == (5, 32, 32, 3)
    assert film.transformer is toy.transformer


def test_a_film_without_a_decoder_has_no_frames_and_the_same_latents(toy):
    codec = random_model.random_decoder(
        random_model.toy_shape(), "tiny_decoder", CPU, torch.float32
    )
    films = [toy, random_model.with_decoder(toy, codec)]
    states = [film.open(bench.PROMPT, 1) for film in films]
    for film, state in zip(films, states, strict=True):
        bench.take(bench.laps(film, state), 3)
    silent, loud = (state.history for state in states)
    assert silent.keys() == loud.keys()
    assert all(torch.equal(silent[frame], loud[frame]) for frame in silent)


def test_best_settings_are_chosen_over_precisions():
    metrics = {
        "e2e_fps_wan_vae_bf16": 10.0,
        "e2e_fps_wan_vae_int8": 12.0,
        "first_frame_s_wan_vae_bf16": 0.5,
        "first_frame_s_wan_vae_int8": 0.4,
        "switch_cost_chunks_bf16": 0.7,
        "switch_cost_chunks_int8": 0.6,
    }
    assert bench.best(metrics, "bf16") == {
        "e2e_fps_wan_vae": 12.0,
        "first_frame_s": 0.4,
        "switch_cost_chunks": 0.7,
    }
