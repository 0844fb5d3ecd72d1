"""The witness's tab in a real browser, whose camera shows a rendered file, and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from longtake.app.transcript import Line, TranscriptWriter, read_transcript, search
from longtake.app.wire import ShownFrame
from longtake.app.wire_coding import pack_shown

WITNESS = "document.querySelector('longtake-witness')"
TRACKS = f"() => {WITNESS}.video.srcObject?.getTracks().map((each) => each.readyState) ?? []"
LINES = "longtake-witness .lt-lines li"
SECONDS, RATE = 3, 10


def frames(count: int = RATE * SECONDS) -> Iterator[np.ndarray]:
    """A bright square on its way over a dark field, RGB, ten a second."""
    for index in range(count):
        pixels = np.full((96, 128, 3), 40, np.uint8)
        pixels[30:60, 3 * index % 100 : 3 * index % 100 + 28] = (240, 60, 60)
        yield pixels


@pytest.fixture(scope="session")
def film_file(tmp_path_factory) -> Path:
    """The same as a video."""
    path = tmp_path_factory.mktemp("film") / "square.webm"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for pixels in frames():
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        film.mux(stream.encode(None))
    return path


@pytest.fixture
def studio(model, takes, tiny_captioner, served):
    """In place of the one with a fake stream."""
    with served(model, takes, watched=tiny_captioner) as server:
        yield server


@pytest.fixture(scope="session")
def browser(launch_with_camera) -> Browser:
    """Chromium with a camera of the test's own."""
    return launch_with_camera(list(frames()), RATE)


@pytest.fixture
def page(open_tab, studio, turn_to_witness) -> Iterator[Page]:
    """The witness's tab, whose camera may be used."""
    with open_tab(studio.url, permissions=["camera"]) as page:
        yield turn_to_witness(page, studio.url)


def start_camera(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator(".lt-onair")).to_be_visible()


def download(page: Page, form: str, folder: Path) -> Path:
    """Download the transcript."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=form).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def lines_of(page: Page) -> list[Line]:
    return [Line(**each) for each in page.evaluate(f"() => {WITNESS}.lines.all")]


def test_what_the_camera_sees_is_told_and_asked_about(page, tmp_path):
    start_camera(page)
    expect(page.locator(LINES).nth(1)).to_be_visible()
    expect(page.locator("longtake-witness .lt-caption")).not_to_be_empty()
    for number in range(3):  # a tiny random model may have nothing to say
        page.get_by_label("Question").fill(f"what moves, {number}?")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Question")).to_have_value("")
    expect(page.locator(f"{LINES} q").first).to_contain_text("what moves, ")
    # A line shows its moment, which is kept nowhere but here.
    page.locator(f"{LINES} button").first.click()
    moment = page.get_by_role("button", name="The moment at 0:0")
    expect(moment.locator("img")).to_have_js_property("naturalWidth", 320)
    moment.click()
    expect(moment).to_be_hidden()
    expect(page.get_by_role("button", name="MP4")).to_be_disabled()
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function(f"() => !{WITNESS}.watch")
    lines = lines_of(page)
    for form in ("VTT", "SRT", "JSONL"):
        path = download(page, form, tmp_path)
        assert path.name == f"transcript.{form.lower()}"
        got = read_transcript(path)
        assert got[: len(lines)] == lines
    times = [line.start for line in lines]
    assert times == sorted(times)
    assert {line.end - line.start for line in lines} == {1.0}


def test_lines_stay_where_they_are_as_others_come_and_are_searched(page):
    said = page.evaluate(
        """async (witness) => {
            const { lines } = eval(witness), moved = [];
            const line = (start, text) => ({ start, end: start + 1, text, question: "" });
            for (const [k, text] of ["a red ball", "night falls"].entries()) {
                lines.add(line(k, text));
            }
            const first = lines.list.firstChild;
            new MutationObserver((records) => records.forEach((each) =>
                moved.push(...each.removedNodes))).observe(lines.list, { childList: true });
            lines.add(line(2, "a blue ball"));
            await new Promise((go) => setTimeout(go));
            const lost = moved.includes(first), texts = [];
            for (const asked of ["ball", "blue", ""]) {
                lines.search.value = asked;
                lines.search.dispatchEvent(new Event("input"));
                texts.push([...lines.list.children].map((item) => item.line.text));
            }
            return { lost, texts };
        }""",
        WITNESS,
    )
    assert not said["lost"]
    every = ["a red ball", "night falls", "a blue ball"]
    assert said["texts"] == [["a red ball", "a blue ball"], ["a blue ball"], every]


@pytest.mark.parametrize("leave", ["tab", "stop", "hide"])
def test_the_camera_stops_when_it_is_left(page, leave):
    start_camera(page)
    assert page.evaluate(TRACKS) == ["live"]
    page.evaluate(f"() => window.track = {WITNESS}.video.srcObject.getTracks()[0]")
    if leave == "tab":
        page.get_by_role("tab", name="Film").click()
    elif leave == "stop":
        page.get_by_role("button", name="Stop").click()
    else:
        page.evaluate("""() => {
            Object.defineProperty(document, "hidden", {get: () => true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""")
    page.wait_for_function("() => window.track.readyState === 'ended'")
    expect(page.locator(".lt-onair")).to_be_hidden()


def test_a_video_is_played_here_and_told_of_to_its_end(page, film_file, tmp_path):
    page.set_input_files("longtake-witness [type=file]", film_file)
    page.wait_for_function(f"() => {WITNESS}.ending && {WITNESS}.video.ended")
    page.wait_for_function(f"() => {WITNESS}.lines.all.at(-1)?.start === {SECONDS - 1}")
    assert page.evaluate(f"() => {WITNESS}.dropped") == 0
    # A line shows its moment.
    line = lines_of(page)[-1]
    page.locator(f"{LINES} button").last.click()
    assert page.evaluate(f"() => {WITNESS}.video.currentTime") == line.start
    # The transcript is searched as the Python side does it.
    word = line.text.split()[0]
    page.get_by_label("Search in the transcript").fill(word)
    expect(page.locator(LINES)).to_have_count(len(search(lines_of(page), word)))
    page.get_by_label("Search in the transcript").fill("nobody says this")
    expect(page.locator(LINES)).to_have_count(0)


def test_frames_that_are_being_coded_at_the_end_are_told_of(page, film_file):
    page.evaluate(f"""() => {{
        const {{ convertToBlob }} = OffscreenCanvas.prototype;
        OffscreenCanvas.prototype.convertToBlob = async function (...options) {{
            const late = {WITNESS}.video.currentTime > {SECONDS - 1.25} ? 1500 : 0;
            await new Promise((resolve) => setTimeout(resolve, late));
            return convertToBlob.apply(this, options);
        }};
    }}""")
    page.set_input_files("longtake-witness [type=file]", film_file)
    page.wait_for_function(f"() => {WITNESS}.lines.all.at(-1)?.start === {SECONDS - 1}")


@pytest.mark.parametrize("index", ["ahead", "behind"])
def test_captions_are_subtitles_of_an_mp4(page, tmp_path, index):
    path = tmp_path / "square.mp4"
    options = {"movflags": "faststart"} if index == "ahead" else {}
    with av.open(str(path), "w", options=options) as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for pixels in frames():
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        film.mux(stream.encode(None))
    lines = [
        Line(0.5, 1.0, "a {square} \\ ☃"),
        Line(1.0, 2.0, "red", "answer", "what colour?"),
        Line(2.5, 4.0, "it goes"),
    ]
    page.evaluate(
        f"""(lines) => {{
            {WITNESS}.lines.reset(() => document.querySelector("#film").files[0]);
            for (const line of lines) {WITNESS}.lines.add(line);
        }}""",
        [vars(line) for line in lines],
    )
    page.evaluate("""() => {
        const chosen = document.createElement("input");
        document.body.append(Object.assign(chosen, {type: "file", id: "film"}));
    }""")
    page.set_input_files("#film", path)
    told = download(page, "MP4", tmp_path)
    assert subtitles(told) == [
        (0.5, 0.5, "a {square} \\ ☃"),
        (1.0, 1.0, "Q: what colour?\nA: red"),
        (2.5, 0.5, "it goes"),
    ]
    with av.open(str(path)) as before, av.open(str(told)) as after:
        assert after.duration == before.duration
        assert pictures(after) == pictures(before)


def pictures(film) -> list[tuple]:
    return [(each.pts, bytes(each)) for each in film.demux(film.streams.video[0]) if each.size]


def subtitles(path: Path) -> list[tuple[float, float, str]]:
    """Start, length and text of every one that shows something."""
    with av.open(str(path)) as film:
        [stream] = film.streams.subtitles
        assert stream.codec_context.name == "mov_text"
        return [
            (
                float(each.pts * each.time_base),
                float(each.duration * each.time_base),
                bytes(each)[2:].decode(),
            )
            for each in film.demux(stream)
            if each.size > 2
        ]


def test_a_video_that_is_no_mp4_takes_no_captions_in(page, film_file):
    page.set_input_files("longtake-witness [type=file]", film_file)
    expect(page.locator(LINES).first).to_be_visible()
    page.get_by_role("button", name="MP4").click()
    expect(page.locator(".lt-happens")).to_contain_text("Only an MP4 can take the captions in")


def test_the_film_is_watched_and_steered_meanwhile(page, studio, tmp_path):
    stage = "document.querySelector('longtake-stage')"
    page.get_by_role("button", name="Watch the film").click()
    expect(page.locator(LINES).nth(1)).to_be_visible()
    assert page.evaluate(f"() => {stage}.take.paused") is None
    canvas = page.get_by_role("img", name="The film that is watched")
    expect(canvas).to_be_visible()
    assert page.evaluate(f"() => {stage}.view.canvas.width") > 100
    # It goes on in the other tab, with what is said of it below.
    page.get_by_role("tab", name="Film").click()
    said = len(lines_of(page))
    page.fill("[name=text]", "night falls")
    page.keyboard.press("Enter")
    expect(page.locator(".lt-receipts li")).to_have_attribute("data-state", "seen")
    expect(page.locator("longtake-stage .lt-caption")).not_to_be_empty()
    page.wait_for_function(f"() => {WITNESS}.lines.all.length > {said}")
    page.get_by_role("tab", name="Witness").click()
    expect(canvas).to_be_visible()
    page.locator(f"{LINES} button").last.click()
    expect(page.locator(".lt-moment img")).to_have_js_property("naturalWidth", 320)
    path = download(page, "MP4", tmp_path)
    with av.open(str(path)) as told:
        assert told.streams.video[0].frames > 0
    assert subtitles(path)
    # Where nobody watches it any more, it is paused as ever.
    page.get_by_role("button", name="Stop").click()
    expect(canvas).to_be_hidden()
    page.wait_for_function(f"() => {stage}.take.paused === 'hidden'")
    assert page.evaluate(f"() => {stage}.view.canvas === {stage}.querySelector('canvas')")


def test_a_watch_of_a_film_ends_with_it(page):
    page.get_by_role("button", name="Watch the film").click()
    expect(page.locator(LINES).first).to_be_visible()
    page.evaluate("() => document.querySelector('longtake-stage').open('a blue ball')")
    notice = page.locator("longtake-witness .lt-told p")
    expect(notice).to_have_text("the film has ended: watch the next one")
    assert lines_of(page)


def test_the_film_is_paused_meanwhile_and_goes_on(page):
    stage = "document.querySelector('longtake-stage')"
    page.wait_for_function(f"() => {stage}.take.paused === 'hidden'")
    page.get_by_role("tab", name="Film").press("Enter")
    page.wait_for_function(f"() => {stage}.take.paused === null")
    page.get_by_role("tab", name="Film").press("ArrowRight")
    page.wait_for_function(f"() => {stage}.take.paused === 'hidden'")
    expect(page.locator("longtake-witness")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("NotAllowedError", "The camera may not be used: allow it"),
        ("NotFoundError", "There is no camera: choose a video instead."),
    ],
)
def test_a_camera_that_cannot_be_had_is_told_of_in_one_sentence(page, name, sentence):
    page.evaluate(f"""() => navigator.mediaDevices.getUserMedia =
        () => Promise.reject(new DOMException("no", "{name}"))""")
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("longtake-witness .lt-told p")).to_contain_text(sentence)
    expect(page.get_by_role("button", name="Start the camera")).to_be_enabled()


def test_a_file_that_is_no_video_is_told_of(page, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("no video")
    page.set_input_files("longtake-witness [type=file]", path)
    expect(page.locator("longtake-witness .lt-told p")).to_contain_text("cannot play notes.mp4")


def test_without_a_captioner_the_tab_says_how_to_give_one(
    served, model, takes, open_tab, turn_to_witness
):
    with served(model, takes) as server, open_tab(server.url) as page:
        turn_to_witness(page, server.url)
        notice = page.locator("longtake-witness .lt-told p")
        expect(notice).to_contain_text("no captioner comes with this version")
        expect(notice).to_contain_text("--witness")
        expect(page.get_by_role("button", name="Start the camera")).to_be_disabled()


def test_whoever_waits_for_a_place_reads_so(page, studio, open_tab, turn_to_witness):
    page.wait_for_function("() => document.querySelector('longtake-stage').session.open")
    with open_tab(studio.url, permissions=["camera"]) as second:
        turn_to_witness(second, studio.url)
        start_camera(second)
        notice = second.locator("longtake-witness .lt-told p")
        expect(notice).to_have_text("Others are filming. Your place in the queue: 1")
        page.evaluate("() => document.querySelector('longtake-stage').session.request('bye')")
        expect(second.locator(LINES).first).to_be_visible()
        expect(notice).to_be_empty()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_tab_is_accessible(open_tab, studio, scheme, turn_to_witness):
    with open_tab(studio.url, permissions=["camera"], color_scheme=scheme) as page:
        turn_to_witness(page, studio.url)
        start_camera(page)
        expect(page.locator(LINES).first).to_be_visible()
        violations = Axe().run(page).response["violations"]
        assert [
            (each["id"], [node["html"] for node in each["nodes"]])
            for each in violations
            if each["impact"] in {"serious", "critical"}
        ] == []


def test_transcripts_are_the_same_text_as_the_python_side_writes(page, tmp_path):
    lines = [
        Line(0.0, 1.0, 'a "red" ball & <b>fog</b> \\ rolls'),
        Line(1.5, 2.25, "it is blue", "answer", "what colour?"),
        Line(3599.5, 3601.0625, "Schnee fällt ☃"),
        Line(359_999.0, 360_000.0, "still there"),
    ]
    for form in ("vtt", "srt", "jsonl"):
        path = tmp_path / f"transcript.{form}"
        writer = TranscriptWriter(path)
        for line in lines:
            writer.write(line)
        writer.close()
        made = page.evaluate(
            """async ([form, lines]) => {
                const {FORMS} = await import("/studio/transcript.js");
                return FORMS[form](lines);
            }""",
            [form, [vars(line) for line in lines]],
        )
        assert made == path.read_text("utf-8")


def test_lines_are_put_together_as_the_python_side_does(page):
    made = page.evaluate(r"""async () => {
        const {LineBuilder} = await import("/studio/transcript.js");
        const builder = new LineBuilder();
        const words = [[" a\u2028red", false], ["\u0007  ball", true], ["", true], [" \n", true]];
        return words.map(([text, final]) => builder.add(
            {text, final, start: 1, end: 2, kind: "caption", question: ""}));
    }""")
    assert made[1:] == [
        {"start": 1, "end": 2, "text": "a red ball", "kind": "caption", "question": ""},
        None,
        None,
    ]


def test_a_shown_frame_is_packed_as_the_server_reads_it(page):
    made = page.evaluate("""async () => {
        const {packShown} = await import("/studio/wire.js");
        return [...packShown(3, 3.75, new Uint8Array([1, 2, 3]).buffer)];
    }""")
    assert bytes(made) == pack_shown(ShownFrame(watch=3, pts=3_750_000, payload=b"\1\2\3"))
