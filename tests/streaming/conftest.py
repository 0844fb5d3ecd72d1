"""A model that makes digests instead of pictures, and the means to drive it without waiting."""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from longtake.streaming import (
    Engine,
    Event,
    InputFrame,
    Media,
    Session,
    Spec,
    Step,
    StreamError,
    Tensors,
)

# No property may fail because a machine is slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Only a deadlock lasts this long.
DEADLOCK_SECONDS = 30.0


@dataclass(eq=False)
class FakeState:
    """What changes: `memory` is a digest of the whole past, so that no difference is ever lost."""

    seed: int
    settings: dict[str, Any]
    memory: bytes = b""
    chunk: int = 0
    step: int = 0
    steps_run: int = 0


@dataclass(eq=False)
class FakeModel:
    """A :class:`~longtake.streaming.StreamModel` whose media are digests of all that made them.

    Attributes:
        emits: for each step of a chunk, the units of each media item it gives.
        rate: units a second.
        frames: input frames demanded before each chunk.
        queued: fields of which every event gets its turn.
        gathered: fields of which so many events apply to one chunk.
        fail_at: how many steps of a session succeed before one raises; None for all.
        error: makes what is raised then.
        on_step: called first in every step.
        applied: every event applied, with the chunk it came before.
        applications: how often something was.
    """

    emits: tuple[tuple[int, ...], ...] = ((), (1,), (2, 1))
    rate: float = 8.0
    frames: int = 0
    queued: frozenset[str] = frozenset()
    gathered: Mapping[str, int] = field(default_factory=dict)
    fail_at: int | None = None
    error: Callable[[], BaseException] = lambda: RuntimeError("out of paint")
    on_step: Callable[[FakeState], None] = lambda state: None
    applied: list[tuple[int, Event]] = field(default_factory=list)
    applications: int = 0

    def __post_init__(self):
        units, burst = sum(map(sum, self.emits)), sum(map(len, self.emits))
        self.spec = Spec(self.rate, units, burst, self.queued, self.gathered)
        self.states: weakref.WeakSet[FakeState] = weakref.WeakSet()

    def open(self, prompt: str, seed: int) -> FakeState:
        self.check(Event("prompt", prompt))
        return self._keep(FakeState(seed, {"prompt": prompt}))

    def check(self, event: Event) -> None:
        if event.field not in {"prompt", "mood", "grain"}:
            raise StreamError("unknown_field", f"there is no field {event.field!r}")
        if event.value == "":
            raise StreamError("bad_value", f"the {event.field} is empty")

    def demand(self, state: FakeState) -> int:
        return self.frames if state.step == 0 else 0

    def apply(self, state: FakeState, *arrivals: Event | InputFrame) -> None:
        assert state.step == 0, "an event came in the middle of a chunk"
        self.applications += 1
        for event in arrivals:
            if isinstance(event, InputFrame):
                state.memory = _digest(state.memory, event.time, event.data)
            else:
                told = event.value
                if event.field in self.gathered:
                    told = f"{state.settings.get(event.field)}, {told}"
                state.settings = {**state.settings, event.field: told}
                self.applied.append((state.chunk, event))

    def step(self, state: FakeState) -> Step:
        self.on_step(state)
        if state.steps_run == self.fail_at:
            raise self.error()
        past = (state.seed, sorted(state.settings.items()), state.memory, state.chunk, state.step)
        units = self.emits[state.step]
        media = tuple((_digest(*past, part), count) for part, count in enumerate(units))
        state.steps_run += 1
        state.step = (state.step + 1) % len(self.emits)
        if state.step == 0:
            state.memory = _digest(*past)
            state.chunk += 1
        return Step(media, boundary=state.step == 0)

    def close(self, state: FakeState) -> None:
        """Nothing to let go of."""

    def save(self, state: FakeState) -> tuple[Tensors, dict[str, Any]]:
        assert state.step == 0, "saved in the middle of a chunk"
        values = {"seed": state.seed, "settings": state.settings, "chunk": state.chunk}
        return {"memory": state.memory}, values

    def load(self, tensors: Tensors, values: dict[str, Any]) -> FakeState:
        state = FakeState(values["seed"], dict(values["settings"]), tensors["memory"])
        state.chunk = values["chunk"]
        return self._keep(state)

    def _keep(self, state: FakeState) -> FakeState:
        self.states.add(state)
        return state


def _digest(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()


class FakeTime:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Gate:
    """Holds a model in the middle of a step until it is opened; pass it as `on_step`."""

    def __init__(self):
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, state: FakeState) -> None:
        self._reached.set()
        assert self._opened.wait(DEADLOCK_SECONDS)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(DEADLOCK_SECONDS)

    def open(self) -> None:
        self._opened.set()


class Outcome(Future[Any]):
    """Of a call in another thread; asking for it never waits for ever."""

    def result(self, timeout: float | None = DEADLOCK_SECONDS) -> Any:
        return super().result(timeout)


@pytest.fixture(scope="session")
def fake_model() -> type[FakeModel]:
    """The class itself: tests choose the arguments."""
    return FakeModel


@pytest.fixture
def engine() -> Engine:
    """Without a worker: tests call `run_once`."""
    return Engine()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def engine_on_fake_time(monkeypatch, fake_time) -> Engine:
    """An engine that reads `fake_time` wherever it would read the machine's clock."""
    stand_in = SimpleNamespace(monotonic=fake_time)
    monkeypatch.setattr("longtake.streaming.engine.time", stand_in)
    monkeypatch.setattr("longtake.streaming.session.time", stand_in)
    return Engine()


@pytest.fixture
def make_gate():
    """Makes gates, and opens them at the end, so that no failing test leaves a thread behind."""
    gates: list[Gate] = []

    def make() -> Gate:
        gates.append(Gate())
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def background() -> Callable[..., Outcome]:
    """Runs a call in a thread of its own."""

    def start(call: Callable[..., Any], *arguments: Any) -> Outcome:
        outcome = Outcome()

        def run() -> None:
            try:
                outcome.set_result(call(*arguments))
            except BaseException as error:
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return outcome

    return start


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Waits for what another thread is about to do."""

    def wait(condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + DEADLOCK_SECONDS
        while not condition():
            assert time.monotonic() < give_up, "it never happened"
            time.sleep(0.0005)

    return wait


@pytest.fixture(scope="session")
def fetch() -> Callable[[Session[Any]], list[Media]]:
    """All that a session has made and nobody has fetched."""

    def everything(session: Session[Any]) -> list[Media]:
        return list(iter(lambda: session.next(timeout=0), None))

    return everything


@pytest.fixture(scope="session")
def shoot(fetch) -> Callable[..., Any]:
    """Runs an engine until nothing can run; what one session made, or a list for each of more."""

    def run(engine: Engine, *sessions: Session[Any]) -> Any:
        made: list[list[Media]] = [[] for _ in sessions]
        going = True
        while going:
            for part, session in zip(made, sessions, strict=True):
                part.extend(fetch(session))
            going = engine.run_once()
        return made if len(made) > 1 else made[0]

    return run


@pytest.fixture(scope="session")
def film(fake_model, shoot) -> Callable[..., list[Media]]:
    """What a session of its own makes up to a horizon, from events submitted at the start."""

    def make(
        horizon: float, events: Iterable[Event] = (), *, prompt: str = "sea", seed: int = 1
    ) -> list[Media]:
        engine = Engine()
        session = engine.open(fake_model(), prompt, seed, horizon=horizon)
        for event in events:
            session.submit(event)
        return shoot(engine, session)

    return make
