"""Every implementation against the reference of its operation.

An implementation is enrolled by being registered; a new operation needs only its inputs here.
"""

from __future__ import annotations

import pytest
import torch

from longtake.kernels import implementations
from longtake.kernels.registry import OPERATIONS

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
DTYPES = (torch.float32, torch.bfloat16)
# rtol and atol: a bfloat16 has 8 bits, and an implementation may round more often than once.
TOLERANCES = {torch.float32: (1e-5, 2e-5), torch.bfloat16: (2e-2, 4e-2)}
EPS = 1e-6


def attention(random, batch, queries, keys, heads, head_dim):
    key_shape = (batch, keys, heads, head_dim)
    return random(batch, queries, heads, head_dim), random(*key_shape), random(*key_shape)


def rms_norm(random, *shape):
    return random(*shape), random(shape[-1]), EPS


def layer_norm(random, *shape):
    return random(*shape), random(shape[-1]), random(shape[-1]), EPS


def rope(random, batch, tokens, heads, head_dim):
    angles = random(tokens, head_dim // 2).float() * 10
    rotation = torch.stack((angles.cos(), angles.sin()), -1)
    return random(batch, tokens, heads, head_dim), rotation


def modulate(random, batch, frames, tokens, channels):
    per_frame = (batch, frames, 1, channels)
    return random(batch, frames, tokens, channels), random(*per_frame), random(*per_frame), EPS


def gated_add(random, batch, frames, tokens, channels):
    shape = (batch, frames, tokens, channels)
    return random(*shape), random(*shape), random(batch, frames, 1, channels)


def gelu(random, *shape):
    return (random(*shape),)


ROWS = ((1, 2), (7, 3), (2, 3, 5), (3, 1, 33), (1, 64, 129))
FRAMES = ((1, 1, 1, 2), (2, 3, 7, 5), (1, 5, 13, 33), (3, 1, 64, 96))
INPUTS = {
    "attention": (
        attention,
        ((1, 1, 1, 1, 2), (2, 5, 7, 3, 8), (3, 1, 9, 1, 6), (1, 67, 131, 2, 16)),
    ),
    "rms_norm": (rms_norm, ROWS),
    "rope": (rope, ((1, 1, 1, 2), (2, 5, 3, 6), (1, 67, 1, 10), (3, 2, 7, 32))),
    "layer_norm": (layer_norm, ROWS),
    "modulate": (modulate, FRAMES),
    "gated_add": (gated_add, FRAMES),
    "gelu": (gelu, ROWS),
}
CASES = [
    pytest.param(implementation, shape, id=f"{operation}-{implementation.name}-{shape}")
    for operation in OPERATIONS
    for implementation in implementations(operation)
    for shape in INPUTS[operation][1]
]


def make_inputs(operation, shape, dtype, device, scale=1.0):
    generator = torch.Generator().manual_seed(sum(shape))

    def random(*size):
        return (torch.randn(size, generator=generator) * scale).to(device, dtype)

    make, _ = INPUTS[operation]
    return tuple(
        each.to(device) if isinstance(each, torch.Tensor) else each for each in make(random, *shape)
    )


def say_why_not(implementation, device, dtype):
    """Whether it cannot run there, in which case its refusal has to name what it lacks."""
    refusal = implementation.refusal(torch.device(device), dtype)
    if refusal is None:
        return False
    lacks_device = implementation.devices and device not in implementation.devices
    lacks_dtype = implementation.dtypes and dtype not in implementation.dtypes
    assert lacks_device or lacks_dtype
    assert (device if lacks_device else str(dtype)) in refusal
    return True


def check(implementation, inputs):
    """Equal to the reference in value, shape and dtype, with the inputs left as they were."""
    reference = implementations(implementation.operation)[0]
    before = [each.clone() if isinstance(each, torch.Tensor) else each for each in inputs]
    expected = reference.run(*before)
    out = implementation.run(*inputs)
    rtol, atol = TOLERANCES[expected.dtype]
    torch.testing.assert_close(out, expected, rtol=rtol, atol=atol)
    for now, then in zip(inputs, before, strict=True):
        if isinstance(now, torch.Tensor):
            torch.testing.assert_close(now, then, rtol=0, atol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("implementation", "shape"), CASES)
def test_an_implementation_equals_its_reference(implementation, shape, dtype, device):
    if not say_why_not(implementation, device, dtype):
        check(implementation, make_inputs(implementation.operation, shape, dtype, device))


def tokens_second(tensor):
    """The same values, stored with the second dimension first."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def middle_third(tensor):
    """The same values as a slice of three times as many, as of a fused projection."""
    return torch.cat((tensor, tensor, tensor), -1).chunk(3, -1)[1]


def odd_slice(tensor):
    """The same values an odd number of elements apart, from an odd offset on."""
    padded = torch.cat((tensor[..., :1], tensor, tensor), -1)
    return padded[..., 1 : 1 + tensor.shape[-1]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", [tokens_second, middle_third, odd_slice])
@pytest.mark.parametrize(("implementation", "shape"), CASES)
def test_an_implementation_takes_views_with_any_strides(implementation, shape, view, dtype, device):
    if say_why_not(implementation, device, dtype):
        return
    inputs = make_inputs(implementation.operation, shape, dtype, device)
    if implementation.operation == "rope":
        check(implementation, (view(inputs[0]), inputs[1]))  # the rotation is the caller's own
        return
    check(
        implementation,
        tuple(
            view(each) if isinstance(each, torch.Tensor) and each.ndim > 1 else each
            for each in inputs
        ),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("implementation", "shape"), CASES)
def test_an_implementation_stays_finite_on_large_values(implementation, shape, dtype, device):
    if say_why_not(implementation, device, dtype):
        return
    inputs = make_inputs(implementation.operation, shape, dtype, device, scale=300.0)
    assert implementation.run(*inputs).isfinite().all()


def test_every_operation_has_inputs_to_be_compared_on():
    assert set(INPUTS) == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_comes_first_and_runs_everywhere(operation):
    first = implementations(operation)[0]
    assert first.name == "reference"
    for device in ("cpu", "cuda", "mps"):
        for dtype in (*DTYPES, torch.float16):
            assert first.refusal(torch.device(device), dtype) is None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_names_of_an_operations_implementations_are_unique(operation):
    names = [each.name for each in implementations(operation)]
    assert len(names) == len(set(names))
