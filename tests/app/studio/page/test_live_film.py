"""The page and the server together, with the tiny model."""

from __future__ import annotations

import threading

import pytest
from playwright.sync_api import expect

from longtake.app.studio.page import mount_page
from longtake.app.studio.server import Server, listen, make_app
from longtake.app.studio.settings import StudioSettings

SHOWN = "() => document.querySelector('longtake-stage')?.view?.shown?.index ?? -1"


@pytest.fixture
def studio(model, takes):
    """The whole server; in place of the one with a fake stream."""
    settings = StudioSettings(port=0, tick=0.1)
    socket = listen(settings)
    app = mount_page(make_app(model, settings, takes), model, takes)
    server = Server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    server.url = f"http://127.0.0.1:{socket.getsockname()[1]}/"
    yield server
    server.should_exit = True
    thread.join()


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
