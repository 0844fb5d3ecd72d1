"""Convolutions of bytes are what float64 gives of what the bytes stand for, to half a step."""

from __future__ import annotations

import secrets

import pytest
import torch
from torch.nn import functional as F

from longtake.kernels import Steps, byte_conv, byte_conv_add, multiplies_bytes, pack_byte_conv

FAST = pytest.mark.skipif(not multiplies_bytes(), reason="this CPU multiplies no bytes")
HALF = 0.501
"""Of a step, float32's own error included."""


@pytest.fixture
def draw():
    """Others at every run; pytest shows the seed of one that fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201
    return torch.Generator().manual_seed(seed)


def given(draw, *shape, low, high):
    """Bytes as they lie in memory, and what they stand for."""
    steps = Steps.between(low, high)
    span = torch.rand(shape, generator=draw) * (high - low) + low
    return steps, steps.bytes(span).contiguous(memory_format=torch.channels_last)


def exact(x, steps, conv, weight):
    """In float64, with weights as they were rounded."""
    scale = conv.scale[:, None, None, None]
    rounded = (weight / scale).round().double() * scale.double()
    return F.conv2d(steps.values(x).double(), rounded, conv.bias.double(), padding=1)


@FAST
@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("low", [0.0, -1.5])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (3, 5, 4, 7, 9), (2, 48, 33, 4, 6)])
def test_a_convolution_is_rounded_once(shape, low, side, draw):
    frames, inputs, outputs, height, width = shape
    steps, x = given(draw, frames, inputs, height, width, low=low, high=2.5)
    weight = torch.randn(outputs, inputs, side, side, generator=draw)
    conv = pack_byte_conv(weight, torch.randn(outputs, generator=draw), steps)
    expected = exact(x, steps, conv, weight)
    for relu in (False, True):
        wanted = expected.relu() if relu else expected
        out = Steps.between(wanted.min().item(), wanted.max().item())
        found = byte_conv(x, conv, out, relu=relu)
        assert found.dtype == torch.uint8
        assert (out.values(found) - wanted).abs().max() <= HALF * out.step
        tolerance = {"rtol": 1e-5, "atol": 1e-5}
        as_floats = byte_conv(x, conv, torch.float32, relu=relu).double()
        torch.testing.assert_close(as_floats, wanted, **tolerance)


@FAST
@pytest.mark.parametrize("low", [0.0, -3.0])
def test_what_is_added_may_be_in_other_steps(low, draw):
    steps, x = given(draw, 3, 8, 7, 9, low=0.0, high=1.0)
    of, added = given(draw, 3, 12, 7, 9, low=low, high=4.0)
    weight = torch.randn(12, 8, 3, 3, generator=draw)
    conv = pack_byte_conv(weight, torch.randn(12, generator=draw), steps)
    expected = (exact(x, steps, conv, weight) + of.values(added)).relu()
    out = Steps.between(0.0, expected.max().item())
    found = byte_conv_add(x, conv, out, added, of)
    assert (out.values(found) - expected).abs().max() <= HALF * out.step


@FAST
def test_what_is_out_of_reach_becomes_the_last_byte(draw):
    steps, x = given(draw, 1, 4, 5, 5, low=0.0, high=1.0)
    conv = pack_byte_conv(torch.ones(2, 4, 3, 3), torch.tensor([99.0, -99.0]), steps)
    found = byte_conv(x, conv, Steps.between(-1.0, 1.0))
    assert found.unique().tolist() == [0, 255]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)])
def test_bytes_have_zero_among_them_and_come_back(low, high):
    steps = Steps.between(low, high)
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(steps.bytes(steps.values(every)), every)
    assert steps.values(torch.tensor([steps.zero])).item() == 0
    ends = steps.values(torch.tensor([0, 255]))
    assert ends[0] <= min(low, 0) + HALF * steps.step
    assert ends[1] >= max(high, 0) - HALF * steps.step


@pytest.mark.parametrize(
    ("capability", "there"), [("avx512_vnni", True), ("avx_vnni", True), ("avx2", False)]
)
def test_bytes_are_multiplied_where_there_are_instructions_for_it(capability, there, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {capability: True})
    assert multiplies_bytes() is there
