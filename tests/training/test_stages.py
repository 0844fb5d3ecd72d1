from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import TextEncoder, join_tokens
from longtake.training import dataset
from longtake.training.codec import THING_WEIGHT, importance, load_codec, texture
from longtake.training.dataset import CHANGE, SCENE, Clips
from longtake.training.generator import draw_levels, flow_loss, how_much
from longtake.training.judge import UNASKED, accuracy
from longtake.training.loop import WARM_STEPS, Loop, LoopConfig, half_precision, schedule
from longtake.training.metrics import seams
from longtake.training.prompts import (
    build_text_encoder,
    build_tokenizer,
    rewriter,
    story,
    tokens,
)
from longtake.training.reader import Captions, draw_captions
from longtake.training.valley.film import render, times
from longtake.training.valley.moments import HEIGHT, HOURS, moments
from longtake.training.valley.world import (
    LAYOUT,
    NAMES,
    RATE,
    TIME,
    attribute_index,
    is_held_out,
    sample_scenes,
    shown_changes,
)

TOY = Path(__file__).parents[1] / "toy.json"
RunStage = Callable[..., None]
STREAMING = StreamingConfig(**json.loads(TOY.read_text())["streaming"])


def test_the_generator_trains_with_adamw_alone_too(
    built: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    run_stage(built, "generator", tmp_path, "--muon", "0")
    folders = (tmp_path, built / "generator")
    adam, muon = (load_file(folder / "model.safetensors") for folder in folders)
    assert any(not torch.equal(value, muon[key]) for key, value in adam.items())


@pytest.mark.parametrize("name", ["judge", "reader", "codec", "generator"])
def test_a_stage_resumed_gives_the_same_weights(
    built: Path, tmp_path: Path, run_stage: RunStage, name: str
) -> None:
    run_stage(built, name, tmp_path, "--pause", "2")
    run_stage(built, name, tmp_path, "--resume")
    straight = load_file(built / name / "model.safetensors")
    resumed = load_file(tmp_path / "model.safetensors")
    assert straight.keys() == resumed.keys()
    for key, value in straight.items():
        assert torch.equal(value, resumed[key]), key
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("name", ["judge", "reader", "codec", "generator"])
def test_a_stage_can_begin_from_trained_weights(
    built: Path, tmp_path: Path, run_stage: RunStage, name: str
) -> None:
    still = ("--muon", "0") if name in {"reader", "generator"} else ()
    run_stage(built, name, tmp_path, "--init", str(built / name), "--rate", "0", *still)
    begun = load_file(tmp_path / "model.safetensors")
    wanted = load_file(built / name / "model.safetensors")
    if name == "generator":
        # A reader's text encoder takes the place of the generator's own.
        read = load_file(built / "reader" / "model.safetensors")
        wanted |= {f"text.{key}": value for key, value in read.items()}
    for key, value in wanted.items():
        torch.testing.assert_close(begun[key], value.to(begun[key].dtype))


def test_the_dataset_is_made_of_its_seed_alone(built: Path) -> None:
    clips = Clips.load(built / "data" / "films.0.safetensors", "cpu")
    assert clips.latents.shape == (12, 8, 8, 9, 16)
    assert clips.thing.shape == (12, 8, 9, 16)
    assert clips.latents.dtype == torch.bfloat16
    coder = load_codec(built / "codec").to(memory_format=torch.channels_last)
    again = dataset.make_batch(coder, STREAMING, 3, 0, 1, "films")
    for name, value in vars(again).items():
        assert torch.equal(value, getattr(clips, name)[3:6]), name
    openings = Clips.load(built / "data" / "openings.0.safetensors", "cpu")
    assert openings.latents.shape == (12, 8, 2, 9, 16)
    assert torch.equal(openings.before, openings.after)
    assert not openings.border.any()


def test_a_set_has_a_batch_however_little_there_is_to_be(built: Path, tmp_path: Path) -> None:
    given = ("--codec", built / "codec", "--config", TOY, "--device", "cpu", "--seconds", 0)
    sizes = ("--clips", 2, "--openings", 3, "--batch", 4)
    arguments = [str(each) for each in ("--out", tmp_path, *given, *sizes)]
    dataset.build(dataset.parser().parse_args(arguments))
    assert len(Clips.load(tmp_path / "films.0.safetensors", "cpu")) == 2
    assert len(Clips.load(tmp_path / "openings.0.safetensors", "cpu")) == 3


def test_plans_keep_their_promises() -> None:
    plan = dataset.draw_plan(4000, STREAMING, 4, torch.Generator().manual_seed(0))
    before, after = plan.before.attributes, plan.after.attributes
    changes = shown_changes(before, after).any(1)
    assert torch.equal(changes, (before != after).any(1))
    assert changes.float().mean() == pytest.approx(0.7, abs=0.05)
    assert not plan.style[~changes].any()
    assert plan.style[changes].float().mean() == pytest.approx(0.54, abs=0.05)
    # Openings last half a second and chunks as long; there are four in view, the opening included.
    chunk, opening = 8 / RATE, 8 / RATE
    gap = plan.start - opening
    assert gap.min() == 0
    assert gap.max() <= dataset.LONGEST_GAP
    assert (plan.border[gap > 0] >= 2).all()
    assert (plan.border[(gap == 0) & changes] >= 1).all()
    assert (plan.border[(gap == 0) & ~changes] == 0).all()
    assert plan.border.max() == 3
    at_border = plan.start + (plan.border - 1) * chunk
    begins = changes & (plan.change >= plan.start)
    torch.testing.assert_close(plan.change[begins], at_border[begins])
    chain = torch.stack([*(scenes.attributes for scenes in plan.past), before], 1)
    differs = (chain[:, 1:] != chain[:, :-1]).any(2)
    assert torch.equal(differs, shown_changes(chain[:, :-1], chain[:, 1:]).any(2))
    assert 0.3 < differs.any(1).float().mean() < 0.6
    assert (gap > 0)[differs.any(1)].all()
    # An opening shows nothing of the change to come.
    assert (plan.change[changes] >= opening).all()
    for rows in (*chain.unbind(1), after):
        assert not is_held_out(rows).any()
    hours = torch.cat((chain, after[:, None]), 1)[:, :, TIME]
    assert 0.15 < plan.between.float().mean() < 0.3
    assert torch.equal(plan.between, (plan.before.named("hour") - 0.5).abs() > 0.5)
    assert (hours == hours[:, :1]).all(1)[plan.between].all()
    layouts = [scenes.layout for scenes in (*plan.past, plan.before, plan.after)]
    assert all(torch.equal(layout, layouts[0]) for layout in layouts)


def test_an_hour_without_a_name_is_nearest_to_the_time_of_its_scene() -> None:
    for time in range(3):
        scenes = sample_scenes(2, torch.Generator().manual_seed(0))
        scenes.attributes[:, TIME] = time
        scenes.layout[:, LAYOUT.index("hour")] = torch.tensor([dataset.EARLIEST, dataset.LATEST])
        now = moments(scenes, scenes, torch.zeros(2, 1), torch.zeros(2))
        assert now.height.min() >= 0
        assert now.height.max() <= 2
        torch.testing.assert_close(now.day.sum(1), torch.ones(2, dtype=torch.float64))
        lowest, length = torch.tensor(HEIGHT), torch.tensor(HOURS)
        away = (now.height[:, None] - lowest - length / 2).abs() - length / 2
        assert (away.argmin(1) == time).all()


def test_an_hour_without_a_name_is_not_told() -> None:
    rng = random.Random(0)
    row = attribute_index(time="night", shape="car", motion="rolls", speed="fast")
    for _ in range(200):
        (text,), told = story([row], SCENE, rng, untold=frozenset({"time"}))
        assert "time" not in told
        assert not {"night", "dark"} & set(text.split())


def test_a_story_tells_of_every_scene_that_differs() -> None:
    rng = random.Random(0)
    scenes = sample_scenes(1, torch.Generator().manual_seed(3))
    night = scenes.attributes.clone()
    time = NAMES.index("time")
    night[0, time] = (night[0, time] + 1) % 3
    one, two = scenes.attributes[0].tolist(), night[0].tolist()
    (only,), told = story([one, one, one], SCENE, rng)
    assert len(only.split()) > 2
    assert "shape" in told
    texts, told = story([one, one, two, two, one], CHANGE, rng)
    assert len(texts) == 3
    assert {"shape", "time"} <= told
    # The last is in words for the change alone, which are few.
    assert len(texts[-1]) < len(texts[0])


def test_prompts_are_trained_as_they_are_read_in_use() -> None:
    tokenizer, text = build_tokenizer(), ("a red ball on snow", "night falls", "it turns blue")
    settings = json.loads(TOY.read_text())["text_encoder"]
    for length in (48, 9, 4):
        model = build_text_encoder(settings, build_tokenizer())
        encoder = TextEncoder(model, build_tokenizer(), length, rewriter())
        ids, mask = tokens(tokenizer, [text, text[:1], [""]], length, 0.0, random.Random(0))
        for row, prompts in enumerate((text, text[:1], [""])):
            mine = ids[row, : int(mask[row].sum())].tolist()
            read = encoder.tokens(rewriter()(prompts))
            assert mine[: length - 1] == join_tokens([read], length)[: length - 1]
    blue, night = tokenizer.token_to_id("blue"), tokenizer.token_to_id("night")
    assert {blue, night} <= set(tokens(tokenizer, [text], 48, 0.0, random.Random(0))[0][0].tolist())


def test_warm_up_makes_a_window_right_after_the_opening_equal_the_whole_film(built: Path) -> None:
    coder = load_codec(built / "codec")
    scenes = sample_scenes(1, torch.Generator().manual_seed(0))
    one, zero = torch.tensor([0.5]), torch.zeros(1, dtype=torch.long)
    plan = dataset.Plan(
        (scenes,) * dataset.PAST, scenes, scenes, one, 0 * one, zero, zero, zero > 0, zero > 0
    )
    clips = dataset.make_clips(coder, STREAMING, plan)
    whole = render(scenes, times(torch.zeros(1), 32))
    expected = dataset.encode(coder, whole)
    # The toy codec remembers no further back than the warm-up.
    torch.testing.assert_close(clips.latents.float(), expected.float(), atol=0.05, rtol=0)


def test_a_new_decoder_is_trained_for_the_latents_that_there_are(
    built: Path, tmp_path: Path, run_stage: RunStage
) -> None:
    described = json.loads(TOY.read_text())
    described["vae"]["decoder_channels"][2:] = [3, 3]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(described))
    out, kept = tmp_path / "decoder", built / "codec"
    run_stage(built, "codec", out, "--config", str(other), "--encoder", str(kept))
    old, new = load_codec(kept), load_codec(out)
    assert new.config.decoder_channels[2:] == (3, 3)
    frames = torch.rand(1, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(new.encode(frames), old.encode(frames))
    first = next(iter(old.decoder.state_dict()))
    assert not torch.equal(new.decoder.state_dict()[first], old.decoder.state_dict()[first])
    described["vae"]["encoder_channels"][1] = 3
    other.write_text(json.dumps(described))
    with pytest.raises(ValueError, match="other sizes"):
        run_stage(built, "codec", tmp_path / "no", "--config", str(other), "--encoder", str(kept))


def test_the_codec_is_to_be_as_busy_as_its_frames_wherever_the_blades_of_grass_are() -> None:
    draw = torch.Generator().manual_seed(0)
    frames, others = (torch.rand(1, 1, 3, 144, 256, generator=draw) for _ in range(2))
    plain = torch.full_like(frames, 0.5)
    busy, other = texture(frames), texture(others)
    assert busy.shape == (1, 3, 18, 32)
    assert (busy - other).abs().mean() < 0.2 * (busy - texture(plain)).abs().mean()
    rows, columns = torch.arange(144)[:, None], torch.arange(256)
    for mesh in (columns % 2, rows % 2, (rows + columns) % 2):
        assert torch.equal(texture(plain + mesh), texture(plain))


def test_the_codec_looks_at_things_more_than_at_falling_snow() -> None:
    draw = torch.Generator().manual_seed(0)
    frames = torch.rand(1, 2, 3, 144, 256, generator=draw)
    things = torch.zeros(1, 2, 9, 16, dtype=torch.bool)
    even = importance(frames, things)
    things[:, :, 4, 8] = True
    weight = importance(frames, things)
    assert even.mean() == pytest.approx(1.0, abs=1e-4)
    assert weight.mean() == pytest.approx(1.0, abs=1e-4)
    cell = (slice(None), slice(None), 0, slice(64, 80), slice(128, 144))
    gained = (weight / even)[cell] / (weight / even)[0, 0, 0, 0, 0]
    torch.testing.assert_close(gained, torch.full_like(gained, THING_WEIGHT))


def test_noise_levels_are_the_samplers_own_in_half() -> None:
    own = torch.tensor([1.0, 0.75])
    sigma = draw_levels(500, 4, torch.Generator().manual_seed(0), own, 3.0, 0.5)
    assert sigma.shape == (500, 4)
    assert sigma.min() > 0
    assert sigma.max() <= 1
    assert ((sigma == 1) | (sigma == 0.75)).float().mean() == pytest.approx(0.5, abs=0.05)
    student = draw_levels(500, 4, torch.Generator().manual_seed(0), own, 3.0, 1.0)
    assert set(student.flatten().tolist()) == {1.0, 0.75}


def test_the_loss_asks_for_nothing_before_the_border() -> None:
    draw = torch.Generator().manual_seed(0)
    flow, aim = (torch.randn(1, 2, 4, 3, 3, generator=draw) for _ in range(2))
    asked = torch.tensor([[0.0, 0.0, 1.0, 3.0]])
    thing = torch.rand(1, 4, 3, 3, generator=draw) < 0.5
    losses = flow_loss(flow, aim, asked, thing)
    flow[:, :, :2] += 1
    assert flow_loss(flow, aim, asked, thing) == losses
    flow[:, :, 2:] += 1
    assert flow_loss(flow, aim, asked, thing)["loss"] != losses["loss"]


def test_what_begins_to_change_is_asked_for_most() -> None:
    border, switch = torch.tensor([1, 1, 3]), torch.tensor([True, False, True])
    weights = how_much(torch.arange(5), border, switch)
    assert weights.tolist() == [[0, 3, 3, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 3, 3]]


def test_muon_leaves_alone_what_is_adams(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"text": torch.nn.Linear(2, 3), "mind": torch.nn.Linear(3, 2)})
    config = LoopConfig(tmp_path, 1, steps=1, muon=1e-3, adam="^text")
    adam, muon = Loop(config, model).optimizers
    taken = [p for group in muon.param_groups for p in group["params"]]
    assert [id(p) for p in taken] == [id(model["mind"].weight)]
    rest = {id(p) for group in adam.param_groups for p in group["params"]}
    assert rest == {id(p) for p in model.parameters()} - {id(model["mind"].weight)}


def test_the_reader_is_asked_only_for_what_a_caption_says() -> None:
    captions = draw_captions(400, 48, 0.0, 1)
    said = (captions.targets != UNASKED).float()
    assert said.any(1).all()
    assert said[:, NAMES.index("shape")].all()
    assert 0.5 < said.mean() < 0.9
    again = draw_captions(400, 48, 0.0, 1)
    assert all(torch.equal(a, b) for a, b in zip(*map(vars_of, (captions, again)), strict=True))


def vars_of(captions: Captions) -> list[torch.Tensor]:
    return list(vars(captions).values())


def test_two_processes_train_one_model_together(built: Path, tmp_path: Path) -> None:
    """Each draws its own clips; their averaged step is that of one process with both batches."""
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", "29517"]
    command += ["-m", "longtake.training.codec", "--steps", "3", "--no-compile"]
    command += ["--device", "cpu", "--out", str(tmp_path)]
    command += [
        "--config",
        str(TOY),
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


def test_accuracy_counts_what_shows() -> None:
    rows = torch.tensor([attribute_index(motion="rests"), attribute_index(motion="bounces")])
    read = rows.clone()
    read[0, 0] = 1
    read[0, NAMES.index("speed")] = 1
    result = accuracy(read, rows)
    assert result["time"] == 0.5
    # What rests has no speed to get wrong, and neither row has a companion.
    assert result["speed"] == 1
    assert "companion_colour" not in result
    assert result["mean"] == pytest.approx((8 + 1.5) / 10 + 0.05, abs=0.051)
    assert accuracy(read, rows, rows >= 0)["speed"] == 0.5


def test_seams() -> None:
    steps = torch.arange(40) % 2
    frames = (steps * 10)[None, :, None, None, None].expand(1, 40, 3, 8, 8).to(torch.uint8)
    assert seams(frames, 30).item() == pytest.approx(1.0)
    cut = frames.clone()
    cut[:, 31:] += 100
    assert seams(torch.cat((frames, cut)), 31).tolist() == pytest.approx([1.0, 11.0])


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_trains_in_bfloat16_where_it_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": native})
    with half_precision(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == native


def test_schedule_rises_then_falls_to_zero() -> None:
    assert schedule(0.0, 0.1) == 0
    assert schedule(0.1, 0.1) == 1
    assert schedule(1.0, 0.1) == pytest.approx(0)


def test_a_first_step_that_compiles_does_not_take_the_warm_up(tmp_path: Path) -> None:
    slow = Loop(LoopConfig(tmp_path, 100), torch.nn.Linear(2, 1))
    assert slow._rate(slow._progress()) == 0
    slow.step, slow.spent = 1, 20.0
    assert slow._rate(slow._progress()) == 2 / WARM_STEPS
    slow.step = WARM_STEPS
    assert slow._rate(slow._progress()) == schedule(0.2, 0.04)
    counted = Loop(LoopConfig(tmp_path, 100, steps=10), torch.nn.Linear(2, 1))
    counted.step = 2
    assert counted._rate(counted._progress()) == schedule(0.2, 0.04)
