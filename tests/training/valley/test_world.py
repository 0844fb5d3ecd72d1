from __future__ import annotations

import pytest
import torch

from longtake.training.valley import world


def marks(n: int, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(n, len(world.NAMES), generator=generator) < 0.15
    drawn[:, 0] |= ~drawn.any(1)
    return drawn


def test_held_out_pairs_are_never_drawn_for_training() -> None:
    draw = torch.Generator().manual_seed(0)
    seen = world.sample_attributes(20_000, draw)
    held_out = world.sample_attributes(2000, draw, held_out=True)
    assert not world.is_held_out(seen).any()
    assert world.is_held_out(held_out).all()
    columns = (world.SHAPE, world.COLOUR), (world.TIME, world.GROUND)
    tables = world.HELD_OUT_SHAPE_COLOUR, world.HELD_OUT_TIME_GROUND
    for (a, b), table in zip(columns, tables, strict=True):
        every = world.COUNTS[a] * world.COUNTS[b]
        assert len(set(table)) / every >= 0.15
        pairs = {tuple(row) for row in seen[:, [a, b]].tolist()}
        assert len(pairs) == every - len(table)


def test_what_belongs_to_a_held_out_pair_is_marked() -> None:
    rows = torch.tensor(
        [
            world.attribute_index(shape="car", colour="pink", time="day", ground="snow"),
            world.attribute_index(shape="ball", colour="red", time="night", ground="sand"),
            world.attribute_index(shape="ball", colour="red", time="day", ground="sand"),
        ]
    )
    marks = world.in_held_out_pair(rows)
    named = [[name for name, m in zip(world.NAMES, row, strict=True) if m] for row in marks]
    assert named == [["shape", "colour"], ["time", "ground"], []]


def test_the_readmes_pairs_are_trained() -> None:
    for shape, colour in (("ball", "red"), ("boat", "blue")):
        assert (shape, colour) not in world.HELD_OUT_SHAPE_COLOUR
    for time, ground in (("day", "grass"), ("sunset", "water")):
        assert (time, ground) not in world.HELD_OUT_TIME_GROUND


def test_every_single_change_has_somewhere_to_go() -> None:
    for table, first, second in (
        (world.HELD_OUT_SHAPE_COLOUR, "shape", "colour"),
        (world.HELD_OUT_TIME_GROUND, "time", "ground"),
    ):
        for position, name, other in ((0, first, second), (1, second, first)):
            for value in world.ATTRIBUTES[name]:
                taken = sum(pair[position] == value for pair in table)
                assert len(world.ATTRIBUTES[other]) - taken >= 2, value


def test_changes_are_those_asked_for_and_stay_on_the_training_side() -> None:
    draw = torch.Generator().manual_seed(0)
    before = world.sample_scenes(2000, draw)
    changed = marks(2000, draw)
    after = world.change_scenes(before, changed, draw)
    assert torch.equal(before.attributes != after.attributes, changed)
    assert not world.is_held_out(after.attributes).any()
    assert after.layout is before.layout


def test_what_no_picture_shows_is_masked() -> None:
    alone = world.attribute_index(companion="none", motion="rolls")
    together = world.attribute_index(companion="tree", motion="rests")
    shown = world.is_meaningful(torch.tensor([alone, together]))
    assert shown[:, world.COMPANION_COLOUR].tolist() == [False, True]
    assert shown[:, world.SPEED].tolist() == [True, False]
    assert shown.sum() == 2 * len(world.NAMES) - 2


def test_a_scene_in_words_has_to_be_of_this_world() -> None:
    assert world.attribute_index(time="night", shape="duck")[world.TIME] == 2
    with pytest.raises(ValueError, match="unknown attribute"):
        world.attribute_index(flavour="sweet")
