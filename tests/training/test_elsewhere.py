"""Clips of other worlds, and what is said of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtake.training import pictures
from longtake.training.elsewhere import Elsewhere, draw_elsewhere, shoot, tellings
from longtake.training.pictures import (
    COLUMNS,
    ROWS,
    SEEN,
    UNSEEN,
    draw_bank,
    main_colour,
    photo_bank,
)
from longtake.training.valley.hearing import Listener


def flat(*colour: int) -> torch.Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 8, 8)


@pytest.mark.parametrize(
    ("colour", "name"),
    [((220, 20, 20), "red"), ((30, 40, 230), "blue"), ((20, 200, 40), "green"),
     ((128, 128, 128), "grey"), ((255, 250, 250), "grey"), ((255, 220, 0), "yellow"),
     ((255, 130, 0), "orange"), ((150, 0, 220), "purple"), ((255, 80, 170), "pink")],
)  # fmt: skip
def test_colours_have_their_names(colour: tuple[int, ...], name: str) -> None:
    assert main_colour(flat(*colour)) == name


@pytest.mark.parametrize("unseen", [False, True])
def test_every_painter_paints_something(unseen: bool) -> None:
    painters = UNSEEN if unseen else SEEN
    bank = draw_bank(len(painters), torch.Generator().manual_seed(1), unseen=unseen)
    assert bank.pictures.shape == (len(painters), 3, ROWS, COLUMNS)
    assert (bank.pictures.float().std((1, 2, 3)) > 1).all()
    again = draw_bank(len(painters), torch.Generator().manual_seed(1), unseen=unseen)
    assert torch.equal(bank.pictures, again.pictures)


def test_training_and_evaluation_have_nothing_in_common() -> None:
    assert not set(SEEN) & set(UNSEEN)


def test_photographs_are_cut_to_shape(tmp_path: Path) -> None:
    Image.new("RGB", (100, 300), (250, 250, 0)).save(tmp_path / "tall.png")
    bank = photo_bank([tmp_path / "tall.png"])
    assert bank.pictures.shape == (1, 3, ROWS, COLUMNS)
    assert bank.colours == ("yellow",)
    assert bank.lights[0] > pictures.BRIGHT


def clip(*, dimmed: tuple[bool, bool], moving: tuple[bool, bool], change: float) -> Elsewhere:
    values = (torch.tensor([value]) for value in (0, dimmed, moving, change, 0.3, 0.5))
    picture, dim, moves, *rest = values
    return Elsewhere(picture, dim, moves, *(each.double() for each in rest))


def test_frames_do_what_is_said_of_them() -> None:
    bank = draw_bank(1, torch.Generator().manual_seed(3))
    seconds = torch.arange(0, 20, 0.5)[None]
    still = (False, False)
    frames = shoot(clip(dimmed=(False, True), moving=still, change=10.2), bank.pictures, seconds)
    light = frames[0].float().mean((1, 2, 3))
    assert (light[:20] == light[0]).all()
    assert light[-1] < 0.5 * light[0]
    frames = shoot(clip(dimmed=still, moving=(True, False), change=10.2), bank.pictures, seconds)
    steps = frames[0].float().diff(dim=0).abs().mean((1, 2, 3))
    assert (steps[:19] > 0).any()
    assert (steps[21:] == 0).all()


def test_a_narration_tells_it_from_the_valley_and_says_what_changes() -> None:
    bank = draw_bank(4, torch.Generator().manual_seed(2))
    clips = draw_elsewhere(200, 24, len(bank), torch.Generator().manual_seed(0))
    rng, heard = random.Random(0), set()
    for number, story in enumerate(tellings(clips, bank)):
        listener = Listener()
        words = [story.round(k, rng).words for k in range(24)]
        for each in words:
            listener.hear(each)
        assert listener.strange
        assert not listener.lost
        assert not listener.beliefs
        assert bank.colours[int(clips.picture[number])] in words[0]
        assert any(words[2:20]) == (story.change <= 19)
        heard |= set(words)
    assert {"It gets darker.", "It gets brighter.", "All comes to a stop."} <= heard
    assert "Something begins to move." in heard


def test_of_a_thing_that_it_does_not_know_it_says_so() -> None:
    bank = draw_bank(1, torch.Generator().manual_seed(2))
    story = tellings(clip(dimmed=(False,) * 2, moving=(True,) * 2, change=torch.inf), bank)[0]
    rng, answers = random.Random(0), {}
    for second in range(3, 40):
        if asked := story.round(second, rng, asking=1.0).asked:
            answers[asked.kind] = asked.answer
    look = {"colour": f"it is mostly {bank.colours[0]}"}
    look |= dict.fromkeys(("motion", "camera"), "something moves")
    assert len(answers) > 5
    for kind, answer in answers.items():
        assert answer == look.get(kind, "i do not know this world")
