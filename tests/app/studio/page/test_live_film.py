"""The page and the server together, with the tiny model and with the bundled one."""

from __future__ import annotations

import subprocess
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import expect

import longtake

PROMPT = "a red ball bounces on green grass on a sunny day"
SEEN = """([take, index]) => {
    const { shown } = document.querySelector("longtake-stage").view;
    return shown?.take === take && shown.index >= index;
}"""
SHOWN = "() => document.querySelector('longtake-stage')?.view?.shown?.index ?? -1"


PICTURE = """() => {
    const copy = new OffscreenCanvas(64, 36).getContext("2d", {willReadFrequently: true});
    copy.drawImage(document.querySelector("canvas"), 0, 0, 64, 36);
    return [...copy.getImageData(0, 0, 64, 36).data];
}"""


@pytest.fixture
def studio(model, takes, served):
    """In place of the one with a fake stream."""
    with served(model, takes) as server:
        yield server


def play(page, studio):
    page.goto(studio.url)
    page.wait_for_function(f"({SHOWN})() >= 0")


def test_a_film_is_steered_saved_and_taken_up_after_a_reload(page, studio, read_film, tmp_path):
    play(page, studio)
    page.fill("[name=text]", "night falls")
    page.keyboard.press("Enter")
    receipt = page.locator(".lt-receipts li")
    expect(receipt).to_have_attribute("data-state", "seen")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save", exact=True).click()
    saved.value.save_as(tmp_path / "film.mp4")
    film = read_film(tmp_path / "film.mp4")
    opened, changed = page.evaluate("() => document.querySelector('longtake-stage').take.marks")
    assert film.chapters == [(0, opened["text"]), (changed["time"], "night falls")]
    assert film.size == (32, 32)
    before = page.evaluate(SHOWN)
    page.reload()
    page.wait_for_function(f"({SHOWN})() > {before}")
    expect(page.locator(".lt-track li")).to_have_text([opened["text"], "night falls"])
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Copy as command").click()
    expect(page.locator("longtake-drawer .lt-said").first).to_contain_text("night falls")


def test_the_next_visitor_waits_for_the_first_to_leave(page, studio, browser):
    play(page, studio)
    second = browser.new_page()
    second.goto(studio.url)
    expect(second.locator(".lt-notice p")).to_have_text(
        "Others are filming. Your place in the queue: 1"
    )
    page.evaluate("() => document.querySelector('longtake-stage').session.request('bye')")
    expect(page.locator(".lt-notice p")).to_contain_text("The session has ended")
    expect(second.locator(".lt-state")).to_have_text("live")
    second.close()


def test_pause_holds_the_film_and_settings_reach_the_model(page, studio):
    play(page, studio)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".lt-state")).to_have_text("paused")
    page.get_by_role("button", name="More").click()
    steps = page.get_by_label("Steps")
    expect(steps).to_have_value("2")
    steps.fill("1")
    steps.press("Enter")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_function(
        "() => document.querySelector('longtake-stage').take.settings.steps === 1"
    )
    page.wait_for_function(f"({SHOWN})() > {page.evaluate(SHOWN) + 8}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of this machine, signed by nobody else: the files of certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    to = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run([*command.split(), *about, *to], check=True, capture_output=True)
    return files


def test_a_server_with_token_and_certificate_is_used_as_any_other(
    open_tab, served, model, takes, certificate
):
    token = "let me in; ☂"
    with (
        served(model, takes, certificate, token=token) as server,
        open_tab(server.url, ignore_https_errors=True) as page,
    ):
        for address in (server.url, f"{server.url}?token=wrong", f"{server.url}studio/studio.js"):
            refused = page.request.get(address)
            assert refused.status == 401
            assert refused.text().startswith("An access token is needed")
        page.goto(f"{server.url}?token={quote(token)}")
        # What is seen in the address bar, kept in history or copied has no token.
        assert page.url == server.url
        page.wait_for_function(f"({SHOWN})() >= 0")
        assert page.evaluate("() => isSecureContext")
        (cookie,) = page.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Lax")
        assert "let" not in cookie["value"]
        page.fill("[name=text]", "night falls")
        page.keyboard.press("Enter")
        expect(page.locator(".lt-receipts li")).to_have_attribute("data-state", "seen")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save", exact=True).click()
        assert saved.value.path().stat().st_size > 0
        before = page.evaluate(SHOWN)
        page.reload()
        page.wait_for_function(f"({SHOWN})() > {before}")


def picture(page):
    """What the canvas shows, int [36, 64, 3]."""
    return np.reshape(page.evaluate(PICTURE), (36, 64, 4))[..., :3]


def blue(pixels):
    """Share of pixels as blue as a blue thing, and as nothing else in the bundled world."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return ((blue > 90) & (blue > 2 * red) & (blue > 1.5 * green)).mean()


class TestBundledModel:
    """Whoever types sees it: with the model that comes with Longtake."""

    @pytest.fixture
    def studio(self, takes, served):
        with longtake.open() as model, served(model, takes) as server:
            yield server

    def test_what_is_typed_is_what_is_seen(self, page, studio):
        play(page, studio)
        # What is not told is free, a blue tree among it.
        alone = f"{PROMPT}, all alone"
        page.evaluate("prompt => document.querySelector('longtake-stage').open(prompt, 7)", alone)
        page.wait_for_function(SEEN, arg=[2, 8])
        day = picture(page)
        assert day[:8].mean() > 120
        assert blue(day[18:]) < 0.01
        page.fill("[name=text]", "a blue car on snow at night")
        page.keyboard.press("Enter")
        expect(page.locator(".lt-receipts li")).to_have_attribute("data-state", "seen")
        page.wait_for_function(SEEN, arg=[2, page.evaluate(SHOWN) + 64])
        night = picture(page)
        assert night[:8].mean() < 70
        assert night[28:].mean() > 70
        assert blue(night) > 0.02
        page.fill("[name=text]", "now it rains")
        page.keyboard.press("Enter")
        page.wait_for_function(SEEN, arg=[2, page.evaluate(SHOWN) + 64])
        assert blue(picture(page)) > 0.02
