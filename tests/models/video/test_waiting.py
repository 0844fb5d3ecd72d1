"""Within a chunk the host never waits for the device.

A meta device stands in for a GPU: nothing can be read back from it, and what is copied to it has
to be copied without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from longtake.kernels import bind
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.transfer import Constant, Outlet, Sent, to_device
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import Event

META = torch.device("meta")
READS = {"cpu", "item", "nonzero", "numpy", "tolist", "__bool__", "__float__", "__int__"}


def on_device(value: object) -> bool:
    return isinstance(value, Tensor) and value.device == META


class NeverWaiting(TorchFunctionMode):
    """Fails where a call would make the host wait for a real device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = next((each for each in args if isinstance(each, Tensor)), None)
        if name in READS:
            assert not on_device(given), f"{name} reads from the device"
        if name in {"tensor", "as_tensor"}:
            assert str(kwargs.get("device")) != "meta", f"{name} copies and waits"
        if name in {"__getitem__", "__setitem__", "index_select"} and on_device(given):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            host = [each for each in index if isinstance(each, list | Tensor)]
            assert all(map(on_device, host)), "an index is copied to the device"
        out = func(*args, **kwargs)
        if name in {"to", "copy_"} and given is not None:
            pair = (given, args[1] if name == "copy_" else out)
            if len({on_device(each) for each in pair}) == 2:
                assert kwargs.get("non_blocking"), f"{name} waits"
        return out


class NothingArrives(Outlet):
    """Frames are sent, and none is waited for."""

    runs_beside = True

    def __init__(self) -> None:
        super().__init__(META)
        self.sent = 0
        self.within = False

    @contextmanager
    def decoding(self):
        self.within = True
        yield
        self.within = False

    def send(self, pictures: Tensor) -> Sent:
        assert self.within
        self.sent += pictures.shape[1]
        return Sent(torch.empty(0, dtype=torch.uint8))


@pytest.fixture
def make_silent(make_generator) -> Callable[..., VideoGenerator]:
    """A generator of which every part is on the meta device."""

    def make(codec: object | None = None, *, fp8: bool = False, **changes) -> VideoGenerator:
        there = make_generator(codec, **changes)
        kernels = bind(META, torch.float32)
        transformer = type(there.transformer)(there.transformer.config, kernels).to(META)
        if isinstance(there.codec, torch.nn.Module):
            there.codec.to(META)

        def text(prompts, draws):
            return torch.empty(1, there.config.text_length, 16, device=META)

        text.rewriter = None
        parts = (transformer, there.codec, text, there.config, kernels, META, torch.float32)
        generator = VideoGenerator(*parts, fp8_cache=fp8)
        generator.outlet = NothingArrives()
        return generator

    return make


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("recache", ["full", "causal"])
@pytest.mark.parametrize("fp8", [False, True])
def test_a_chunk_is_started_without_waiting(positions, recache, fp8, make_silent):
    generator = make_silent(positions=positions, recache=recache, fp8=fp8)
    state = generator.open("one", 1)
    for index in range(8):  # the cache is filled by the fourth
        if index in {2, 6}:
            generator.apply(state, Event("prompt", f"{index}"))
        if index == 7:
            generator.apply(state, Event("window", 6))
        boundary = False
        with NeverWaiting():
            while not boundary:
                boundary = generator.step(state).boundary
    assert generator.outlet.sent == 8 * generator.spec.chunk_units


def test_wans_decoder_does_not_wait_either(make_silent, published):
    vae = published.make_vae().to(META)
    codec = WanCodec(vae)
    state = codec.start()
    latents = torch.empty(1, 16, 1, 2, 2, device=META)
    with NeverWaiting():
        _, state = codec.decode(latents, state)
        pictures, _ = codec.decode(latents, state)
    assert pictures.shape == (1, 4, 3, 16, 16)


@pytest.mark.parametrize(
    "wait",
    [
        lambda there: there[0].item(),
        lambda there: there.cpu(),
        lambda there: bool(there.any()),
        lambda there: there[[0, 1]],
        lambda there: there[torch.tensor([0])],
        lambda there: there.copy_(torch.zeros(3)),
        lambda there: torch.tensor([1, 2], device="meta"),
        lambda there: torch.zeros(2).to("meta"),
    ],
)
def test_waiting_is_noticed(wait):
    there = torch.empty(3, device=META)
    with NeverWaiting(), pytest.raises((AssertionError, RuntimeError)):
        wait(there)


def test_numbers_go_to_a_device_once():
    constant = Constant((1.0, 2.0))
    with NeverWaiting():
        assert constant.like(torch.empty(1, device=META)).device == META
    made = constant.like(torch.empty(1, dtype=torch.float64))
    assert made.tolist() == [[[[1.0]]], [[[2.0]]]]
    assert made.dtype == torch.float64
    assert constant.like(torch.empty(1, dtype=torch.float64)) is made
    # A film is made in inference mode, and training may follow.
    with torch.inference_mode(mode=False):
        assert not constant.like(torch.empty(1, dtype=torch.float64)).is_inference()


def test_to_device_copies_without_waiting():
    with NeverWaiting():
        assert to_device(torch.zeros(2), META).device == META
