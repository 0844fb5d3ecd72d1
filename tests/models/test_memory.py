"""What is free, what is refused, and what is said where memory runs out all the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from longtake.models import memory
from longtake.models.memory import (
    Memory,
    Need,
    in_words,
    making_room,
    memory_of,
    tells_of_memory,
    weight_bytes,
)
from longtake.models.quantization import quantize
from longtake.streaming import Engine, StreamError
from longtake.streaming.session import Status

CPU = torch.device("cpu")
LARGE, MIDDLE, SMALL = (Need({"weights": 10**9, "cache": size}) for size in (3 * 10**9, 10**9, 1))
SIZES = SimpleNamespace(need=LARGE, alternatives=lambda: iter([("half", MIDDLE), ("none", SMALL)]))


@pytest.fixture
def free(monkeypatch):
    """Says how much is free of 8 GB."""

    def say(size):
        monkeypatch.setattr(memory, "memory_of", lambda device: Memory(size, 8 * 10**9))

    return say


def test_a_need_is_a_sum_that_is_written_out():
    assert LARGE.total == 4 * 10**9
    assert str(LARGE) == "weights 1.00 GB + cache 3.00 GB = 4.00 GB"
    assert str(Need({"cache": 1500})) == "cache 0.0 MB"
    assert in_words(3_450_000_000) == "3.45 GB"


def test_what_fits_is_let_through(free):
    free(LARGE.total)
    with making_room("it", SIZES, CPU):
        pass


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        (LARGE.total - 1, "half would fit, with 2.00 GB"),
        (MIDDLE.total - 1, "none would fit, with 1.00 GB"),
        (1, "no setting makes it fit"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sum_and_what_would(free, size, advice):
    free(size)
    with pytest.raises(StreamError) as caught, making_room("it", SIZES, CPU):
        pytest.fail("it is loaded")
    error = caught.value
    assert error.code == "no_memory"
    assert error.message.startswith("it needs weights 1.00 GB + cache 3.00 GB = 4.00 GB")
    assert f"the cpu's 8.00 GB only {in_words(size)} are free" in error.message
    assert advice in error.hint
    assert "\n" not in str(error)


def test_weights_are_counted_as_they_are_loaded(tmp_path):
    tensors = {"a.weight": torch.randn(6, 5), "a.bias": torch.randn(6), "b_scale": torch.randn(2)}
    save_file(quantize(tensors), tmp_path / "model.safetensors")
    assert weight_bytes(tmp_path, torch.float32) == 4 * 38
    assert weight_bytes(tmp_path, torch.bfloat16) == 2 * 38


def test_a_container_counts_with_its_limit(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  600 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory_of(CPU) == Memory(600 * 1024, 1000 * 1024)
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 50000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_of(CPU) == Memory(600 * 1024, 1000 * 1024)
    (tmp_path / "memory.max").write_text("400000\n")
    assert memory_of(CPU) == Memory(150_000, 400_000)


class Full:
    """A model that has no memory left."""

    device = CPU
    session_need = SMALL

    def __init__(self, error):
        self.error = error

    @tells_of_memory
    def step(self):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the docs."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_is_one_sentence_that_holds_on_to_nothing(error, free):
    free(5)
    with pytest.raises(StreamError) as caught:
        Full(error).step()
    assert caught.value.code == "no_memory"
    assert "ran out (0.0 MB are free; it takes weights 1.00 GB" in caught.value.message
    assert "doctor" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None


def test_running_out_while_it_is_loaded_is_one_sentence_too(free):
    free(LARGE.total)
    with pytest.raises(StreamError, match="ran out") as caught, making_room("it", SIZES, CPU):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert caught.value.code == "no_memory"
    with pytest.raises(RuntimeError, match="shape"), making_room("it", SIZES, CPU):
        raise RuntimeError("a shape does not fit")


def test_other_failures_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="shape"):
        Full(RuntimeError("a shape does not fit")).step()


def test_the_cpu_allocator_is_understood():
    class Greedy(Full):
        @tells_of_memory
        def step(self):
            torch.empty(1 << 60)

    with pytest.raises(StreamError, match="ran out"):
        Greedy(None).step()


def test_a_film_that_runs_out_of_memory_ends_and_the_others_go_on(make_generator, monkeypatch):
    generator = make_generator()
    forward = type(generator)._flow

    def flow(self, state, latents, sigma, attention):
        if state.prompts == ("one",) and state.chunk == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, state, latents, sigma, attention)

    # Before there is a film, whose first chunks may be made at once.
    monkeypatch.setattr(type(generator), "_flow", flow)
    with Engine() as engine:
        failing = engine.open(generator, "one", 0, horizon=100.0)
        other = engine.open(generator, "two", 0, horizon=100.0)
        with pytest.raises(StreamError) as caught:
            for _ in failing:
                pass
        assert caught.value.code == "no_memory"
        assert "it takes cache" in caught.value.message
        assert failing.status is Status.FAILED
        assert failing.state is None
        before = other.time
        while other.time < before + 1:
            assert other.next() is not None
        again = engine.open(generator, "three", 0, horizon=1.0)
        assert sum(media.units for media in again) >= 8
