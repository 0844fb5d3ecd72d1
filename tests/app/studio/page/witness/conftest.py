"""A browser with a camera of the test's own, and the tab that watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import av
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def launch_with_camera(launch, tmp_path_factory) -> Callable[[Sequence[NDArray], int], Browser]:
    """Start a Chromium whose camera shows some frames, RGB, over and over, so many a second."""

    def start(frames: Sequence[NDArray], rate: int) -> Browser:
        path = tmp_path_factory.mktemp("camera") / "camera.y4m"
        height, width, _ = frames[0].shape
        with path.open("wb") as file:
            file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
            for pixels in frames:
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24").to_ndarray(format="yuv420p")
                file.write(b"FRAME\n" + frame.tobytes())
        shown = f"--use-file-for-fake-video-capture={path}"
        return launch("--use-fake-device-for-media-stream", shown)

    return start


@pytest.fixture(scope="session")
def turn_to_witness() -> Callable[[Page, str], Page]:
    """Open the studio at an address, and its Witness tab."""

    def turn(page: Page, url: str) -> Page:
        page.goto(url)
        page.wait_for_function("() => document.querySelector('longtake-tabs')?.tabs")
        page.get_by_role("tab", name="Witness").click()
        return page

    return turn
