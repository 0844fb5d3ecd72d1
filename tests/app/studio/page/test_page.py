"""The page in a real browser."""

from __future__ import annotations

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from longtake.app.cues import Cue, from_script
from longtake.app.wire import Applied, Error, Goodbye, Notice, Queued, Settings

# The colour in a corner of the picture, where the drawn ball never is. It is read from a copy:
# reading the canvas itself would slow it down.
CORNER = """() => {
    const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    copy.drawImage(document.querySelector("canvas"), -5, -5);
    return [...copy.getImageData(0, 0, 1, 1).data];
}"""
STAGE = "document.querySelector('longtake-stage')"
SHOWN = f"() => {STAGE}?.view?.shown?.index ?? -1"
SERIOUS = {"serious", "critical"}


def load(page, studio):
    """Open the page and wait until it plays."""
    page.goto(studio.url)
    page.wait_for_function(f"({SHOWN})() >= 0")
    return page


def say(page, text):
    page.fill("[name=text]", text)
    page.keyboard.press("Enter")


def wait_for_colour(page, channel):
    """Until a corner of the picture is mostly red (0), green (1) or blue (2)."""
    page.wait_for_function(f"({CORNER})()[{channel}] > 120")


def test_a_film_plays_without_being_asked_for(page, studio):
    load(page, studio)
    [opened] = studio.fake.messages("open")
    assert opened.prompt == "a red ball bounces on green grass on a sunny day"
    expect(page.locator(".lt-state")).to_have_text("live")
    expect(page.locator(".lt-track li")).to_have_text([opened.prompt])
    wait_for_colour(page, 0)


def test_a_prompt_changes_the_picture_and_gets_its_receipt(page, studio):
    load(page, studio)
    say(page, "a blue car")
    receipt = page.locator(".lt-receipts li").first
    expect(receipt.locator("q")).to_have_text("a blue car")
    expect(receipt).to_have_attribute("data-state", "seen")
    said = re.compile(r"^accepted in \d+ ms for chunk \d+, on screen after \d+ ms$")
    expect(receipt.locator("span")).to_have_text(said)
    expect(page.locator(".lt-unseen")).to_have_text(re.compile("on screen after"))
    wait_for_colour(page, 2)
    expect(page.locator(".lt-track li")).to_have_count(2)
    expect(page.locator(".lt-track [aria-current]")).to_have_text("a blue car")


def test_prompts_that_apply_together_are_all_told_of_and_kept(page, studio, tmp_path):
    studio.fake.gathers = True
    load(page, studio)
    page.locator("[name=at]").fill("2.5")
    say(page, "make it green")
    page.locator("[name=at]").fill("2.5")
    say(page, "night falls")
    receipts = page.locator(".lt-receipts li[data-state=seen]")
    expect(receipts.locator("q")).to_have_text(["night falls", "make it green"])
    segments = page.locator(".lt-track li")
    expect(segments).to_have_count(3)
    expect(page.locator(".lt-track [aria-current]")).to_have_text(["make it green", "night falls"])
    widths = segments.evaluate_all("all => all.map((one) => one.offsetWidth)")
    assert widths[1] > 0
    assert abs(widths[1] - widths[2]) <= 1
    # Told again, as after a lost connection.
    for told in studio.fake.messages("prompt"):
        studio.fake.say(Applied(id=told.id, take=1, chunk=5, time=2.5, prompt=told.text))
    expect(segments).to_have_count(3)
    page.get_by_role("button", name="More").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save script").click()
    saved.value.save_as(tmp_path / "script.jsonl")
    told = from_script(tmp_path / "script.jsonl", 10)[1:]
    assert told == [Cue(2.5, "make it green"), Cue(2.5, "night falls")]


def test_how_prompts_are_read_is_told_when_it_is_on_the_screen(page, studio):
    studio.fake.reads = {
        "make it green": "a green ball bounces on the grass",
        "it stays so": "",
    }
    load(page, studio)
    read = page.locator(".lt-read")
    # Of the first prompt nothing is told: as of a model that reads prompts as they are.
    expect(read).to_be_hidden()
    say(page, "make it green")
    expect(read).to_have_text("Read as “a green ball bounces on the grass”")
    assert page.evaluate(f"() => {STAGE}.receipts.all[0].state") == "seen"
    page.reload()
    page.wait_for_function(f"({SHOWN})() >= 0")
    expect(read).to_have_text("Read as “a green ball bounces on the grass”")
    say(page, "it stays so")
    expect(read).to_be_hidden()


DROP = """(picture) => {
    const data = new DataTransfer();
    data.items.add(new File(["dropped"], "dropped.png", {type: "image/png"}));
    for (const type of ["dragover", "drop"]) {
        const options = {dataTransfer: data, bubbles: true, cancelable: true};
        picture.dispatchEvent(new DragEvent(type, options));
    }
}"""


def test_a_take_begins_with_a_picture_that_is_chosen_or_dropped(page, studio, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"a picture")
    load(page, studio)
    page.get_by_role("button", name="More").click()
    page.fill("[name=text]", "a blue car")
    page.locator("longtake-drawer .lt-start").set_input_files(tmp_path / "photo.png")
    page.wait_for_function(f"() => {STAGE}.view.shown.take === 2")
    expect(page.locator(".lt-prompt")).to_have_attribute("data-state", "sent")
    page.get_by_role("button", name="New seed").click()
    page.wait_for_function(f"() => {STAGE}.view.shown.take === 3")
    page.locator("longtake-stage .lt-picture").evaluate(DROP)
    page.wait_for_function(f"() => {STAGE}.view.shown.take === 4")
    first, *later = studio.fake.messages("open")
    assert first.start is None
    assert [(each.prompt, each.start) for each in later] == [
        ("a blue car", "start-1"),
        ("a blue car", "start-1"),
        ("a blue car", "start-2"),
    ]
    assert later[1].seed != later[0].seed
    session = studio.fake.session
    assert studio.fake.starts == [
        (session, "secret", b"a picture"),
        (session, "secret", b"dropped"),
    ]
    # One that is refused leaves the film as it is.
    studio.fake.limits = studio.fake.limits.model_copy(update={"start": 10})
    page.reload()
    page.wait_for_function(f"({SHOWN})() >= 0")
    page.get_by_role("button", name="More").click()
    (tmp_path / "photo.png").write_bytes(b"a picture that is too large")
    page.locator("longtake-drawer .lt-start").set_input_files(tmp_path / "photo.png")
    expect(page.locator("longtake-stage .lt-said")).to_contain_text("at most 10 can be sent")
    assert len(studio.fake.messages("open")) == 4


def test_where_no_picture_can_begin_a_film_none_can_be_chosen(page, studio):
    studio.fake.limits = studio.fake.limits.model_copy(update={"start": 0})
    load(page, studio)
    page.get_by_role("button", name="More").click()
    expect(page.get_by_role("button", name="Restart")).to_be_visible()
    expect(page.locator(".lt-starts")).to_be_hidden()
    page.locator("longtake-stage .lt-picture").evaluate(DROP)
    assert studio.fake.starts == []


def test_typing_is_acknowledged_in_the_same_turn(page, studio):
    load(page, studio)
    state = page.evaluate(
        """() => {
            const field = document.querySelector("[name=text]");
            field.value = "a blue car";
            field.dispatchEvent(new Event("input"));
            return [field.form.dataset.state, document.querySelector(".lt-hint").textContent];
        }"""
    )
    assert state == ["draft", "Enter applies"]


def test_a_word_that_is_not_known_is_underlined_and_mended_with_a_click(page, studio):
    load(page, studio)
    page.locator("[name=text]").press_sequentially("a pruple ball of xyzzy")
    expect(page.locator(".lt-mirror mark")).to_have_text(["pruple", "of"])
    page.locator("[name=text]").press("Space")
    expect(page.locator(".lt-suggestions span").last).to_contain_text("xyzzy")
    page.get_by_role("button", name="Replace pruple by purple").click()
    expect(page.locator("[name=text]")).to_have_value("a purple ball of xyzzy ")
    expect(page.locator("[name=text]")).to_be_focused()


def test_live_mode_sends_whole_known_words_only(page, studio):
    load(page, studio)
    page.get_by_role("switch", name="Live").check()
    page.locator("[name=text]").press_sequentially("a blue xyzzy ca")
    expect(page.locator(".lt-receipts q").first).to_have_text("a blue")
    page.locator("[name=text]").press_sequentially("r")
    expect(page.locator(".lt-receipts q").first).to_have_text("a blue car")
    texts = [message.text for message in studio.fake.messages("prompt")]
    assert texts[-1] == "a blue car"
    assert not any("xyzzy" in text or text.endswith("ca") for text in texts)


def test_nothing_is_sent_while_a_word_is_being_composed(page, studio):
    page.clock.install()
    load(page, studio)
    page.get_by_role("switch", name="Live").check()
    field = page.locator("[name=text]")
    field.dispatch_event("compositionstart")
    field.fill("a blue ball")
    field.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    page.clock.fast_forward(10_000)
    assert page.locator(".lt-receipts li").count() == 0
    field.dispatch_event("compositionend")
    expect(page.locator(".lt-receipts q")).to_have_text("a blue ball")
    assert len(studio.fake.messages("prompt")) == 1


def test_a_prompt_can_be_given_ahead_and_used_again(page, studio):
    load(page, studio)
    page.locator("[name=at]").fill("2.5")
    say(page, "a blue car")
    waiting = page.locator(".lt-waits")
    expect(waiting).to_have_text("a blue car")
    expect(page.locator(".lt-receipts")).to_contain_text("at 2.5 s")
    expect(waiting).to_have_count(0)
    wait_for_colour(page, 2)
    expect(page.locator("[name=at]")).to_have_value("")
    page.get_by_role("button", name="a red ball").click()
    expect(page.locator("[name=text]")).to_have_value(studio.fake.messages("open")[0].prompt)
    page.locator("[name=transition]").fill("3")
    page.locator("[name=text]").press("Enter")
    wait_for_colour(page, 0)
    assert [message.transition for message in studio.fake.messages("prompt")] == [0, 3]


def test_pause_stops_the_picture_at_once_and_resume_goes_on(page, studio):
    load(page, studio)
    page.get_by_role("button", name="Pause").click()
    before = page.evaluate(SHOWN)
    expect(page.locator(".lt-state")).to_have_text("paused")
    page.evaluate("() => new Promise(done => { let left = 30; const tick = () => "
                  "--left ? requestAnimationFrame(tick) : done(); tick(); })")  # fmt: skip
    assert page.evaluate(SHOWN) == before
    page.get_by_role("button", name="Resume").click()
    page.wait_for_function(f"({SHOWN})() > {before + 10}")
    assert [message.type for message in studio.fake.told[-2:]] == ["pause", "resume"]


def test_a_paused_take_is_still_paused_after_a_reload(page, studio):
    load(page, studio)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".lt-state")).to_have_text("paused")
    page.reload()
    expect(page.locator(".lt-notice p")).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    page.wait_for_function(f"({SHOWN})() >= 0")
    assert [message.type for message in studio.fake.told[-2:]] == ["pause", "resume"]


def hide(page, hidden):
    """Tell the page that its tab is hidden, or seen again."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_tab_pauses_the_take_until_it_is_seen(page, studio):
    load(page, studio)
    hide(page, True)
    expect(page.locator(".lt-state")).to_have_text("paused")
    hide(page, False)
    expect(page.locator(".lt-state")).to_have_text("live")
    page.get_by_role("button", name="Pause").click()
    hide(page, True)
    hide(page, False)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert [each.type for each in studio.fake.told[-3:]] == ["pause", "resume", "pause"]


def test_a_reload_goes_on_with_the_take(page, studio):
    load(page, studio)
    say(page, "a blue car")
    wait_for_colour(page, 2)
    before = page.evaluate(SHOWN)
    page.reload()
    page.wait_for_function(f"({SHOWN})() > {before}")
    wait_for_colour(page, 2)
    assert studio.fake.resumed == 1
    assert len(studio.fake.messages("open")) == 1
    expect(page.locator(".lt-track li")).to_have_count(2)
    expect(page.locator(".lt-state")).to_have_text("live")


def test_a_lost_connection_is_taken_up_again(page, studio):
    load(page, studio)
    studio.fake.drop()
    page.wait_for_function(f"() => {STAGE}.session.phase === 'lost'")
    expect(page.locator(".lt-notice p")).to_have_text("The connection is lost. Trying again…")
    expect(page.locator(".lt-notice")).to_have_attribute("data-shown", "no")
    page.wait_for_function(f"({SHOWN})() > {page.evaluate(SHOWN) + 10}")
    assert studio.fake.resumed == 1
    assert len(studio.fake.messages("open")) == 1


def test_what_is_asked_while_the_connection_closes_is_asked_again(page, studio):
    load(page, studio)
    page.evaluate(
        f"() => {{ {STAGE}.connection.socket.close(); {STAGE}.say({{ text: 'a blue car' }}); }}"
    )
    expect(page.locator(".lt-receipts li")).to_have_attribute("data-state", "seen")
    [told] = studio.fake.messages("prompt")
    assert told.text == "a blue car"


def test_a_session_that_is_gone_begins_anew_where_it_was(page, studio):
    load(page, studio)
    say(page, "a blue car")
    wait_for_colour(page, 2)
    studio.fake.forget()
    studio.fake.drop()
    page.wait_for_function(f"() => {STAGE}.take.marks.length === 1")
    assert [message.prompt for message in studio.fake.messages("open")][1:] == ["a blue car"]


def test_what_begins_anew_is_the_whole_scene_and_the_take_that_was_cut_off_is_offered(
    page, studio, begin, record
):
    studio.fake.reads = {"make it green": "a green ball bounces on the grass"}
    load(page, studio)
    say(page, "make it green")
    expect(page.locator(".lt-read")).to_be_visible()
    expect(page.locator(".lt-offer")).to_be_hidden()
    leave_interrupted(studio, begin, record)
    studio.fake.forget()
    studio.fake.drop()
    expect(page.locator(".lt-offer")).to_contain_text("5.0 s of it are kept: “day”")
    opened = [message.prompt for message in studio.fake.messages("open")]
    assert opened[1:] == ["a green ball bounces on the grass"]


def test_the_queue_is_shown_with_the_place_in_it(page, studio):
    studio.fake.queued = 2
    studio.fake.turn.clear()
    page.goto(studio.url)
    notice = page.locator(".lt-notice p")
    expect(notice).to_have_text("Others are filming. Your place in the queue: 2")
    studio.fake.say(Queued(position=1))
    expect(notice).to_have_text("Others are filming. Your place in the queue: 1")
    studio.fake.turn.set()
    expect(page.locator(".lt-state")).to_have_text("live")


def test_what_is_asked_for_in_the_queue_is_what_the_film_begins_with(page, studio):
    studio.fake.queued = 1
    studio.fake.turn.clear()
    page.goto(studio.url)
    expect(page.locator(".lt-notice p")).to_contain_text("Your place in the queue")
    say(page, "a blue car")
    studio.fake.turn.set()
    wait_for_colour(page, 2)
    assert [message.prompt for message in studio.fake.messages("open")] == ["a blue car"]


@pytest.mark.parametrize(
    ("reason", "said", "action"),
    [
        ("idle", "nothing was asked for a while", "Begin again"),
        ("time_up", "others wait", "Begin again"),
        ("replaced", "another window", "Take it back"),
    ],
)
def test_an_end_is_said_with_a_way_on(page, studio, reason, said, action):
    load(page, studio)
    studio.fake.say(Goodbye(reason=reason))
    expect(page.locator(".lt-notice p")).to_contain_text(said)
    page.get_by_role("button", name=action).click()
    page.wait_for_function(f"({SHOWN})() >= 0")
    expect(page.locator(".lt-state")).to_have_text("live")


def test_a_take_that_failed_is_begun_again_with_its_prompt(page, studio):
    load(page, studio)
    say(page, "a blue car")
    wait_for_colour(page, 2)
    failure = Error(
        code="model_failed", message="the model failed", retryable=True, hint="3 s kept"
    )
    studio.fake.say(failure)
    expect(page.locator(".lt-notice p")).to_have_text("the model failed: 3 s kept")
    page.get_by_role("button", name="Begin again").click()
    expect(page.locator(".lt-notice")).to_have_attribute("data-shown", "no")
    assert studio.fake.messages("open")[1].prompt == "a blue car"


def test_what_ends_nothing_is_said_and_the_film_goes_on(page, studio):
    load(page, studio)
    studio.fake.say(Notice(message="the disk is full", hint="make room"))
    expect(page.locator("longtake-stage .lt-said")).to_have_text("the disk is full: make room")
    page.wait_for_function(f"({SHOWN})() > {page.evaluate(SHOWN)} + 16")
    expect(page.locator(".lt-state")).to_have_text("live")


def test_a_film_that_the_server_paused_is_gone_on_with(page, studio):
    load(page, studio)
    studio.fake.running = False
    studio.fake.say(Notice(message="nothing was asked for", hint="go on", paused=True))
    expect(page.locator(".lt-notice p")).to_have_text("nothing was asked for: go on")
    expect(page.locator(".lt-state")).to_have_text("paused")
    page.reload()
    expect(page.locator(".lt-notice p")).to_have_text("nothing was asked for: go on")
    page.locator(".lt-notice").get_by_role("button", name="Go on").click()
    page.wait_for_function(f"({SHOWN})() >= 0")
    expect(page.locator(".lt-state")).to_have_text("live")
    studio.fake.say(Notice(message="nothing was asked for", hint="go on", paused=True))
    say(page, "a blue car")
    expect(page.locator(".lt-receipts li").first).to_have_attribute("data-state", "seen")
    assert [message.type for message in studio.fake.told[1:]] == ["resume", "resume", "prompt"]


def test_nobody_asks_for_animation_frames_for_nothing(page, studio):
    """Gradio's loading screen did, sixty times a second, after it was gone."""
    page.add_init_script(
        """const frame = window.requestAnimationFrame.bind(window);
        window.asked = 0;
        window.requestAnimationFrame = (callback) => { window.asked += 1; return frame(callback); };
        """
    )
    load(page, studio)
    page.wait_for_timeout(3000)
    before = page.evaluate("() => window.asked")
    shown = page.evaluate(SHOWN)
    page.wait_for_timeout(3000)
    assert page.evaluate("() => window.asked") - before < 30
    assert page.evaluate(SHOWN) > shown


def test_a_slow_machine_plays_slower_and_says_so(page, studio):
    studio.fake.speed = 0.5
    page.set_viewport_size({"width": 1100, "height": 800})
    load(page, studio)
    expect(page.locator(".lt-numbers")).to_contain_text("slower: 8.0 of 16 frames")
    assert page.evaluate(f"() => {STAGE}.view.buffer.speed") == 0.5
    # All that it may say fits into one line.
    page.locator(".lt-numbers").evaluate("(e) => { e.textContent += ' · delay 1000 ms'; }")
    box = page.locator(".lt-status").evaluate(
        "(e) => [e.scrollWidth - e.clientWidth, e.clientHeight]"
    )
    assert box[0] <= 0
    assert box[1] < 30


def test_a_refusal_is_shown_where_the_prompt_is(page, studio):
    load(page, studio)
    studio.fake.refuse = Error(
        code="bad_prompt", message="no such prompt", retryable=False, hint="try another"
    )
    say(page, "a blue car")
    receipt = page.locator(".lt-receipts li").first
    expect(receipt).to_contain_text("refused; no such prompt: try another")


def test_save_and_still_are_downloads(page, studio):
    load(page, studio)
    with page.expect_download() as film:
        page.get_by_role("button", name="Save", exact=True).click()
    assert film.value.suggested_filename == "take-1.mp4"
    page.get_by_role("button", name="More").click()
    with page.expect_download() as still:
        page.get_by_role("button", name="Still").click()
    assert still.value.suggested_filename == "take-1-8.png"
    [asked] = studio.fake.messages("still")
    assert asked.frame.take == 1
    page.get_by_label("The last").fill("4")
    with page.expect_download():
        page.locator("[data-do=saveLast]").click()
    assert [message.seconds for message in studio.fake.messages("save")] == [None, 4]


def test_settings_are_sent_and_a_refused_one_is_put_back(page, studio):
    load(page, studio)
    page.get_by_role("button", name="More").click()
    steps = page.get_by_label("Steps")
    expect(steps).to_have_value("4")
    steps.fill("2")
    steps.press("Enter")
    page.get_by_label("Switch").select_option("flush")
    page.wait_for_function(f"() => {STAGE}.take.settings.switch === 'flush'")
    studio.fake.refuse = Error(
        code="bad_setting", message="too many steps", retryable=False, hint="use 8"
    )
    steps.fill("50")
    steps.press("Enter")
    expect(page.locator("longtake-stage .lt-said")).to_have_text("too many steps: use 8")
    expect(steps).to_have_value("2")


def test_restart_keeps_the_prompts_and_new_seed_changes_the_seed(page, studio):
    load(page, studio)
    page.locator("[name=transition]").fill("3")
    say(page, "a blue car")
    expect(page.locator(".lt-receipts li")).to_have_attribute("data-state", "seen")
    time = page.evaluate(f"() => {STAGE}.take.marks[1].time")
    page.get_by_role("button", name="More").click()
    seed = page.locator(".lt-seed")
    first = studio.fake.messages("open")[0].seed
    expect(seed).to_have_text(str(first))
    page.get_by_role("button", name="Restart").click()
    page.wait_for_function(f"() => {STAGE}.view.shown.take === 2")
    expect(seed).to_have_text(str(first))
    page.wait_for_function(f"() => {STAGE}.receipts.all[1]?.accepted !== undefined")
    again = studio.fake.messages("prompt")[1]
    assert (again.text, again.at, again.transition) == ("a blue car", time, 3)
    page.get_by_role("button", name="New seed").click()
    page.wait_for_function(f"() => {STAGE}.view.shown.take === 3")
    before, same, other = studio.fake.messages("open")
    settings = Settings(steps=4, window=9, sink=3, switch="recache")
    assert same == before.model_copy(update={"id": same.id, "settings": settings})
    assert other.seed != same.seed
    expect(seed).to_have_text(str(other.seed))


def test_a_script_is_saved_as_generate_reads_it_and_loaded(page, studio, tmp_path):
    load(page, studio)
    say(page, "a blue car")
    wait_for_colour(page, 2)
    page.get_by_role("button", name="More").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save script").click()
    saved.value.save_as(tmp_path / "script.jsonl")
    first, second = from_script(tmp_path / "script.jsonl", 10)
    assert first == Cue(0, studio.fake.messages("open")[0].prompt)
    assert second.prompt == "a blue car"
    page.locator("longtake-drawer .lt-script").set_input_files(tmp_path / "script.jsonl")
    expect(page.locator(".lt-waits")).to_have_text("a blue car")
    assert studio.fake.messages("open")[1].prompt == first.prompt
    assert studio.fake.messages("prompt")[-1].at == second.at
    (tmp_path / "broken.jsonl").write_text(json.dumps({"at": "soon", "prompt": "night falls"}))
    page.locator("longtake-drawer .lt-script").set_input_files(tmp_path / "broken.jsonl")
    expect(page.locator("longtake-drawer .lt-said").first).to_contain_text("Line 1 does not fit")


def test_takes_are_listed_downloaded_and_repeated(page, studio, begin, record):
    recording = begin(studio.takes)
    studio.fake.recording = recording.folder.name
    record(recording, range(40), (0, "day"), (2, "night"))
    begin(studio.takes)  # another visitor's
    load(page, studio)
    page.get_by_role("button", name="More").click()
    row = page.locator(".lt-takes li").last
    expect(row).to_contain_text("4.5 s")
    with page.expect_download() as moving:
        page.get_by_role("button", name="WebP").click()
    assert moving.value.suggested_filename == f"{recording.folder.name}.webp"
    recording.close()
    row.get_by_role("button", name="Command").click()
    expect(page.locator("longtake-drawer .lt-said").first).to_contain_text(
        "Copied: python launch.py"
    )
    assert page.evaluate("() => navigator.clipboard.readText()").startswith(
        "python launch.py generate"
    )
    row.get_by_role("button", name="Keep").click()
    expect(row.get_by_role("button", name="Kept")).to_have_attribute("aria-pressed", "true")
    with page.expect_download() as film:
        row.get_by_role("button", name="MP4").click()
    assert film.value.suggested_filename == f"{recording.folder.name}.mp4"


def leave_interrupted(studio, begin, record):
    """A take as a kill leaves it."""
    recording = begin(studio.takes)
    record(recording, range(40), (0, "day"))
    recording.cut()
    recording._journal.close()
    return recording


def test_an_interrupted_take_is_offered_until_it_is_dismissed(page, studio, begin, record):
    recording = leave_interrupted(studio, begin, record)
    load(page, studio)
    offer = page.locator(".lt-offer")
    expect(offer).to_contain_text("5.0 s of it are kept: “day”")
    with page.expect_download():
        offer.get_by_role("button", name="Save film").click()
    offer.get_by_role("button", name="Dismiss").click()
    expect(offer).to_be_hidden()
    assert studio.takes.find(recording.folder.name).state == "finished"


def test_everything_on_the_stage_can_be_done_with_the_keyboard(page, studio):
    load(page, studio)
    reached = []
    while not (reached and reached[-1].startswith("More")):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
                const at = document.activeElement;
                const box = at.name === "text" ? at.closest(".lt-box") : at;
                return [at.textContent.trim() || at.name, getComputedStyle(box).outlineStyle];
            }"""
        )
        reached.append(name)
        assert outline != "none", name
    names = ["Pause", "Save", "text", "Apply", "live", "at", "transition"]
    assert [name for name in reached if name in names] == names
    assert reached[-1].startswith("More")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_axe_finds_no_serious_fault(page, studio, scheme, width):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 800})
    load(page, studio)
    page.locator("[name=text]").press_sequentially("a pruple ball ")
    expect(page.locator(".lt-suggestions button")).to_be_visible()
    page.get_by_role("button", name="More").click()
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in SERIOUS] == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_no_text_moves_the_page_beyond_a_phone(page, studio):
    page.set_viewport_size({"width": 375, "height": 667})
    load(page, studio)
    expect(page.get_by_role("button", name="Apply")).to_be_in_viewport()
    expect(page.locator("longtake-stage canvas")).to_be_in_viewport()
