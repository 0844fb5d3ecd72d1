"""Every implementation against the reference of its operation.

An implementation is enrolled by being registered; a new operation needs only its inputs here.
"""

from __future__ import annotations

import copy
import math
import os
import secrets

import pytest
import torch

from longtake.kernels import FP8, BlockMap, Quantized, implementations
from longtake.kernels.registry import OPERATIONS

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
DTYPES = (torch.float32, torch.bfloat16)
# rtol and atol: a bfloat16 has 8 bits, and an implementation may round more often than once.
TOLERANCES = {torch.float32: (1e-5, 2e-5), torch.bfloat16: (2e-2, 4e-2), FP8: (0.13, 4e-2)}
# What the results of an operation may have been rounded to on the way, its own dtype otherwise.
ROUNDED = {"attention_fp8": FP8}
# Steps of int8 that two may differ by: one where a value falls between, more where it was rounded.
STEPS = {torch.float32: 1.001, torch.bfloat16: 2.5}
EPS = 1e-6
FRAME_TOKENS, SPARE = 3, 2
# The leading arguments that may come as views; the others are the model's own.
VIEWED = {"rope": 1, "norm_rope_write": 3, "int8_linear": 1, "norm_silu_write": 0}


@pytest.fixture(autouse=True)
def _poisoned():
    """What is allocated is full of NaN, so that nothing left out looks like something written."""
    # Warnings only: cuDNN's attention is refused otherwise.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def attention(random, batch, queries, keys, heads, head_dim):
    key_shape = (batch, keys, heads, head_dim)
    return random(batch, queries, heads, head_dim), random(*key_shape), random(*key_shape)


def narrow(tensor):
    """In 8-bit floating point, within its range."""
    return tensor.clamp(-448, 448).to(FP8)


def attention_fp8(random, *shape):
    return tuple(map(narrow, attention(random, *shape)))


def block_attention(random, batch, frames, slots, frame_tokens, size, head_dim, kept=None):
    """Each block of queries sees blocks of its own choice; the last slot is empty."""
    in_frame = math.ceil(frame_tokens / size)
    asking, most = frames * in_frame, (slots - 1) * in_frame
    keys = torch.stack([torch.randperm(most) for _ in range(asking)]).to(torch.int32)
    counts = torch.randint(1, most + 1, (asking,), dtype=torch.int32)
    shape = (batch, slots, frame_tokens, 2, head_dim)
    k, v = random(*shape), random(*shape)
    for cache in (k, v):
        cache[:, -1] = torch.nan
    q = random(batch, frames * frame_tokens, 2, head_dim)
    if kept == FP8:
        q, k, v = map(narrow, (q, k, v))
    return q, k, v, BlockMap(keys, counts, size)


def rms_norm(random, *shape):
    return random(*shape), random(shape[-1]), EPS


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


def linear_gelu(random, *shape):
    *_, inputs, outputs = shape
    return random(*shape[:-1]), random(outputs, inputs), random(outputs)


def gated_layer_norm(random, *shape):
    x, y, gate = gated_add(random, *shape)
    return x, y, gate, random(shape[-1]), random(shape[-1]), EPS


def added_modulate(random, *shape):
    x, shift, scale, eps = modulate(random, *shape)
    return x, random(*shape), shift, scale, eps


def gated_modulate(random, *shape):
    _, *modulation = modulate(random, *shape)
    return *gated_add(random, *shape), *modulation


def norm_rope_write(random, batch, frames, heads, head_dim, kept=None):
    tokens, dim = frames * FRAME_TOKENS, heads * head_dim
    q, k, v = (random(batch, tokens, heads, head_dim) for _ in range(3))
    _, rotation = rope(random, batch, tokens, heads, head_dim)
    keys, values = (
        torch.full((batch, frames + SPARE, FRAME_TOKENS, heads, head_dim), torch.nan).to(
            kept or q.dtype
        )
        for _ in range(2)
    )
    slots = torch.randperm(frames + SPARE)[:frames]
    return q, k, v, random(dim), random(dim), EPS, rotation, keys, values, slots


def norm_silu_write(random, batch, frames, tokens, channels, summed):
    shape = (batch, frames, tokens, channels)
    out = random(batch, frames, tokens, 3 * channels)
    added = (random(*shape), random(channels)) if summed else (None, None)
    return random(*shape), *added, random(channels), EPS, out


def quantize(random, *shape):
    return (random(*shape),)


def int8_linear(random, tokens, inputs, outputs):
    values = random(2, tokens, inputs).float().mul(40).clamp(-127, 127).to(torch.int8)
    weight = random(outputs, inputs).float().mul(40).clamp(-127, 127).to(torch.int8)
    scale, weight_scale = (random(*s, 1).float().abs() / 100 for s in ((2, tokens), (outputs,)))
    return Quantized(values, scale), weight, weight_scale, random(outputs)


ROWS = ((1, 2), (7, 3), (2, 3, 5), (3, 1, 33), (1, 9, 129))
# Batch, frames of queries, slots of keys, tokens of a frame and of a block, channels of a head.
# The last two blocks are multiplied in parts.
BLOCKS = (
    *((1, 1, 2, 1, 4, 2), (2, 2, 3, 5, 2, 6), (1, 2, 3, 21, 16, 8), (2, 1, 3, 24, 12, 5)),
    *((1, 1, 2, 150, 128, 4), (1, 1, 2, 130, 100, 6)),
    *((2, 2, 3, 5, 2, 6, FP8), (1, 1, 2, 150, 128, 32, FP8)),
)
# Batch, frames, tokens, channels, and whether there is something to add.
TAPS = ((1, 1, 1, 2, False), (1, 1, 5, 33, True), (2, 3, 7, 5, True), (3, 4, 9, 96, False))
FRAMES = ((1, 1, 1, 2), (2, 3, 7, 5), (1, 5, 3, 33), (3, 1, 4, 96))
INPUTS = {
    "attention": (
        attention,
        # The last one in pieces: so many scores are not at hand together.
        (
            *((1, 1, 1, 1, 2), (2, 5, 7, 3, 8), (3, 1, 9, 1, 6), (1, 67, 131, 2, 16)),
            (2, 300, 1000, 2, 8),
        ),
    ),
    "attention_fp8": (
        attention_fp8,
        ((1, 2, 1, 1, 16), (2, 5, 7, 3, 16), (1, 67, 131, 2, 64), (2, 300, 1000, 2, 128)),
    ),
    "block_attention": (block_attention, BLOCKS),
    "rms_norm": (rms_norm, ROWS),
    "rope": (rope, ((1, 1, 1, 2), (2, 5, 3, 6), (1, 67, 1, 10), (3, 2, 7, 32))),
    "gated_add": (gated_add, FRAMES),
    "linear_gelu": (linear_gelu, ((1, 2, 3), (2, 3, 5, 16), (1, 9, 33, 24))),
    "gated_layer_norm": (gated_layer_norm, FRAMES),
    "added_modulate": (added_modulate, FRAMES),
    "gated_modulate": (gated_modulate, FRAMES),
    "norm_rope_write": (
        norm_rope_write,
        ((1, 1, 1, 2), (2, 5, 3, 6), (1, 3, 2, 32), (2, 5, 3, 6, FP8)),
    ),
    "norm_silu_write": (norm_silu_write, TAPS),
    "quantize": (quantize, ROWS),
    "gated_layer_norm_int8": (gated_layer_norm, FRAMES),
    "added_modulate_int8": (added_modulate, FRAMES),
    "gated_modulate_int8": (gated_modulate, FRAMES),
    "gelu_int8": (gelu, ROWS),
    "int8_linear": (int8_linear, ((1, 1, 1), (20, 32, 32), (35, 70, 41), (300, 131, 260))),
}


def norm64(x, weight, bias):
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt() * weight + bias


def rotated64(x, weight, rotation):
    normed = x * (x.square().mean((-2, -1), keepdim=True) + EPS).rsqrt()
    normed = normed * weight.view(x.shape[-2:])
    pairs = torch.view_as_complex(normed.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.view_as_complex(rotation).unsqueeze(1)).flatten(-2)


def norm_rope_write64(q, k, v, q_weight, k_weight, eps, rotation, keys, values, slots):
    frames = (len(slots), FRAME_TOKENS)
    keys[:, slots] = rotated64(k, k_weight, rotation).unflatten(1, frames)
    values[:, slots] = v.unflatten(1, frames)
    return rotated64(q, q_weight, rotation)


def block_attention64(q, k, v, blocks):
    frame_tokens = k.shape[2]
    in_frame = math.ceil(frame_tokens / blocks.size)

    def block_of(tokens):
        token = torch.arange(tokens, device=q.device)
        return token // frame_tokens * in_frame + token % frame_tokens // blocks.size

    seen = torch.zeros(len(blocks.counts), k.shape[1] * in_frame, dtype=torch.bool)
    for row, (keys, count) in enumerate(zip(blocks.keys.tolist(), blocks.counts, strict=True)):
        seen[row, keys[:count]] = True
    k, v = k.flatten(1, 2), v.flatten(1, 2)
    hidden = ~seen.to(q.device)[block_of(q.shape[1])][:, block_of(k.shape[1])]
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v.nan_to_num())


def gelu64(x):
    return x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2


# What the fused operations are, in float64; sums are those already rounded.
EXACT = {
    "gated_layer_norm": norm64,
    "added_modulate": lambda total, shift, scale: norm64(total, 1 + scale, shift),
    "gated_modulate": lambda total, shift, scale: norm64(total, 1 + scale, shift),
    "gelu": gelu64,
    "linear_gelu": lambda x, weight, bias: gelu64(x @ weight.T + bias),
    "quantize": lambda x: x,
    "norm_rope_write": norm_rope_write64,
    "block_attention": block_attention64,
    "int8_linear": lambda x, weight, weight_scale, bias: (
        (x.values.double() @ weight.T) * x.scale.double() * weight_scale.T + bias
    ),
}


def cases(first=0, operations=OPERATIONS):
    """Every implementation on its operation's shapes from one on."""
    return pytest.mark.parametrize(
        ("implementation", "shape"),
        [
            pytest.param(implementation, shape, id=f"{operation}-{implementation.name}-{shape}")
            for operation in operations
            for implementation in implementations(operation)
            for shape in INPUTS[operation][1][first:]
        ],
    )


def make_inputs(operation, shape, dtype, device, scale=1.0):
    """Others at every run; pytest shows the seed of one that fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201
    torch.manual_seed(seed)

    def random(*size):
        return (torch.randn(size) * scale).to(dtype)

    make, _ = INPUTS[operation]
    return tuple(moved(each, device) for each in make(random, *shape))


def moved(each, device):
    if isinstance(each, (Quantized, BlockMap)):
        return type(each)(*(moved(part, device) for part in each))
    return each.to(device) if isinstance(each, torch.Tensor) else each


def tensors_of(given):
    """Every tensor of nested tuples, in order."""
    if isinstance(given, torch.Tensor):
        return [given]
    return [one for each in given for one in tensors_of(each)] if isinstance(given, tuple) else []


def say_why_not(implementation, device, dtype):
    """Whether it cannot run there, in which case its refusal has to name what it lacks."""
    refusal = implementation.refusal(torch.device(device), dtype)
    if refusal is None:
        return False
    if implementation.library == "triton":
        pytest.importorskip("triton")
    if "compute capability" in refusal or "not installed" in refusal:
        return True
    lacks_device = implementation.devices and device not in implementation.devices
    lacks_dtype = implementation.dtypes and dtype not in implementation.dtypes
    assert lacks_device or lacks_dtype
    assert (device if lacks_device else str(dtype)) in refusal
    return not (implementation.library == "triton" and os.environ.get("TRITON_INTERPRET") == "1")


def check(implementation, inputs):
    """Equal to the reference in value, shape, dtype and what it does to its inputs."""
    reference = implementations(implementation.operation)[0]
    again = copy.deepcopy(inputs)
    expected = reference.run(*again)
    out = implementation.run(*inputs)
    dtype = inputs[0].dtype if isinstance(inputs[0], torch.Tensor) else None
    if isinstance(expected, tuple) and not isinstance(expected, Quantized):
        # A sum that was rounded the other way, as Triton's interpreter rounds some, may be far from
        # it once it is normed. So the norm is held against that of the very sum.
        total, _ = out
        _, normed = reference.run(total, torch.zeros_like(total), *inputs[2:])
        expected = expected[0], normed
    compare(out, expected, dtype, ROUNDED.get(implementation.operation))
    for now, then in zip(tensors_of(inputs), tensors_of(again), strict=True):
        close(now, then, equal_nan=True)


def close(out, expected, rounded=None, **options):
    """Equal, but for what a dtype rounds."""
    assert out.dtype == expected.dtype
    rtol, atol = TOLERANCES.get(rounded or expected.dtype, (0, 0))
    out, expected = (each.float() if each.dtype == FP8 else each for each in (out, expected))
    torch.testing.assert_close(out, expected, rtol=rtol, atol=atol, **options)


def compare(out, expected, dtype, rounded=None):
    if isinstance(expected, Quantized):
        rtol, atol = TOLERANCES[dtype]
        assert (out.values.dtype, out.scale.dtype) == (torch.int8, torch.float32)
        torch.testing.assert_close(out.scale, expected.scale, rtol=rtol, atol=atol)
        wide, exact = (each.values * each.scale.double() for each in (out, expected))
        assert ((wide - exact).abs() <= STEPS[dtype] * expected.scale).all()
    elif isinstance(expected, tuple):
        for each, other in zip(out, expected, strict=True):
            compare(each, other, dtype)
    else:
        close(out, expected, rounded)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@cases()
def test_an_implementation_equals_its_reference(implementation, shape, dtype, device):
    if not say_why_not(implementation, device, dtype):
        check(implementation, make_inputs(implementation.operation, shape, dtype, device))


@pytest.mark.parametrize("dtype", DTYPES)
@cases(operations=["int8_linear", "block_attention"])
def test_gpus_that_move_no_tiles_get_the_same(implementation, shape, dtype, monkeypatch):
    if implementation.name != "triton" or say_why_not(implementation, "cpu", dtype):
        return
    for module in (implementation.module, "descriptors"):
        monkeypatch.setattr(f"longtake.kernels.{module}.moves_tiles", lambda device: False)
    check(implementation, make_inputs(implementation.operation, shape, dtype, "cpu"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@cases(1, [op for op in OPERATIONS if op.removesuffix("_int8") in EXACT])
def test_a_fused_implementation_is_what_float64_gives(implementation, shape, dtype, device):
    if say_why_not(implementation, device, dtype):
        return
    inputs = make_inputs(implementation.operation, shape, dtype, device)
    wide = tuple(each.double() if isinstance(each, torch.Tensor) else each for each in inputs)
    out = implementation.run(*inputs)
    name = implementation.operation.removesuffix("_int8")
    if name in {"gated_layer_norm", "gated_modulate"}:
        compare(out[0], (wide[0] + wide[1] * wide[2]).to(dtype), dtype)
        wide, out = (out[0].double(), *wide[3:5]), out[1]
    if name == "added_modulate":
        compare(out[0], (wide[0] + wide[1]).to(dtype), dtype)
        wide, out = (out[0].double(), *wide[2:4]), out[1]
    if name == "norm_rope_write":
        wide = (*wide[:-1], inputs[-1])
    exact = EXACT[name](*wide)
    if isinstance(out, Quantized):
        scale = exact.abs().amax(-1, keepdim=True) / 127
        exact = Quantized((exact / scale).round(), scale.float())
    compare(out, exact if isinstance(out, Quantized) else exact.to(out.dtype), dtype)
    if name == "norm_rope_write":
        for written, expected in zip(inputs[7:9], wide[7:9], strict=True):
            close(written, expected.to(written.dtype), equal_nan=True)


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
@cases(2)
def test_an_implementation_takes_views_with_any_strides(implementation, shape, view, dtype, device):
    if say_why_not(implementation, device, dtype):
        return
    inputs = make_inputs(implementation.operation, shape, dtype, device)
    many = VIEWED.get(implementation.operation, len(inputs))
    check(implementation, (*(seen(view, each) for each in inputs[:many]), *inputs[many:]))


def seen(view, each):
    if isinstance(each, Quantized):
        return Quantized(view(each.values), each.scale)
    return view(each) if isinstance(each, torch.Tensor) and each.ndim > 1 else each


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@cases(2)
def test_an_implementation_stays_finite_on_large_values(implementation, shape, dtype, device):
    if say_why_not(implementation, device, dtype):
        return
    inputs = make_inputs(implementation.operation, shape, dtype, device, scale=300.0)
    out = tensors_of(implementation.run(*inputs))
    assert all(each.float().isfinite().all() for each in out)


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
