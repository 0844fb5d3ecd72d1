"""The bundled captioner tells in a real browser what its camera shows: a rendered scene."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from longtake.training.caption_metrics import rendered_rounds
from longtake.training.valley.script import Scripts
from longtake.training.valley.world import attribute_index, sample_layout
from longtake.weights import CAPTIONER

LINES = "longtake-witness .lt-lines li"
SECONDS, RATE = 6, 8


@pytest.fixture(scope="session")
def browser(launch_with_camera) -> Browser:
    """Chromium, whose camera shows one scene, in which nothing changes."""
    row = attribute_index(colour="red", shape="ball", ground="grass", time="night", weather="snow")
    layout = sample_layout(1, torch.Generator().manual_seed(1))
    never = torch.full((1, 1), torch.inf, dtype=torch.float64)
    script = Scripts(torch.tensor([[row, row]]), layout, never)
    frames = torch.cat(list(rendered_rounds(script, SECONDS, RATE))).permute(0, 2, 3, 1)
    return launch_with_camera(list(frames.contiguous().numpy()), RATE)


@pytest.fixture
def page(open_tab, served, model, takes, turn_to_witness) -> Iterator[Page]:
    """The studio, whose camera may be used."""
    with (
        served(model, takes, watched=CAPTIONER, words=64) as server,
        open_tab(server.url, permissions=["camera"]) as page,
    ):
        yield turn_to_witness(page, server.url)


def test_captions_and_answers_name_what_the_camera_shows(page):
    page.get_by_role("button", name="Start the camera").click()
    scene = page.locator(LINES).filter(has_text="ball").first
    expect(scene).to_contain_text("red ball")
    for word in ("snow", "night"):
        expect(scene).to_contain_text(word)
    page.get_by_label("Question").fill("what colour is the ball?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(LINES).filter(has_text="what colour is the ball?")).to_contain_text("red")
