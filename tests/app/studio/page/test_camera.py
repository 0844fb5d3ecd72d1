"""The bundled captioner tells in a real browser what its camera shows: a rendered scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
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
def camera_file(tmp_path_factory) -> Path:
    """What Chromium's camera shows over and over: one scene, in which nothing changes."""
    row = attribute_index(colour="red", shape="ball", ground="grass", time="night", weather="snow")
    layout = sample_layout(1, torch.Generator().manual_seed(1))
    never = torch.full((1, 1), torch.inf, dtype=torch.float64)
    script = Scripts(torch.tensor([[row, row]]), layout, never)
    path = tmp_path_factory.mktemp("camera") / "scene.y4m"
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W256 H144 F{RATE}:1 Ip A1:1 C420jpeg\n".encode())
        for second in rendered_rounds(script, SECONDS, RATE):
            for pixels in second.permute(0, 2, 3, 1).numpy():
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")
                file.write(b"FRAME\n" + frame.to_ndarray(format="yuv420p").tobytes())
    return path


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Browser], camera_file: Path) -> Browser:
    """Chromium with that camera."""
    return launch(
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera_file}"
    )


@pytest.fixture
def page(open_tab, served, model, takes) -> Iterator[Page]:
    """The studio, whose camera may be used."""
    with (
        served(model, takes, watched=CAPTIONER, words=64) as server,
        open_tab(server.url, permissions=["camera"]) as page,
    ):
        page.goto(server.url)
        page.wait_for_function("() => document.querySelector('longtake-tabs')?.tabs")
        page.get_by_role("tab", name="Witness").click()
        yield page


def test_captions_and_answers_name_what_the_camera_shows(page):
    page.get_by_role("button", name="Start the camera").click()
    scene = page.locator(LINES).filter(has_text="ball").first
    expect(scene).to_contain_text("red ball")
    for word in ("snow", "night"):
        expect(scene).to_contain_text(word)
    page.get_by_label("Question").fill("what colour is the ball?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(LINES).filter(has_text="what colour is the ball?")).to_contain_text("red")
