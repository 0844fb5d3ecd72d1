"""The captioner's evaluation, end to end on a toy."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake.benchmarks import captioner, hours, photos
from longtake.models.vlm.captioner import Captioner, WatchState
from longtake.models.vlm.load import load_captioner
from longtake.training import caption_metrics
from longtake.training.caption_metrics import rendered_rounds
from longtake.training.valley.script import Scripts
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


@pytest.fixture(scope="module")
def toy(folder: Path) -> Captioner:
    return load_captioner(folder, torch.device("cpu"), torch.float32)


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


def test_photographs_of_packages_are_another_world(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "seventh" / "images"
    shipped.mkdir(parents=True)
    (shipped.parent / "__init__.py").touch()
    for name, size in (("lake.png", (200, 150)), ("icon.png", (64, 64))):
        Image.new("RGB", size, "navy").save(shipped / name)
    Image.new("RGBA", (200, 200)).save(shipped / "logo.png")
    (shipped / "again.png").write_bytes((shipped / "lake.png").read_bytes())
    (shipped / "torn.jpg").write_bytes(b"no picture")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(photos, "SHIPPED", {"seventh": ("images",), "not_installed": ("",)})
    out = tmp_path / "captioner.json"
    metrics = run(folder, out, "--only", "worlds")
    assert metrics["out_of_world_photos"] == 0
    # Each once, without icons, logos and what is none.
    assert json.loads(out.read_text())["parts"]["worlds"]["photos"] == ["again.png"]


def test_parts_that_are_not_run_again_are_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "captioner.json"
    out.write_text(json.dumps({"metrics": {"questions": 0.5}, "parts": {"renders": {"clips": 3}}}))
    metrics = run(folder, out, "--only", "hours", "--hours", "0.006")
    assert metrics["questions"] == 0.5
    parts = json.loads(out.read_text())["parts"]
    assert parts["renders"] == {"clips": 3}
    assert parts["hours"]["watched_seconds"] == 22


def test_a_long_stream_is_told_of_minute_by_minute(toy: Captioner) -> None:
    stream = hours.stream_bounded(toy, 130, 1, 0)
    # Sixty seconds, sixty and ten; once the windows are full nothing grows.
    assert [len(values) for values in stream.about["course"].values()] == [3, 3, 3]
    assert stream.metrics["hour2_memory_ratio"] == 1
    assert stream.metrics["hour2_time_ratio"] > 0
    assert abs(stream.metrics["caption_hour2_delta"]) < 1


def test_the_second_minute_is_held_against_minutes_of_the_second_half(
    toy: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, compare = [], hours._by_turns

    def note(
        watcher: Captioner, script: Scripts, *parts: hours.Part
    ) -> tuple[list[hours.Round], list[hours.Round]]:
        compared.append([[second for second, _ in frames] for _, frames in parts])
        both = compare(watcher, script, *parts)
        assert [len(rounds) for rounds in both] == [6, 6]
        return both

    monkeypatch.setattr(hours, "_by_turns", note)
    hours.stream_bounded(toy, 24, 1, 0)
    # Of 24 seconds the second quarter stands for that minute.
    assert compared == [[list(range(6, 12)), list(range(n, n + 6))] for n in range(12, 19)]


def test_a_part_of_a_stream_is_watched_again_as_it_was(toy: Captioner) -> None:
    saved = []

    def keep(state: WatchState) -> None:
        if state.round == 20:
            saved.append(toy.save(state))

    rounds = list(hours.follow(toy, 30, 1, keep))
    script = hours.draw_story(toy, 30, 1)
    shown = list(enumerate(rendered_rounds(script, 30, toy.settings.fps)))[20:]
    again = list(hours.follow_on(toy, toy.load(*saved[0]), script, shown))
    assert [each.held for each in again] == [each.held for each in rounds[20:]]


def test_time_is_shared_among_all_tokens_read_or_found(
    toy: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a clock that goes on by a second whenever it is looked at, every step takes one.
    ticks = itertools.count()
    monkeypatch.setattr(caption_metrics, "perf_counter", lambda: float(next(ticks)))
    turns = []

    def keep(state: WatchState) -> None:
        turns.append(state.context.turns[-1])

    rounds = list(hours.follow(toy, 20, 1, keep))
    assert any(turn.words for turn in turns)
    for each, turn in zip(rounds, turns, strict=True):
        # A step sees, and one reads and finds the first word, or that there is none. Whatever ends
        # the words takes one more, but where there are as many as there may be.
        found = len(turn.words) + (0 < len(turn.words) < toy.settings.round_tokens)
        assert each.words == [1.0] * max(0, found - 1)
        assert each.cost == pytest.approx((2 + len(each.words)) / len(turn))


def test_what_forgets_nothing_ends_where_its_memory_does(toy: Captioner) -> None:
    memory = 700_000
    fits = hours.seconds_within(toy, memory)
    stream = hours.stream_unbounded(toy, 10 * fits, 1, memory)
    assert stream.metrics["unbounded_seconds"] == stream.watched == fits > 8
    assert memory / 2 < 1e6 * stream.course.memory_mb[-1] <= memory
    # A second more and it would be too much.
    settings = replace(toy.settings, vision_seconds=fits + 1.0)
    assert toy.watching_with(settings).session_need.parts["cache"] > memory


def test_a_stream_that_ends_before_its_memory_does_is_whole(toy: Captioner) -> None:
    stream = hours.stream_unbounded(toy, 4, 1, 700_000)
    assert stream.watched == 4
    assert "unbounded_seconds" not in stream.metrics


def test_without_sinks_no_first_token_stays(toy: Captioner) -> None:
    seen: list[tuple[int, int]] = []
    window = round(toy.settings.vision_seconds)

    def note(state: WatchState) -> None:
        if state.round == window:
            before = state.context.ids()[: state.written]
            first = len(state.context.prompt) + len(state.context.text)
            first += len(state.context.closing)
            hours.lose_sinks(state)
            assert state.context.ids()[: state.written] == before[first:]
            assert not state.context.text
        seen.append((len(state.context.prompt), state.written))

    list(hours.follow(toy, window + 4, 1, note))
    assert [prompt > 0 for prompt, _ in seen] == [True] * (window - 1) + [False] * 5
    # It goes on with a window that is as full as before.
    assert seen[-1][1] > 0


def test_a_watch_beside_a_film_is_measured_by_real_time(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "captioner.json"
    metrics = run(folder, out, "--only", "beside", "--beside", "0.5")
    assert metrics["caption_fps_beside"] > 0
    assert json.loads(out.read_text())["parts"]["beside"]["beside_seconds"] == 0.5
