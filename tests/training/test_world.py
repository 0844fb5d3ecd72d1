from __future__ import annotations

import torch

from longtake.training import world
from longtake.training.dataset import CHUNK_FRAMES, FADE_FRAMES, film
from longtake.training.pool import draw_marks, times
from longtake.training.render import render, render_switch


def scenes(n: int, seed: int = 0) -> world.Scenes:
    return world.sample_scenes(n, torch.Generator().manual_seed(seed))


def test_render_is_repeatable_and_independent_of_its_batch() -> None:
    some = scenes(5)
    seconds = times(torch.full((5,), 3.0), 2)
    frames = render(some, seconds, batch=2)
    assert frames.shape == (5, 2, 3, 128, 128)
    assert frames.dtype == torch.uint8
    assert torch.equal(frames, render(some, seconds))
    assert torch.equal(frames[3:4, 1:], render(some[3:4], seconds[3:4, 1:]))


def test_every_attribute_changes_the_picture() -> None:
    row = torch.tensor(world.attribute_index(shape="duck", colour="blue", motion="bounces"))
    layout = world.sample_layout(1, torch.Generator().manual_seed(1))
    seconds = torch.tensor([[1.3]])
    plain = render(world.Scenes(row[None], layout), seconds).int()
    for column, count in enumerate(world.COUNTS):
        other = row.clone()
        other[column] = (other[column] + 1) % count
        changed = render(world.Scenes(other[None], layout), seconds).int()
        assert (changed - plain).abs().max() > 60, world.NAMES[column]


def test_motion_is_continuous_after_hours() -> None:
    some = scenes(64)
    where = world.pose(some, times(torch.full((64,), 36_000.0), 200))
    for path in (where.x, where.y):
        assert (path[:, 1:] - path[:, :-1]).abs().max() < 20
    assert ((where.x > where.radius) & (where.x < world.SIZE - where.radius)).all()


def test_held_out_pairs_are_never_drawn_for_training() -> None:
    draw = torch.Generator().manual_seed(0)
    seen = world.sample_attributes(4000, draw)
    held_out = world.sample_attributes(4000, draw, held_out=True)
    assert not world.is_held_out(seen).any()
    assert world.is_held_out(held_out).all()
    columns = (world.SHAPE, world.COLOUR), (world.TIME, world.GROUND)
    tables = world.HELD_OUT_SHAPE_COLOUR, world.HELD_OUT_TIME_GROUND
    for (a, b), table in zip(columns, tables, strict=True):
        every = world.COUNTS[a] * world.COUNTS[b]
        assert len(set(table)) / every >= 0.15
        pairs = {tuple(row) for row in seen[:, [a, b]].tolist()}
        assert len(pairs) == every - len(table)
    assert ("ball", "red") not in world.HELD_OUT_SHAPE_COLOUR
    assert not {("day", "grass"), ("night", "grass")} & set(world.HELD_OUT_TIME_GROUND)


def test_changes_are_those_asked_for_and_stay_on_the_training_side() -> None:
    draw = torch.Generator().manual_seed(0)
    before = world.sample_scenes(2000, draw)
    marks = draw_marks(2000, draw, (0.6, 0.4))
    after = world.change_scenes(before, marks, draw)
    assert torch.equal(before.attributes != after.attributes, marks)
    assert set(marks.sum(1).tolist()) == {1, 2}
    assert not world.is_held_out(after.attributes).any()
    assert after.layout is before.layout


def test_a_switch_is_plain_before_its_border_and_after_its_fade() -> None:
    draw = torch.Generator().manual_seed(4)
    before = world.sample_scenes(3, draw)
    after = world.change_scenes(before, draw_marks(3, draw, (0.0, 0.0, 1.0)), draw)
    seconds = times(torch.full((3,), 5.0), 2 * CHUNK_FRAMES)
    frames = film(before, after, seconds, CHUNK_FRAMES)
    over = CHUNK_FRAMES + FADE_FRAMES
    assert torch.equal(
        frames[:, : CHUNK_FRAMES + 1], render(before, seconds)[:, : CHUNK_FRAMES + 1]
    )
    assert torch.equal(frames[:, over:], render(after, seconds)[:, over:])
    assert not torch.equal(frames[:, over - 4], render(after, seconds)[:, over - 4])
    ones = torch.ones(3, 1)
    done = render_switch(before, after, seconds[:, -1:], ones)
    assert (done.int() - render(after, seconds[:, -1:]).int()).abs().max() <= 1
