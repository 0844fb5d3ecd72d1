"""Watching through a real engine, by a model that says which frames it saw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

import longtake
from longtake.app import witness
from longtake.app.ingest import Dropped, Ended, Stalled
from longtake.app.sampling import Gap, Resized
from longtake.app.shots import Shot
from longtake.app.transcript import Line
from longtake.app.witness import Witness
from longtake.models.vlm.settings import Settings, check_event
from longtake.models.vlm.words import Words
from longtake.streaming import Engine, Event, InputFrame, Spec, Step, StreamError

PATIENCE = 30.0


@dataclass(eq=False)
class SeenState:
    """Of a watch by the fake."""

    frames: list[InputFrame] = field(default_factory=list)
    question: str = ""
    pieces: list[str] = field(default_factory=list)


class Teller:
    """Meets the captioner's contract; says the numbers of a round's frames, a word a step."""

    def __init__(self, before_step: Callable[[], None] = lambda: None, fail_at: float = 1e9):
        self.settings = Settings()
        self.spec = Spec(2.0, 2, 64)
        self.before_step, self.fail_at = before_step, fail_at
        self.opened: list[tuple[str, int]] = []

    def open(self, prompt: str, seed: int) -> SeenState:
        self.check(Event("prompt", prompt))
        self.opened.append((prompt, seed))
        return SeenState()

    def check(self, event: Event) -> None:
        check_event(event)

    def demand(self, state: SeenState) -> int:
        return 0 if state.pieces else 2

    def apply(self, state: SeenState, *arrivals: Event | InputFrame) -> None:
        for each in arrivals:
            if isinstance(each, InputFrame):
                state.frames = [*state.frames[-1:], each]
            else:
                state.question = each.value

    def step(self, state: SeenState) -> Step:
        self.before_step()
        first = state.frames[0]
        start = float(int(first.time + 1e-6))
        if start >= self.fail_at:
            raise RuntimeError("out of words")
        if not state.pieces:
            levels = [round(float(each.data.mean()) / 5) for each in state.frames]
            # A dark round is passed over in silence.
            state.pieces = [" saw", f" {levels[0]}", f" {levels[1]}"] if any(levels) else [""]
        text, *state.pieces = state.pieces
        kind = "answer" if state.question else "caption"
        words = Words(text, start, start + 1, kind, not state.pieces)
        if words.final:
            state.question = ""
        return Step(((words, 2 if words.final else 0),), boundary=words.final)

    def close(self, state: SeenState) -> None:
        pass


class Projector:
    """A source that shows what a test tells it to."""

    name = "the test's own"
    duration = None

    def __init__(self, shots: Iterator[Shot], *, live: bool = False):
        self._shots, self.live, self.closed = shots, live, threading.Event()

    def shots(self) -> Iterator[Shot]:
        return self._shots

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def begin() -> Iterator[Callable[[Teller], Witness]]:
    """A witness of a model, closed at the end."""
    engines = []

    def start(model) -> Witness:
        engines.append(Engine())
        engines[-1].start()
        return Witness(model, engines[-1])

    yield start
    for engine in engines:
        engine.stop()


@pytest.fixture
def shots(picture) -> Callable[..., Iterator[Shot]]:
    """Numbered frames at times."""

    def make(*times: float) -> Iterator[Shot]:
        for index, time in enumerate(times):
            yield Shot(time, partial(picture, index))

    return make


def halves(seconds: int) -> list[float]:
    return [index / 2 for index in range(2 * seconds)]


def test_lines_of_a_source_to_its_end(begin, shots):
    source = Projector(shots(*halves(3)))
    watch = begin(Teller()).watch(source, prompt="in French", seed=7)
    assert list(watch) == [
        Line(0.0, 1.0, "saw 0 1"),
        Line(1.0, 2.0, "saw 2 3"),
        Line(2.0, 3.0, "saw 4 5"),
    ]
    assert watch.time == 3.0
    assert source.closed.is_set()


def test_the_standing_instruction_and_the_seed_reach_the_model(begin, shots):
    model = Teller()
    begin(model).watch(Projector(shots()), prompt="in French", seed=7)
    assert model.opened == [("in French", 7)]


def test_words_come_as_they_are_said_and_silence_is_no_line(begin, picture):
    times = iter([Shot(time, partial(picture, int(time))) for time in halves(2)])
    events = list(begin(Teller()).watch(Projector(times)).events())
    assert [event.text for event in events if isinstance(event, Words)] == [
        *("", " saw", " 1", " 1"),
    ]
    assert [event for event in events if not isinstance(event, Words)] == [
        Line(1.0, 2.0, "saw 1 1"),
        Ended(),
    ]


def test_an_answer_comes_in_its_second_with_its_question(begin, shots):
    watch = begin(Teller()).watch(Projector(shots(*halves(4))))
    watch.ask("where?", at=3.0)
    watch.ask("what?", at=1.0)
    assert [(line.kind, line.question) for line in watch] == [
        ("caption", ""),
        ("answer", "what?"),
        ("caption", ""),
        ("answer", "where?"),
    ]


def test_a_question_too_long_is_refused_and_the_watch_goes_on(begin, shots):
    watch = begin(Teller()).watch(Projector(shots(*halves(1))))
    with pytest.raises(StreamError) as caught:
        watch.ask("why? " * 10_000)
    assert caught.value.code == "bad_prompt"
    assert len(list(watch)) == 1


def test_frames_that_are_fed_are_chosen_by_their_times(begin, picture):
    watch = begin(Teller()).watch()
    for index in range(50):
        watch.feed(picture(index), index / 25)
    watch.end()
    assert [line.text for line in watch] == ["saw 0 13", "saw 25 38"]
    with pytest.raises(StreamError):
        watch.feed(picture(0), 9.0)


def test_many_frames_can_be_fed_before_anybody_listens(begin, picture):
    watch = begin(Teller()).watch()
    for time in halves(100):
        watch.feed(picture(1), time)
    watch.end()
    assert len(list(watch)) == 100


def test_a_live_source_loses_whole_rounds_and_says_how_many_frames(begin, shots):
    stepping, go_on = threading.Event(), threading.Event()

    def hold():
        stepping.set()
        assert go_on.wait(PATIENCE)

    def broadcast():
        yield from shots(0.0, 0.5)
        assert stepping.wait(PATIENCE)
        for index, shot in enumerate(shots(*halves(10))):
            if index >= 2:
                yield shot
        go_on.set()

    watch = begin(Teller(hold)).watch(Projector(broadcast(), live=True))
    events = list(watch.events())
    lines = [event for event in events if isinstance(event, Line)]
    assert [(line.start, line.text) for line in lines] == [
        *((0.0, "saw 0 1"), (8.0, "saw 16 17"), (9.0, "saw 18 19")),
    ]
    assert sum(event.frames for event in events if isinstance(event, Dropped)) == 14
    assert watch.summary().dropped == 14


def test_a_file_waits_and_loses_nothing(begin, shots):
    watch = begin(Teller()).watch(Projector(shots(*halves(100))))
    assert len(list(watch)) == 100
    assert watch.summary().dropped == 0


def test_gaps_and_sizes_are_told_of(begin, picture):
    def shoot():
        yield Shot(0.0, partial(picture, 1))
        yield Shot(0.5, partial(picture, 1))
        yield Shot(7.0, lambda: np.full((64, 64, 3), 10, np.uint8))

    events = list(begin(Teller()).watch(Projector(shoot())).events())
    assert Gap(0.5, 7.0) in events
    assert Resized(7.0, 64, 64) in events
    assert [event.start for event in events if isinstance(event, Line)] == [0.0, 7.0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamError("source_lost", "the cable is out"), "source_lost"),
        (ValueError("odd"), "source_lost"),
        (StreamError("stalled", "it sends nothing"), "stalled"),
    ],
)
def test_a_source_that_breaks_off_is_heard_to_the_end_and_then_reported(begin, shots, error, code):
    def shoot():
        yield from shots(0.0, 0.5, 1.0)
        raise error

    heard = []
    with pytest.raises(StreamError) as caught:
        heard.extend(begin(Teller()).watch(Projector(shoot())))
    assert caught.value.code == code
    assert [line.text for line in heard] == ["saw 0 1", "saw 2 2"]


def test_a_source_that_sends_nothing_is_told_of_and_then_given_up(begin, shots, monkeypatch):
    monkeypatch.setattr(witness, "_STALL_SECONDS", 0.05)
    monkeypatch.setattr(witness, "_LOST_SECONDS", 0.5)
    monkeypatch.setattr(witness, "_LOOK_SECONDS", 0.01)
    over = threading.Event()

    def shoot():
        yield from shots(0.0, 0.5, 1.0)
        over.wait(PATIENCE)

    source = Projector(shoot(), live=True)
    events = []
    with pytest.raises(StreamError) as caught:
        events.extend(begin(Teller()).watch(source).events())
    over.set()
    assert caught.value.code == "stalled"
    assert [event.text for event in events if isinstance(event, Line)] == ["saw 0 1", "saw 2 2"]
    assert source.closed.is_set()


def test_a_stall_is_told_of_once(begin, shots, monkeypatch):
    monkeypatch.setattr(witness, "_STALL_SECONDS", 0.05)
    monkeypatch.setattr(witness, "_LOOK_SECONDS", 0.01)
    told = threading.Event()

    def shoot():
        yield from shots(0.0, 0.5)
        assert told.wait(PATIENCE)

    events = []
    for event in begin(Teller()).watch(Projector(shoot(), live=True)).events():
        events.append(event)
        if isinstance(event, Stalled):
            told.set()
    assert sum(isinstance(event, Stalled) for event in events) == 1
    assert events[-1] == Ended()


def test_a_model_that_fails_has_said_what_it_said(begin, shots):
    heard = []
    with pytest.raises(StreamError, match="out of words"):
        heard.extend(begin(Teller(fail_at=2.0)).watch(Projector(shots(*halves(5)))))
    assert [line.start for line in heard] == [0.0, 1.0]


def test_stopping_ends_with_the_round_that_is_being_watched(begin, shots):
    watch = begin(Teller()).watch(Projector(shots(*halves(10_000))))
    heard = []
    for event in watch.events():
        if isinstance(event, Words) and not heard:
            watch.stop()
        heard.append(event)
    assert isinstance(heard[-2], Line)
    assert heard[-1] == Ended()
    assert len([event for event in heard if isinstance(event, Line)]) < 100


def test_a_watch_that_is_closed_lets_go_of_its_source_and_ends(begin, shots):
    source = Projector(shots(*halves(10_000)))
    with begin(Teller()).watch(source) as watch:
        lines = iter(watch)
        next(lines)
    assert source.closed.is_set()
    assert len(list(lines)) < 100


def test_what_can_only_be_known_when_it_is_loaded_is_refused(tmp_path):
    with pytest.raises(StreamError) as caught:
        witness.open_witness(tmp_path / "none")
    assert caught.value.code == "bad_model"


def test_a_captioner_opened_as_a_generator_says_how_to_open_it(tiny_captioner):
    with pytest.raises(StreamError, match="holds a captioner") as caught:
        longtake.open(tiny_captioner)
    assert "longtake.witness" in caught.value.hint


def test_without_a_bundled_captioner_it_says_which_to_give(monkeypatch, tmp_path):
    monkeypatch.setattr(witness, "CAPTIONER", tmp_path / "none")
    with pytest.raises(StreamError) as caught:
        witness.open_witness()
    assert caught.value.code == "no_model"
    assert "Qwen2.5-VL" in caught.value.hint


@pytest.mark.parametrize("settings", [{"fps": 0.3}, {"fps": -1.0}, {"speed": 2}])
def test_a_setting_that_makes_no_sense_is_refused(tiny_captioner, settings):
    with pytest.raises(StreamError) as caught:
        witness.open_witness(tiny_captioner, device="cpu", dtype="fp32", **settings)
    assert caught.value.code == "bad_setting"
