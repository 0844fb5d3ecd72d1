from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.benchmarks import trial
from longtake.models.video.kv_cache import CacheSettings, KVCache
from longtake.models.video.settings import StreamingConfig
from longtake.training import codec, dataset, generator, judge, package
from longtake.training.codec import load_codec
from longtake.training.dataset import CHUNKS, SCENE, Clips, Plan, make_batch, pieces_of, thing_cells
from longtake.training.generator import Flow, draw_levels, load_denoiser, window_attention
from longtake.training.judge import accuracy
from longtake.training.loop import schedule
from longtake.training.metrics import seam
from longtake.training.pool import times
from longtake.training.render import render
from longtake.training.world import COLOUR, Scenes, sample_scenes

TOY = {
    "transformer": {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "ffn_dim": 32,
        "num_layers": 2,
        "text_dim": 16,
        "freq_dim": 32,
    },
    "vae": {
        "patch_size": 2,
        "blocks": 1,
        "encoder_channels": [4, 4, 4, 4],
        "encoder_pool": [1, 2, 2],
        "encoder_stride": [1, 2, 2],
        "decoder_channels": [4, 4, 4, 4],
        "decoder_scale": [2, 2, 1],
        "decoder_grow": [2, 2, 1],
    },
    "text_encoder": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_heads": 2,
        "num_layers": 1,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    },
    "streaming": {
        "width": 128,
        "height": 128,
        "rate": 16,
        "chunk": 3,
        "sink": 3,
        "window": 9,
        "steps": 2,
        "shift": 3.0,
        "text_length": 48,
        "positions": "relative",
        "recache": "causal",
    },
}
LOOP = ["--steps", "3", "--no-compile", "--device", "cpu"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage run as a toy, each in a folder of its name."""
    root = tmp_path_factory.mktemp("built")
    (root / "toy.json").write_text(json.dumps(TOY))
    for name in ("judge", "codec"):
        _stage(root, name, root / name)
    data = ["--codec", str(root / "codec"), "--out", str(root / "data"), "--device", "cpu"]
    sizes = ["--clips", "12", "--openings", "6", "--batch", "3"]
    dataset.build(dataset.parser().parse_args([*data, *sizes]))
    _stage(root, "generator", root / "generator")
    return root


def _stage(root: Path, name: str, out: Path, *more: str) -> None:
    if name == "judge":
        wanted = ["--pool", "6", "--test", "2", "--batch", "3"]
        judge.train(judge.parser().parse_args([*LOOP, "--out", str(out), *wanted, *more]))
        return
    wanted = ["--out", str(out), "--config", str(root / "toy.json")]
    if name == "codec":
        wanted += ["--pool", "6", "--test", "2", "--batch", "6", "--frames", "8"]
        codec.train(codec.parser().parse_args([*LOOP, *wanted, *more]))
        return
    wanted += ["--data", str(root / "data"), "--batch", "3"]
    generator.train(generator.parser().parse_args([*LOOP, *wanted, *more]))


def test_the_generator_trains_with_adamw_alone_too(built: Path, tmp_path: Path) -> None:
    _stage(built, "generator", tmp_path, "--muon", "0")
    folders = (tmp_path, built / "generator")
    adam, muon = (load_file(folder / "model.safetensors") for folder in folders)
    assert any(not torch.equal(value, muon[key]) for key, value in adam.items())


@pytest.mark.parametrize("name", ["judge", "codec", "generator"])
def test_a_stage_resumed_gives_the_same_weights(built: Path, tmp_path: Path, name: str) -> None:
    _stage(built, name, tmp_path, "--pause", "2")
    _stage(built, name, tmp_path, "--resume")
    straight = load_file(built / name / "model.safetensors")
    resumed = load_file(tmp_path / "model.safetensors")
    assert straight.keys() == resumed.keys()
    for key, value in straight.items():
        assert torch.equal(value, resumed[key]), key
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("name", ["judge", "codec", "generator"])
def test_a_stage_can_begin_from_trained_weights(built: Path, tmp_path: Path, name: str) -> None:
    still = ("--muon", "0") if name == "generator" else ()
    _stage(built, name, tmp_path, "--init", str(built / name), "--rate", "0", *still)
    begun = load_file(tmp_path / "model.safetensors")
    for key, value in load_file(built / name / "model.safetensors").items():
        torch.testing.assert_close(begun[key], value)


def test_the_dataset_is_what_its_plans_say(built: Path) -> None:
    clips = Clips.load(built / "data" / "films.0.safetensors", "cpu")
    assert clips.latents.shape == (12, 16, 12, 16, 16)
    assert clips.latents.dtype == torch.bfloat16
    assert torch.equal(clips.border > 0, (clips.before != clips.after).any(1))
    coder = load_codec(built / "codec")
    again = make_batch(coder, 3, 0, 1)
    assert torch.equal(again.latents, clips.latents[3:6])
    assert torch.equal(again.after, clips.after[3:6])
    openings = Clips.load(built / "data" / "openings.0.safetensors", "cpu")
    assert openings.latents.shape == (6, 16, 3, 16, 16)
    assert torch.equal(openings.before, openings.after)


def test_warm_up_makes_a_later_piece_equal_the_whole_film(built: Path) -> None:
    coder = load_codec(built / "codec")
    scenes = sample_scenes(1, torch.Generator().manual_seed(0))
    start = torch.tensor([0.75])
    (whole,) = pieces_of(Plan("start", "plain", SCENE, 0), scenes, scenes, start)
    pieces = pieces_of(Plan("gap", "plain", SCENE, 0), scenes, scenes, start)
    assert torch.equal(pieces[0].frames, whole.frames[:, :12])
    assert torch.equal(pieces[1].frames, whole.frames[:, 4:])
    # The toy codec remembers no further back than the warm-up.
    one = dataset.encode(coder, whole.frames, torch.float32).float()
    other = dataset.encode(coder, pieces[1].frames, torch.float32).float()[:, :, 2:]
    torch.testing.assert_close(one[:, :, 3:], other, atol=0.05, rtol=0)


def test_the_cells_of_the_thing_are_those_that_its_colour_changes(built: Path) -> None:
    config = load_codec(built / "codec").config
    scenes = sample_scenes(8, torch.Generator().manual_seed(0))
    rows = scenes.attributes.clone()
    rows[:, COLOUR] = (rows[:, COLOUR] + 1) % 8
    seconds = times(torch.full((8,), 3.0), 8)
    changed = (render(scenes, seconds) != render(Scenes(rows, scenes.layout), seconds)).any(2)
    cells = changed.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).any(5).any(3)
    shown = thing_cells(scenes, seconds, config)
    assert shown.shape == (8, 2, 16, 16)
    changed = cells.unflatten(1, (-1, 4)).any(2)
    assert (changed & shown).sum() > 0.95 * changed.sum()
    assert shown.float().mean() < 0.35


def test_noise_levels_leave_the_context_clean() -> None:
    border = torch.tensor([0, 1, 2, 3]).repeat(50)
    own = torch.tensor([1.0, 0.75])
    sigma = draw_levels(border, CHUNKS, torch.Generator().manual_seed(0), 0.35, own, 3.0)
    assert (sigma.max(1).values > 0).all()
    assert {1.0, 0.75} < set(sigma.flatten().tolist())
    assert sigma.max() <= 1
    for clip, chunks in enumerate(border.tolist()):
        assert not sigma[clip, :chunks].any()


def test_training_attention_equals_the_cache(built: Path) -> None:
    denoiser, _ = load_denoiser(built / "generator", torch.device("cpu"))
    streaming = StreamingConfig(**TOY["streaming"])  # type: ignore[arg-type]
    transformer = denoiser.transformer
    flow = Flow(transformer, window_attention(denoiser, streaming, 16, torch.device("cpu")))
    draw = torch.Generator().manual_seed(0)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=draw)
    latents = torch.randn(1, 16, 12, 16, 16, generator=draw)
    text = torch.randn(1, 48, 16, generator=draw)
    timesteps = torch.tensor([[0.0] * 9 + [700.0] * 3])
    settings = CacheSettings(streaming.sink, streaming.window, streaming.chunk)
    kernels = transformer.kernels
    cpu = torch.device("cpu")
    cache = KVCache(transformer.config, settings, (8, 8), kernels, cpu, torch.float32)
    with torch.no_grad():
        expected = flow(latents, timesteps, text)
        for start in range(0, 12, 3):
            cache.stage(range(start, start + 3))
            part = slice(start, start + 3)
            prompt = transformer.encode_text(text)
            out = transformer(latents[:, :, part], timesteps[:, part], prompt, cache)
            torch.testing.assert_close(out, expected[:, :, part], atol=1e-4, rtol=1e-4)
            cache.commit()


def test_two_processes_train_one_model_together(built: Path, tmp_path: Path) -> None:
    """Each draws its own clips; their averaged step is that of one process with both batches."""
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", "29517"]
    command += ["-m", "longtake.training.codec", *LOOP, "--out", str(tmp_path)]
    command += [
        "--config",
        str(built / "toy.json"),
        "--pool",
        "6",
        "--test",
        "2",
        "--batch",
        "6",
        "--frames",
        "8",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    together, alone = (
        load_file(each / "model.safetensors") for each in (tmp_path, built / "codec")
    )
    assert any(not torch.equal(value, alone[key]) for key, value in together.items())
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == [1, 2, 3]


def test_averaged_gradients_are_the_mean_over_ranks(tmp_path: Path) -> None:
    code = (
        "import torch, torch.distributed as dist\n"
        "from argparse import Namespace\n"
        "from pathlib import Path\n"
        "from longtake.training.loop import Loop, LoopConfig, join_ranks\n"
        "join_ranks(Namespace(seed=0, device='cpu'))\n"
        "torch.manual_seed(0); layer = torch.nn.Linear(2, 1)\n"
        f"loop = Loop(LoopConfig(Path({str(tmp_path)!r}), 1, steps=1), layer)\n"
        "for p in layer.parameters(): p.grad = torch.full_like(p, float(dist.get_rank()))\n"
        "loop._average_gradients()\n"
        "assert all((p.grad == 0.5).all() for p in layer.parameters())\n"
    )
    script = tmp_path / "ranks.py"
    script.write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", "29518", str(script)]
    subprocess.run(command, check=True, capture_output=True)


def test_packaged_model_is_evaluated_through_the_application(built: Path, tmp_path: Path) -> None:
    package.package(built / "generator", built / "codec", built / "judge", tmp_path)
    out = tmp_path / "trial.json"
    options = ["--model", str(tmp_path / "meadow"), "--judge", str(tmp_path / "judge")]
    options += ["--out", str(out), "--films", "1", "--long", "0", "--switches", "recache"]
    trial.evaluate(trial.parser().parse_args([*options, "--dtype", "fp32"]))
    result = json.loads(out.read_text())
    assert result.keys() == {"hardware", "versions", "command", "metrics"}
    assert {"adherence_mean", "recache_late", "recache_seam"} <= result["metrics"].keys()
    assert out.with_suffix(".png").stat().st_size > 0


def test_accuracy_and_seam() -> None:
    rows = torch.zeros(2, 7, dtype=torch.long)
    read = rows.clone()
    read[0, 0] = 1
    assert accuracy(read, rows)["time"] == 0.5
    assert accuracy(read, rows)["mean"] == pytest.approx(13 / 14)
    steps = torch.arange(40) % 2
    frames = (steps * 10)[None, :, None, None, None].expand(1, 40, 3, 8, 8).to(torch.uint8)
    assert seam(frames, 30) == pytest.approx(1.0)
    cut = frames.clone()
    cut[:, 31:] += 100
    assert seam(cut, 31) == pytest.approx(11.0)


def test_schedule_rises_then_falls_to_zero() -> None:
    assert schedule(0.0, 0.1) == 0
    assert schedule(0.1, 0.1) == 1
    assert schedule(1.0, 0.1) == pytest.approx(0)
