"""The page's parts that need no page, run in a browser with a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

import pytest

from longtake.app.cues import from_script
from longtake.app.wire import PROTOCOL, Codec, EncodedFrame
from longtake.app.wire_coding import pack_frame

# Plays frames that arrive at given times on a screen of 60 Hz; [index, time] of those shown.
SIMULATE = """
const {JitterBuffer} = await import("/studio/jitter.js");
const RATE = 16, CHUNK = 8;
const buffer = new JitterBuffer(RATE, CHUNK);
buffer.reset(1);
let closed = 0;
const close = () => closed++;
const frameOf = (index, take = 1) =>
    ({take, index, chunk: Math.floor(index / CHUNK), time: index / RATE, close});
const play = (arrivals, from, until) => {
    const shown = [];
    for (let now = from; now < until; now += 1 / 60) {
        while (arrivals.length && arrivals[0][1] <= now) {
            buffer.push(frameOf(arrivals.shift()[0]), now);
        }
        const frame = buffer.advance(now);
        if (frame) shown.push([frame.index, now]);
    }
    return shown;
};
// A burst of a chunk whenever the film has advanced by one, each a little late.
const bursts = (count, lateness = () => 0, first = 0) => {
    const arrivals = [];
    for (let chunk = first; chunk < first + count; chunk++) {
        for (let index = chunk * CHUNK; index < (chunk + 1) * CHUNK; index++) {
            arrivals.push([index, (chunk * CHUNK) / RATE + lateness(chunk)]);
        }
    }
    return arrivals;
};
"""
SESSION = """
const {Session} = await import("/studio/session.js");
const told = [], sent = [];
const make = (stored = {}) => {
    const session = new Session({stored, on: (kind, message) => told.push([kind, message])});
    session.connected((text) => sent.push(JSON.parse(text)));
    return session;
};
const say = (session, message) => session.receive(JSON.stringify(message));
const ready = (name = "s-1", received = 0) => ({type: "ready", session: name,
    resume_token: "secret", received, limits: {}});
"""


@pytest.fixture
def run(page, studio):
    """Run the body of a function in the browser, where the modules can be imported."""
    page.goto(f"{studio.url}studio/studio.css")

    def run(*parts):
        return page.evaluate("async () => {" + "\n".join(parts) + "}")

    return run


def test_frames_are_read_as_the_server_packs_them(run):
    frame = EncodedFrame(
        codec=Codec.WEBP, take=2, chunk=2**32 - 1, index=2**40, pts=1_500_000, payload=b"abc"
    )
    data = list(pack_frame(frame))
    body = """
        const {readFrame} = await import("/studio/wire.js");
        const read = (bytes) => readFrame(new Uint8Array(bytes).buffer);
        const {picture, ...frame} = read(data);
        const refused = [data.slice(0, -1), data.slice(0, 32), [71, ...data.slice(1)],
                         [70, 1, ...data.slice(2)], [70, 2, 3, ...data.slice(3)]];
        for (const bytes of refused) {
            try { read(bytes); return "was read"; } catch {}
        }
        return {...frame, type: picture.type, size: picture.size};"""
    assert run(f"const data = {data};", body) == {
        "take": 2, "chunk": 2**32 - 1, "index": 2**40, "time": 1.5, "type": "image/webp", "size": 3,
    }  # fmt: skip


def test_steady_bursts_play_evenly(run):
    shown, underruns = run(SIMULATE, "return [play(bursts(60), 0, 30), buffer.underruns];")
    assert underruns <= 1  # the film's end
    assert [index for index, _ in shown] == list(range(480))
    gaps = [after - before for (_, before), (_, after) in pairwise(shown)]
    assert max(gaps) < 1.5 / 16
    assert shown[0][1] < 0.1


def test_the_margin_grows_when_frames_are_late_and_shrinks_when_they_are_not(run):
    late = "const late = (chunk) => chunk > 8 && chunk < 30 ? (chunk % 3) * 0.15 : 0;"
    body = """
        const before = buffer.margin;
        play(bursts(30, late), 0, 15);
        const grown = buffer.margin, underruns = buffer.underruns;
        const calm = bursts(360, () => 0, 30);
        play(calm, 15, 190);
        return [before, grown, buffer.margin, underruns, buffer.underruns];"""
    before, grown, after, underruns, later = run(SIMULATE, late, body)
    assert 1 <= underruns <= 4
    assert grown > 1.5 * before
    assert after < before + (grown - before) / 3
    assert later <= underruns + 1


def test_the_margin_has_a_ceiling(run):
    body = """
        play(bursts(60, (chunk) => 1.3 * chunk), 0, 120);
        return [buffer.margin, buffer.underruns];"""
    margin, underruns = run(SIMULATE, body)
    assert underruns > 5
    assert margin <= 1


def test_what_is_too_far_behind_is_passed_over_and_closed(run):
    body = """
        const shown = play(bursts(8).map(([index]) => [index, 0]), 0, 0.5);
        const all = bursts(20, () => -3, 8);
        shown.push(...play(all, 0.5, 8));
        return [shown.map(([index]) => index), closed, buffer.buffered];"""
    shown, closed, buffered = run(SIMULATE, body)
    assert shown == sorted(shown)
    assert closed > 0
    assert len(shown) + closed == shown[-1] + 1
    assert buffered < 2


def test_a_slower_server_is_followed_evenly(run):
    body = """
        buffer.speed = 0.5;
        const slow = bursts(20).map(([index, at]) => [index, 2 * at]);
        return [play(slow, 0, 20), buffer.underruns];"""
    shown, underruns = run(SIMULATE, body)
    assert underruns == 0
    assert [index for index, _ in shown] == list(range(len(shown)))
    gaps = [after - before for (_, before), (_, after) in pairwise(shown)]
    assert 1.7 / 16 < sum(gaps) / len(gaps) < 2.3 / 16
    assert max(gaps) < 3 / 16


def test_what_is_waited_for_is_shown_at_once_and_made_up_for(run):
    """At half speed, with a trough of a third of a second."""
    body = """
        buffer.speed = 0.5;
        const slow = (lead) => (chunk) => chunk * CHUNK / RATE - (chunk ? lead : 0);
        const all = bursts(12, slow(0.35));
        const shown = play(all, 0, 4.2);
        buffer.hurry(5);
        const left = buffer.buffered;
        shown.push(...play(all, 4.2, 12));
        return [shown, left, buffer.underruns];"""
    shown, left, underruns = run(SIMULATE, body)
    arrived = 5 - 0.35
    assert left > 0.1
    first = next(at for index, at in shown if index >= 40)
    assert arrived <= first < arrived + 2 / 60
    later = [(index, at) for index, at in shown if index >= 40]
    assert [index for index, _ in later] == list(range(40, 96))
    gaps = [after - before for (_, before), (_, after) in pairwise(later)]
    assert max(gaps) < 1.5 * 2 / 16
    assert underruns <= 1  # the film's end


def test_the_buffer_says_when_to_look_again(run):
    body = """
        const before = buffer.due;
        buffer.push(frameOf(0), 0);
        buffer.push(frameOf(1), 0);
        buffer.advance(0);
        const first = buffer.due;
        buffer.advance(buffer.begins);
        const next = buffer.due;
        buffer.hold();
        return [before, first, next, buffer.due].map(String);"""
    before, first, after, held = map(float, run(SIMULATE, body))
    assert (before, held) == (float("inf"), float("inf"))
    assert first == pytest.approx(0.06)
    assert after == pytest.approx(1 / 16)


def test_a_held_picture_stays_and_its_pause_is_no_underrun(run):
    body = """
        const first = play(bursts(4), 0, 2.5);
        buffer.hold();
        const underruns = buffer.underruns;
        const held = play([], 2.5, 10);
        buffer.release();
        const later = play(bursts(4, () => 8.5, 4), 10, 13);
        return [first.length, held.length, later.length, buffer.underruns - underruns];"""
    first, held, later, underruns = run(SIMULATE, body)
    assert (first, held, later) == (32, 0, 32)
    assert underruns <= 1  # the film's end


def test_no_time_passes_while_the_screen_sleeps(run):
    body = """
        play(bursts(4), 0, 1.1);
        const before = [buffer.position, buffer.underruns];
        buffer.advance(100);
        return [...before, buffer.position, buffer.underruns];"""
    position, underruns, later, more = run(SIMULATE, body)
    assert later - position < 0.5
    assert more == underruns


def test_another_take_drops_what_is_left_of_the_one_before(run):
    body = """
        play(bursts(2), 0, 0.2);
        const left = buffer.waiting.length;
        buffer.reset(2);
        const dropped = closed;
        buffer.push(frameOf(16, 1), 0.3);
        buffer.push(frameOf(0, 2), 0.3);
        buffer.push(frameOf(0, 2), 0.3);
        return [dropped - left, closed - dropped, buffer.waiting.length];"""
    assert run(SIMULATE, body) == [0, 2, 1]


def test_a_receipt_goes_from_sent_to_seen(run):
    body = """
        const {Receipts, describe} = await import("/studio/receipts.js");
        const receipts = new Receipts();
        const receipt = receipts.sent({text: "night falls", at: 0}, 1000);
        const said = [describe(receipt)];
        receipt.id = 5;
        receipts.accepted(receipt, {chunk: 3, time: 1.5}, 1012);
        said.push(describe(receipt));
        receipts.applied({id: 5, take: 1, chunk: 4, time: 2});
        said.push(describe(receipt));
        const early = receipts.shown({take: 1, chunk: 3}, 1500).length;
        const other = receipts.shown({take: 2, chunk: 9}, 1500).length;
        const done = receipts.shown({take: 1, chunk: 5}, 1700);
        return [...said, early, other, describe(done[0])];"""
    assert run(body) == [
        "on its way",
        "accepted in 12 ms for chunk 3",
        "accepted in 12 ms for chunk 4, in force; its first frame is on its way",
        0,
        0,
        "accepted in 12 ms for chunk 4, on screen after 700 ms",
    ]


def test_of_prompts_due_at_one_chunk_the_others_are_passed_over(run):
    body = """
        const {Receipts} = await import("/studio/receipts.js");
        const receipts = new Receipts();
        const all = [["a", 2], ["b", 2], ["later", 9]].map(([text, chunk], index) => {
            const receipt = receipts.sent({text, at: 0}, 0);
            receipt.id = index + 1;
            receipts.accepted(receipt, {chunk, time: chunk / 2}, 1);
            return receipt;
        });
        receipts.applied({id: 2, take: 1, chunk: 2, time: 1});
        receipts.shown({take: 1, chunk: 2}, 1500);
        const states = all.map(({state}) => state);
        const waiting = receipts.waiting.map(({text}) => text);
        receipts.reset();
        return [states, waiting, all.map(({state}) => state)];"""
    assert run(body) == [
        ["passed", "seen", "accepted"],
        ["later"],
        ["passed", "seen", "passed"],
    ]


def test_prompts_that_apply_together_are_all_seen_and_none_is_passed_over(run):
    body = """
        const {Receipts} = await import("/studio/receipts.js");
        const receipts = new Receipts();
        const all = ["a", "b", "c"].map((text, index) => {
            const receipt = receipts.sent({text, at: 0}, 0);
            receipt.id = index + 1;
            receipts.accepted(receipt, {chunk: 2, time: 1}, 1);
            return receipt;
        });
        const states = () => all.map(({state}) => state);
        const told = [];
        for (const id of [2, 1, 3]) {
            receipts.applied({id, take: 1, chunk: 2, time: 1});
            told.push(states());
        }
        const done = receipts.shown({take: 1, chunk: 2}, 1500).length;
        return [told, done, states()];"""
    assert run(body) == [
        [
            ["accepted", "applied", "accepted"],
            ["applied", "applied", "accepted"],
            ["applied", "applied", "applied"],
        ],
        3,
        ["seen", "seen", "seen"],
    ]


def test_a_session_greets_and_sends_what_was_asked_before(run):
    body = """
        const session = make();
        const asked = session.request("open", {prompt: "day"});
        const greeted = sent.slice();
        say(session, {type: "ack", id: sent[0].id});
        say(session, {type: "queued", position: 2});
        const queued = [session.phase, session.position];
        say(session, ready());
        say(session, {type: "ack", id: sent[1].id, take: 1});
        return [greeted, queued, sent[1], (await asked).take, session.phase];"""
    greeted, queued, opened, take, phase = run(SESSION, body)
    assert greeted == [{"type": "hello", "id": 1, "version": PROTOCOL}]
    assert queued == ["queued", 2]
    assert opened == {"type": "open", "id": 2, "prompt": "day"}
    assert (take, phase) == (1, "ready")


def test_a_resumed_session_sends_again_what_was_lost(run):
    body = """
        const session = make();
        say(session, {type: "ack", id: 1});
        say(session, ready());
        const ids = [];
        const first = session.request("prompt", {text: "night"});
        const second = session.request("prompt", {text: "snow"}, (id) => ids.push(id));
        session.request("playback", {frame: {take: 1, index: 3}, buffer_ms: 0});
        session.received({take: 1, index: 4});
        session.disconnected();
        const lost = session.phase;
        session.connected((text) => sent.push(JSON.parse(text)));
        const hello = sent.at(-1);
        const before = sent.length;
        say(session, {type: "ack", id: hello.id});
        say(session, ready("s-1", 2));
        const again = sent.slice(before);
        say(session, {type: "ack", id: again[0].id, chunk: 2});
        return [lost, hello.resume, again, await first, (await second).chunk, ids, told.at(-1)];"""
    lost, resume, again, first, chunk, ids, last = run(SESSION, body)
    assert lost == "lost"
    assert resume == {
        "session": "s-1", "resume_token": "secret", "next": {"take": 1, "index": 5},
    }  # fmt: skip
    assert [(each["type"], each["text"]) for each in again] == [("prompt", "snow")]
    assert (first, chunk) == (None, 2)
    assert ids == [3, again[0]["id"]]
    assert again[0]["id"] > 4
    assert last[1]["resumed"]


def test_a_cut_before_the_first_frame_of_a_take_is_told(run):
    body = """
        const session = make();
        const again = () => {
            session.disconnected();
            session.connected((text) => sent.push(JSON.parse(text)));
            const hello = sent.at(-1);
            say(session, {type: "ack", id: hello.id});
            return hello.resume.next ?? null;
        };
        say(session, {type: "ack", id: 1});
        say(session, ready());
        const none = again();
        say(session, ready("s-1", 1));
        session.request("open", {prompt: "day"});
        say(session, {type: "ack", id: sent.at(-1).id, take: 1});
        const begun = again();
        say(session, ready("s-1", 99));
        session.received({take: 1, index: 0});
        const one = again();
        const other = make({session: "s-1", resume_token: "secret"});
        return [none, begun, one, sent.at(-1).resume.next ?? null];"""
    begun = {"take": 1, "index": 0}
    assert run(SESSION, body) == [begun, begun, {"take": 1, "index": 1}, None]


def test_an_answer_that_holds_something_is_asked_for_again(run):
    body = """
        const session = make();
        say(session, {type: "ack", id: 1});
        say(session, ready());
        const saved = session.request("save");
        session.disconnected();
        session.connected((text) => sent.push(JSON.parse(text)));
        say(session, {type: "ack", id: sent.at(-1).id});
        say(session, ready("s-1", 99));
        const again = sent.at(-1);
        say(session, {type: "ack", id: again.id, file: {url: "/a"}});
        return [again.type, again.id > 99, (await saved).file.url];"""
    assert run(SESSION, body) == ["save", True, "/a"]


def test_a_session_that_is_gone_is_forgotten_and_its_requests_fail(run):
    body = """
        const session = make({session: "s-0", resume_token: "old"});
        const asked = session.request("save").catch((error) => error.code);
        const id = sent[0].id;
        say(session, {type: "error", id, code: "no_session", message: "gone", hint: "",
                      retryable: false});
        say(session, {type: "bye", reason: "refused"});
        session.disconnected();
        const phase = session.phase;
        session.connected((text) => sent.push(JSON.parse(text)));
        return [await asked, phase, sent.at(-1).resume ?? null];"""
    assert run(SESSION, body) == ["no_session", "lost", None]


@pytest.mark.parametrize(
    ("reason", "phase"),
    [("stalled", "lost"), ("shutdown", "lost"), ("idle", "ended"), ("replaced", "ended")],
)
def test_some_goodbyes_are_for_good(run, reason, phase):
    body = f"""
        const session = make();
        say(session, {{type: "ack", id: 1}});
        say(session, ready());
        say(session, {{type: "bye", reason: "{reason}"}});
        session.disconnected();
        const kept = session.stored.session ?? null;
        return [session.phase, kept];"""
    kept = None if reason == "idle" else "s-1"
    assert run(SESSION, body) == [phase, kept]


def test_scripts_are_what_the_command_line_reads(run, tmp_path):
    marks = """[
        {time: 0, text: 'a "red" ball', transition: 0},
        {time: 12.5, text: "Nacht fällt", transition: 4},
    ]"""
    body = f"""
        const {{formatScript, parseScript}} = await import("/studio/cues.js");
        const text = formatScript({marks});
        return [text, parseScript(text)];"""
    text, parsed = run(body)
    path = tmp_path / "script.jsonl"
    path.write_text(text, "utf-8")
    cues = [(cue.at, cue.prompt, cue.transition) for cue in from_script(path, 10)]
    assert cues == [(0, 'a "red" ball', 0), (12.5, "Nacht fällt", 4)]
    assert [(cue["at"], cue["text"], cue["transition"]) for cue in parsed] == cues


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompt"),
        ("\n{", "Line 2 is not JSON"),
        ('{"at": 0, "prompt": "a"}\n{"at": -1, "prompt": "b"}', "Line 2 does not fit"),
        ('{"at": 2, "prompt": "a"}', "has to be at 0 s"),
        ("null", "Line 1 does not fit"),
    ],
)
def test_a_script_that_does_not_fit_is_refused_by_its_line(run, text, said):
    body = f"""
        const {{parseScript}} = await import("/studio/cues.js");
        try {{ parseScript({text!r}); }} catch (error) {{ return error.message; }}"""
    assert said in run(body)


def test_longlives_list_of_prompts_is_a_script_too(run):
    body = """
        const {parseScript} = await import("/studio/cues.js");
        return parseScript('{"prompts": ["day", "night"]}');"""
    assert [(cue["at"], cue["text"]) for cue in run(body)] == [(0, "day"), (10, "night")]
