"""A watch's memory by arithmetic, against the bytes that are there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.models import memory
from longtake.models.memory import Memory
from longtake.models.vlm.load import load_captioner, watch_sizes
from longtake.models.vlm.settings import Settings
from longtake.streaming import StreamError

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_cache_are_the_bytes_that_are_loaded(folder, dtype, video, watch):
    need = watch_sizes(folder, CPU, dtype).need
    captioner = load_captioner(folder, CPU, dtype)
    state = captioner.open("", 0)
    watch(captioner, state, video(1))
    assert need.parts["weights"] == sum(
        each.nbytes for each in captioner.network.model.parameters()
    )
    assert need.parts["cache"] == state.cache.bytes
    assert captioner.session_need.parts.items() <= need.parts.items()


def test_a_shorter_memory_is_a_smaller_cache(folder, video, watch):
    changes = {"vision_seconds": 4.0, "text_window": 9}
    captioner = load_captioner(folder, CPU, torch.float32, changes=changes)
    assert captioner.settings == replace(Settings(), **changes)
    state = captioner.open("", 0)
    watch(captioner, state, video(6))
    sizes = watch_sizes(folder, CPU, torch.float32)
    less = replace(sizes, settings=captioner.settings)
    assert less.need.parts["cache"] == state.cache.bytes
    assert less.need.total < sizes.need.total


def test_quantization_shrinks_the_linear_layers_alone(folder):
    sizes = watch_sizes(folder, CPU, torch.bfloat16)
    parameters = sizes.parameters
    weights = {
        kind: replace(sizes, quantization=kind).need.parts["weights"]
        for kind in (None, "8bit", "4bit")
    }
    assert weights[None] == 2 * (parameters.linear + parameters.other)
    assert weights["8bit"] == parameters.linear + 2 * parameters.other
    assert weights["4bit"] == parameters.linear * 9 // 16 + 2 * parameters.other


def test_fewer_bits_are_offered_before_a_shorter_memory(folder):
    sizes = watch_sizes(folder, CPU, torch.bfloat16)
    elsewhere = replace(sizes, quantizable=False)
    assert [words for words, _ in elsewhere.alternatives()] == [
        f"{seconds} s of memory" for seconds in (8, 4, 2, 1)
    ]
    assert [words for words, _ in sizes.alternatives()][:4] == [
        "8bit quantization",
        "4bit quantization",
        "8 s of memory",
        "8bit quantization with 8 s of memory",
    ]
    quantized = replace(sizes, quantization="4bit")
    assert next(quantized.alternatives())[0] == "8 s of memory"


def test_a_captioner_that_does_not_fit_is_refused_before_its_weights_are_read(folder, monkeypatch):
    sizes = watch_sizes(folder, CPU, torch.float32)
    less = next(need for words, need in sizes.alternatives() if words == "8 s of memory")
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(less.total, 10**9))
    with monkeypatch.context() as patch:
        patch.setattr("longtake.models.vlm.load._model", pytest.fail)
        with pytest.raises(StreamError) as caught:
            load_captioner(folder, CPU, torch.float32)
    assert caught.value.code == "no_memory"
    assert str(sizes.need) in caught.value.message
    assert "8 s of memory would fit" in caught.value.hint
    load_captioner(folder, CPU, torch.float32, changes={"vision_seconds": 8.0})


def test_a_setting_that_makes_no_sense_is_refused(folder):
    for changes in ({"fps": -1.0}, {"speed": 2}):
        with pytest.raises(StreamError) as caught:
            load_captioner(folder, CPU, torch.float32, changes=changes)
        assert caught.value.code == "bad_setting"


def test_running_out_of_memory_ends_the_round_with_one_sentence(captioner, video, watch):
    state = captioner.open("", 0)
    watch(captioner, state, video(1))
    written = state.written
    captioner.network.read = lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full"))
    with pytest.raises(StreamError, match="ran out") as caught:
        watch(captioner, state, video(1, start=1.0))
    assert caught.value.code == "no_memory"
    assert state.written == written
