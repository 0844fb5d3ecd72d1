from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from longtake.training import metrics
from longtake.training.judge import JudgeConfig, accuracy
from longtake.training.metrics import BEFORE, EARLY, LATE, PERSISTED, Album
from longtake.training.pool import FILMS_AT_ONCE, renders
from longtake.training.valley.film import film, times
from longtake.training.valley.world import (
    COLOUR,
    COMPANION,
    COUNTS,
    MOTION,
    NAMES,
    RATE,
    SHAPE,
    SPEED,
    Scenes,
    attribute_index,
    is_held_out,
    is_settled,
    sample_layout,
    sample_scenes,
)

Show = Callable[[int, float], list[int]]


class CodedCamera:
    """Films whose pixels are the attributes themselves: `show(film, second)` gives the row."""

    chunk_frames = 8

    def __init__(self, show: Show) -> None:
        self.show = show
        self.scripts: list[metrics.Script] = []

    def shoot(self, scripts, chunks, seed) -> Iterator[Tensor]:
        first = len(self.scripts)
        self.scripts += scripts
        for film_number in range(first, len(self.scripts)):
            frames = range(chunks * self.chunk_frames)
            rows = [self.show(film_number, frame / RATE) for frame in frames]
            yield torch.tensor(rows, dtype=torch.uint8)[None, :, None, None].expand(1, -1, 3, 1, 11)


class Reader:
    """A judge of coded films; it reads nothing right in a clip that shows two things."""

    config = JudgeConfig()

    def read(self, clips: Tensor) -> Tensor:
        assert clips.shape[1] in {32, 16}
        rows = clips[:, :, 0, 0].long()
        return torch.where((rows == rows[:, :1]).all(1), rows[:, 0], -1)


def other(row: list[int], *columns: int) -> list[int]:
    """The row with other values in these columns."""
    changed = list(row)
    for column in columns:
        changed[column] = (row[column] + 1) % COUNTS[column]
    return changed


def test_ends_are_the_last_frames_of_films_in_order() -> None:
    rows = metrics.draw_rows(3, 0)
    wrong = other(rows[1].tolist(), COLOUR)

    def show(number: int, second: float) -> list[int]:
        if second < 3:
            return [0] * 11
        return wrong if number == 1 else rows[number].tolist()

    camera = CodedCamera(show)
    clips = metrics.ends(camera, metrics.plain_scripts(rows, 0), 32, 0)
    read = accuracy(Reader().read(clips), rows)
    assert read["colour"] == pytest.approx(2 / 3)
    assert {value for name, value in read.items() if name not in {"colour", "mean"}} == {1}


def test_prompts_name_what_is_asked_for_in_the_wording_asked_for() -> None:
    rows = torch.tensor([attribute_index(shape="ball", colour="red", time="night")] * 40)
    usual, new = (metrics.plain_scripts(rows, 0, new_wording=new) for new in (False, True))
    assert not {script[0] for script in usual} & {script[0] for script in new}
    few = metrics.plain_scripts(rows, 0, mention=("shape", "colour"))
    assert all("red" in script[0] and "night" not in script[0] for script in few)


def test_rows_are_of_the_side_asked_for_and_move_if_they_are_to() -> None:
    assert is_held_out(metrics.draw_rows(200, 0, held_out=True)).all()
    assert not is_held_out(metrics.draw_rows(200, 0)).any()
    assert (metrics.draw_rows(200, 0)[:, MOTION] == 0).any()
    moving = metrics.draw_rows(200, 0, moving=True)
    assert (moving[:, MOTION] != 0).all()
    assert not is_held_out(moving).any()


SPANS = (BEFORE, EARLY, LATE, PERSISTED)


def switched(show: Callable[[list[int], list[int], float], list[int]]) -> metrics.Switched:
    """Eight changes, filmed by `show(old, new, seconds since the switch)`."""
    before, after = metrics.draw_changes(8, 0)
    pairs = list(zip(before.attributes.tolist(), after.attributes.tolist(), strict=True))
    camera = CodedCamera(lambda number, second: show(*pairs[number], second - 5))
    return metrics.switching(camera, Reader(), before, after, SPANS, 0)


def test_a_perfect_switch_is_right_from_the_second_second_on() -> None:
    result = switched(lambda old, new, second: new if second >= 1 else old)
    assert result.adherence(EARLY) == result.adherence(LATE) == result.persistence() == 1
    assert result.right(LATE, changed=True) == result.right(LATE, changed=False) == 1


def test_a_late_switch_is_right_only_in_what_did_not_change() -> None:
    result = switched(lambda old, new, second: new if second >= 3 else old)
    settled = is_settled(result.before, result.after)
    expected = accuracy(result.before, result.after, settled)["mean"]
    assert expected < 0.95
    assert result.adherence(EARLY) == pytest.approx(expected)
    assert result.adherence(LATE) == 1
    never = switched(lambda old, new, second: old)
    assert never.right(LATE, changed=True) == 0
    assert never.right(LATE, changed=False) == 1


def test_what_nobody_named_is_free_after_a_switch() -> None:
    before = torch.tensor([attribute_index(motion="rests", speed="slow")])
    after = torch.tensor([attribute_index(motion="rolls", speed="slow")])
    layout = sample_layout(1, torch.Generator().manual_seed(0))
    fast = attribute_index(motion="rolls", speed="fast")
    camera = CodedCamera(lambda _, second: fast if second >= 6 else before[0].tolist())
    scenes = Scenes(before, layout), Scenes(after, layout)
    result = metrics.switching(camera, Reader(), *scenes, SPANS, 0)
    assert result.adherence(EARLY) == result.persistence() == 1


def test_persistence_compares_readings_not_prompts() -> None:
    def always_wrong(old: list[int], new: list[int], second: float) -> list[int]:
        return other(new if second >= 1 else old, SHAPE)

    result = switched(always_wrong)
    assert result.adherence(LATE) < 0.95
    same = result.before[:, SHAPE] == result.after[:, SHAPE]
    assert same.any()
    assert result.persistence() == 1

    def forgets(old: list[int], new: list[int], second: float) -> list[int]:
        return other(new, SHAPE) if second >= 9 else new if second >= 1 else old

    result = switched(forgets)
    assert result.adherence(LATE) == 1
    kept = 1 - float(same.sum()) / _shown_and_unchanged(result)
    assert result.persistence() == pytest.approx(kept)


def _shown_and_unchanged(result: metrics.Switched) -> int:
    """Counted one by one."""
    count = 0
    for old, new in zip(result.before.tolist(), result.after.tolist(), strict=True):
        for column, name in enumerate(NAMES):
            moves = name != "speed" or (old[MOTION] and new[MOTION])
            there = name != "companion_colour" or (old[COMPANION] and new[COMPANION])
            count += bool(old[column] == new[column] and moves and there)
    return count


def test_scripts_of_switches_change_at_five_seconds() -> None:
    before, after = metrics.draw_changes(20, 0)
    camera = CodedCamera(lambda *_: [0] * 11)
    metrics.switching(camera, Reader(), before, after, (EARLY,), 0)
    assert {tuple(script) for script in camera.scripts} == {(0, 10)}
    again = CodedCamera(camera.show)
    metrics.switching(again, Reader(), before, after, (EARLY,), 0, new_wording=True)
    changes = [{script[10] for script in each.scripts} for each in (camera, again)]
    assert not changes[0] & changes[1]


def test_a_cut_at_the_switch_is_a_seam() -> None:
    # Attribute rows as pixels: a step of one in one of eleven usually, of 100 in all at the cut.
    def show(_: list[int], __: list[int], second: float) -> list[int]:
        frame = round(second * RATE)
        return [frame % 2] + [100 if second >= 0 else 0] * 10

    assert switched(show).seam() == pytest.approx(1001)
    assert switched(lambda *given: [round(given[2] * RATE) % 2] * 11).seam() == pytest.approx(1)


def test_renders_of_a_switch_change_when_the_films_do() -> None:
    class Recorder:
        config = JudgeConfig()

        def read(self, clips: Tensor) -> Tensor:
            self.seen = clips
            return torch.zeros(len(clips), 11, dtype=torch.long)

    before, after = metrics.draw_changes(1, 0)
    judge = Recorder()
    metrics.switching_renders(judge, before, after, (EARLY,), torch.device("cpu"))
    second = times(torch.tensor([6.0]), 16)
    assert torch.equal(judge.seen, film(before, after, second, torch.tensor([5.0])))


def test_renders_come_some_at_a_time_and_all_of_them() -> None:
    draw = torch.Generator().manual_seed(0)
    before, after = sample_scenes(FILMS_AT_ONCE + 1, draw), sample_scenes(FILMS_AT_ONCE + 1, draw)
    cpu = torch.device("cpu")
    parts = list(renders(before, after, start=1.0, frames=1, change=0.5, device=cpu))
    assert [len(part) for part in parts] == [FILMS_AT_ONCE, 1]
    ones = torch.ones(FILMS_AT_ONCE + 1)
    assert torch.equal(torch.cat(parts), film(before, after, times(ones, 1), 0.5 * ones))


def test_drift_is_the_loss_between_the_ends_of_a_film() -> None:
    rows = metrics.draw_rows(2, 0, moving=True)
    rows[:, COMPANION] = 1  # All eleven show.

    def show(number: int, second: float) -> list[int]:
        row = rows[number].tolist()
        if second >= 100:
            return other(row, 0, 1)
        # Six of thirty clips show another colour, and one film only.
        return other(row, COLOUR) if number and 40 <= second < 52 else row

    result = metrics.drift(CodedCamera(show), Reader(), rows, 122, 0)
    assert result["early"] == 1
    assert result["late"] == pytest.approx(9 / 11)
    assert result["drift"] == pytest.approx(-2 / 11)
    assert result["identity"] == pytest.approx(1 - 6 / (2 * 30 * 3))
    # Early is from the second clip to the fourth.
    late_start = metrics.drift(
        CodedCamera(lambda n, second: other(show(n, second), 2) if second < 4 else show(n, second)),
        *(Reader(), rows, 122, 0),
    )
    assert late_start["early"] == pytest.approx(1 - 1 / 3 / 11)


def test_spread_is_the_entropy_of_what_is_left_open_and_shows() -> None:
    named = ("shape", "colour")
    row = attribute_index(motion="rests", companion="none")
    still = torch.tensor([[row] * 4])
    assert metrics.spread(still, named) == 0
    two = still.clone()
    two[0, :2, 0] = 1
    assert metrics.spread(two, named) == pytest.approx(math.log(2) / 9)
    hidden = still.clone()
    hidden[0, :2, SPEED] = 1
    hidden[0, 1:, NAMES.index("companion_colour")] = 3
    hidden[0, :2, SHAPE] = 5
    assert metrics.spread(hidden, named) == 0
    # To move or to rest is one choice, and so is to have a speed or none.
    moving = still.clone()
    moving[0, :2, MOTION] = 2
    assert metrics.spread(moving, named) == pytest.approx(2 * math.log(2) / 9)


def test_motion_and_sharpness_are_differences_in_luma() -> None:
    ramp = torch.arange(8, dtype=torch.uint8) * 10
    across = ramp.expand(1, 4, 3, 6, 8)
    assert metrics.motion(across) == 0
    assert metrics.sharpness(across) == pytest.approx(10 / 255 / 2)
    passing = (ramp[None, :4, None, None, None]).expand(1, 4, 3, 6, 8)
    assert metrics.motion(passing) == pytest.approx(10 / 255)
    assert metrics.sharpness(passing) == 0
    green = passing * torch.tensor([0, 1, 0], dtype=torch.uint8)[:, None, None]
    assert metrics.motion(green) == pytest.approx(0.587 * 10 / 255)


def test_an_album_keeps_strips_of_the_first_films_and_passes_all_on() -> None:
    camera = CodedCamera(lambda number, second: [number] * 10 + [round(second * RATE)])
    album = Album(camera, films=2, columns=3)
    scripts = [{0: f"film {number}"} for number in range(3)]
    films = list(album.shoot(scripts, 2, 0))
    assert len(films) == 3
    assert album.chunk_frames == 8
    assert [strip[:, 0, 0, 0].tolist() for strip in album.strips] == [[0] * 3, [1] * 3]
    assert album.strips[0][:, 0, 0, 10].tolist() == [0, 8, 15]
    assert album.scripts == scripts[:2]
    assert metrics.contact_sheet(album.strips).shape == (2, 33, 3)
