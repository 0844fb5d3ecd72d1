from __future__ import annotations

import pytest
import torch

from longtake.training.valley import things, world
from longtake.training.valley.film import CELL, film, render, thing_cells, times
from longtake.training.valley.moments import moments
from longtake.training.valley.ramps import eased, eased_area

CHANGES = {
    "time": "night",
    "ground": "water",
    "weather": "snow",
    "shape": "rocket",
    "colour": "blue",
    "size": "small",
    "motion": "circles",
    "companion": "tree",
    "companion_colour": "green",
}
PLAIN = {"shape": "duck", "colour": "yellow", "size": "big", "motion": "rolls", "companion": "ball"}


def scene(seed: int = 1, **values: str) -> world.Scenes:
    row = torch.tensor([world.attribute_index(**{**PLAIN, **values})])
    return world.Scenes(row, world.sample_layout(1, torch.Generator().manual_seed(seed)))


def test_render_is_repeatable_and_independent_of_its_batch() -> None:
    some = world.sample_scenes(6, torch.Generator().manual_seed(0))
    seconds = times(torch.full((6,), 3.0), 2)
    frames = render(some, seconds, batch=5)
    assert frames.shape == (6, 2, 3, world.HEIGHT, world.WIDTH)
    assert frames.dtype == torch.uint8
    assert torch.equal(frames, render(some, seconds))
    assert torch.equal(frames[3:4, 1:], render(some[3:4], seconds[3:4, 1:]))


def test_half_precision_colours_look_the_same() -> None:
    some = world.sample_scenes(8, torch.Generator().manual_seed(3))
    seconds = torch.full((8, 1), 2.0)
    exact = render(some, seconds).int()
    assert (render(some, seconds, dtype=torch.float16).int() - exact).abs().max() <= 3


@pytest.mark.parametrize("name", world.NAMES)
def test_every_value_changes_the_picture(name: str) -> None:
    seconds = torch.tensor([[1.3, 2.6]])
    frames = [render(scene(**{name: value}), seconds).int() for value in world.ATTRIBUTES[name]]
    for index, one in enumerate(frames):
        for other in frames[:index]:
            assert (one - other).abs().max() > 40


@pytest.mark.parametrize("name", [*CHANGES, "speed", "camera"])
def test_before_the_change_frames_are_those_of_the_first_scene(name: str) -> None:
    values = {**CHANGES, "speed": "fast", "camera": "pans left"}
    before, after = scene(), scene(**{name: values[name]})
    seconds = times(torch.tensor([6.0]), 4, stride=5)
    frames = film(before, after, seconds, seconds[:, 2])
    assert torch.equal(frames[:, :3], render(before, seconds)[:, :3])
    assert not torch.equal(frames[:, 3], render(before, seconds)[:, 3])


@pytest.mark.parametrize("name", CHANGES)
def test_two_seconds_later_frames_are_those_of_the_second_scene(name: str) -> None:
    before, after = scene(), scene(**{name: CHANGES[name]})
    seconds = torch.tensor([[11.0, 12.0, 19.0]], dtype=torch.float64)
    frames = film(before, after, seconds, torch.tensor([10.0]))
    plain = render(after, seconds)
    assert torch.equal(frames[:, 1:], plain[:, 1:])


@pytest.mark.parametrize("name", ["shape", "colour", "size"])
def test_a_change_of_the_thing_leaves_the_rest_alone(name: str) -> None:
    before, after = scene(ground="grass"), scene(ground="grass", **{name: CHANGES[name]})
    seconds, change = torch.tensor([[10.4, 10.9, 13.0]]), torch.tensor([10.0])
    differs = (film(before, after, seconds, change) != render(before, seconds)).any(2)
    cells = thing_cells(before, before, seconds, change)
    cells |= thing_cells(before, after, seconds, change)
    # Its shadow lies around it.
    around = cells | cells.roll(1, 2) | cells.roll(1, 3) | cells.roll(-1, 3)
    assert not (differs & ~pixels(around)).any()
    assert differs.any()


def pixels(cells: torch.Tensor) -> torch.Tensor:
    return cells.repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)


def test_a_faster_thing_leaves_the_sky_alone() -> None:
    before, after = scene(), scene(speed="fast")
    seconds = torch.tensor([[10.5, 12.0, 40.0]])
    frames = film(before, after, seconds, torch.tensor([10.0]))
    assert torch.equal(frames[..., :40, :], render(before, seconds)[..., :40, :])


@pytest.mark.parametrize(("name", "value"), [("speed", "fast"), ("camera", "pans left")])
@pytest.mark.parametrize("motion", world.ATTRIBUTES["motion"])
def test_nothing_jumps_when_speed_or_camera_changes(name: str, value: str, motion: str) -> None:
    before, after = scene(motion=motion), scene(motion=motion, **{name: value})
    seconds, change = times(torch.tensor([50.0]), 640), torch.tensor([70.03])

    def largest_step(first: world.Scenes, second: world.Scenes) -> torch.Tensor:
        now = moments(first, second, seconds, change)
        path = torch.stack([now.pose.x, now.pose.y, now.pan, now.zoom * 100, now.companion_x])
        return (path[:, 1:] - path[:, :-1]).abs()[:4].amax(1)

    usual = torch.maximum(largest_step(before, before), largest_step(after, after))
    assert (largest_step(before, after) <= 1.05 * usual + 1e-6).all()


def test_most_of_a_change_shows_in_its_first_chunk() -> None:
    since = torch.arange(-1, 2, 1e-3, dtype=torch.float64)
    share = eased(since, 1.2)
    assert share[since <= 0].eq(0).all()
    assert share[since >= 1.2].eq(1).all()
    assert (share.diff() >= 0).all()
    assert float(eased(torch.tensor(0.5), 1.2)) > 0.6
    area = eased_area(since, 1.2)
    torch.testing.assert_close(area.diff() / 1e-3, (share[1:] + share[:-1]) / 2, atol=1e-6, rtol=0)


def test_no_change_jumps_in_the_picture() -> None:
    values = {**CHANGES, "speed": "fast", "camera": "pans right"}
    seconds = times(torch.tensor([9.5]), 44)
    steps = {}
    for name, value in values.items():
        frames = film(scene(), scene(**{name: value}), seconds, torch.tensor([10.0])).float()
        steps[name] = (frames[:, 1:] - frames[:, :-1]).abs().mean((0, 2, 3, 4)).max().item()
    # A cut from day to night is a step of more than 80.
    assert max(steps.values()) < 12, steps


def test_films_move_smoothly_after_hours() -> None:
    some = world.sample_scenes(6, torch.Generator().manual_seed(5))
    early, late = (
        render(some, times(torch.full((6,), start), 4)).float() for start in (5.0, 36_000.0)
    )
    for frames in (early, late):
        step = (frames[:, 1:] - frames[:, :-1]).abs().mean((2, 3, 4))
        assert step.min() > 0
        assert step.max() < 15
        # No frame stands out among its neighbours.
        assert (step.amax(1) < 4 * step.amin(1) + 1).all()


def test_paths_are_periodic_to_the_last_digit_after_hours() -> None:
    some = scene()
    beat = 0.075 * (0.9 + 0.2 * some.named("pace").item())
    turns = int(36_000 * beat)
    clock = torch.tensor([[4.0, 4.0 + turns / beat]], dtype=torch.float64)
    now = moments(some, some, clock, torch.zeros(1))
    assert clock[0, 1] > 35_900
    assert (now.pose.x[0] - now.pose.x[1]).abs() < 1e-6


def test_the_thing_stays_in_the_picture() -> None:
    some = world.sample_scenes(300, torch.Generator().manual_seed(2))
    seconds = times(torch.zeros(300), 40, stride=7)
    pose = moments(some, some, seconds, torch.zeros(300)).pose
    assert ((pose.x > 0.8 * pose.radius) & (pose.x < world.WIDTH - 0.8 * pose.radius)).all()
    assert (pose.y > 0.8 * pose.radius).all()
    assert (pose.floor < world.HEIGHT).all()


def test_things_fit_the_square_that_they_are_drawn_in(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"size": "big", "camera": "zooms", "motion": "drifts", "companion": "none"}
    rows = [world.attribute_index(shape=shape, **values) for shape in world.ATTRIBUTES["shape"]]
    layout = world.sample_layout(1, torch.Generator().manual_seed(4)).expand(len(rows), -1)
    some = world.Scenes(torch.tensor(rows), layout)
    seconds = times(torch.zeros(len(rows)), 6, stride=24)
    assert moments(some, some, seconds, torch.zeros(len(rows))).zoom.max() > 1.2
    frames = render(some, seconds)
    monkeypatch.setattr(things, "CROP", 140)
    assert torch.equal(frames, render(some, seconds))


def test_a_car_looks_where_it_goes() -> None:
    for camera, side in (("pans left", -1), ("pans right", 1)):
        some = scene(shape="car", camera=camera, motion="rests")
        facing = moments(some, some, times(torch.zeros(1), 3), torch.zeros(1)).pose.facing
        assert (facing * side > 0.9).all()
    some = scene(shape="car", motion="rolls")
    pose = moments(some, some, times(torch.zeros(1), 400), torch.zeros(1)).pose
    step, facing = pose.x[1:] - pose.x[:-1], pose.facing[1:]
    assert (step[step.abs() > 0.7] * facing[step.abs() > 0.7] > 0).all()


def test_a_companion_passes_by_again_and_again() -> None:
    some = scene(camera="pans right")
    x = moments(some, some, times(torch.zeros(1), 2000), torch.zeros(1)).companion_x
    seen = (x > 0) & (x < world.WIDTH)
    assert 0.8 < seen.float().mean() < 1
    jumps = (x[1:] - x[:-1]).abs() > 100
    # Where it jumps to the other side, it is out of sight on both.
    assert jumps.any()
    assert (x[1:][jumps] > world.WIDTH + 12).all()
    assert (x[:-1][jumps] < -12).all()


def test_thing_cells_cover_what_a_colour_changes() -> None:
    some = world.sample_scenes(12, torch.Generator().manual_seed(8))
    row = some.attributes.clone()
    row[:, world.WEATHER] = row[:, world.GROUND] = 0
    other = row.clone()
    other[:, world.COLOUR] = (row[:, world.COLOUR] + 3) % 8
    one, two = world.Scenes(row, some.layout), world.Scenes(other, some.layout)
    seconds = torch.full((12, 1), 3.0)
    cells = thing_cells(one, one, seconds, torch.zeros(12))
    assert cells.shape == (12, 1, world.HEIGHT // CELL, world.WIDTH // CELL)
    differs = (render(one, seconds) != render(two, seconds)).any(2)
    assert differs.any(-1).any(-1).all()
    assert not (differs & ~pixels(cells)).any()
    assert cells.float().mean() < 0.25
