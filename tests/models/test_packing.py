"""Packed linear layers against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from longtake.kernels import cpu
from longtake.models.packing import PackedLinear, pack_linears, packed

DTYPES = [torch.float32, torch.bfloat16]


def packable(dtype: torch.dtype) -> bool:
    return cpu.pack(torch.zeros(2, 2, dtype=dtype)) is not None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(
    ("tokens", "inputs", "outputs"), [(1, 1, 1), (7, 3, 5), (72, 384, 65), (130, 33, 12)]
)
def test_it_gives_what_a_plain_layer_does(dtype, gelu, tokens, inputs, outputs):
    plain = nn.Linear(inputs, outputs).to(dtype)
    layer = packed(plain, gelu=gelu)
    if not packable(dtype):
        assert layer is None
        return
    x = torch.randn(2, tokens, inputs).to(dtype)
    exact = F.linear(x.double(), plain.weight.double(), plain.bias.double())
    exact = F.gelu(exact, approximate="tanh") if gelu else exact
    bound = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    with torch.inference_mode():
        for rows in (x, x.transpose(0, 1).contiguous().transpose(0, 1), x[:, ::2]):
            assert layer(rows).dtype == dtype
            expected = exact if rows.shape == x.shape else exact[:, ::2]
            torch.testing.assert_close(layer(rows).double(), expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_its_state_is_that_of_the_plain_layer(dtype):
    plain = nn.Sequential(nn.Linear(40, 33), nn.ReLU(), nn.ModuleList([nn.Linear(33, 2)])).to(dtype)
    stored = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    pack_linears(plain)
    assert isinstance(plain[0], PackedLinear) == packable(dtype)
    assert isinstance(plain[2][0], PackedLinear) == packable(dtype)
    again = plain.state_dict()
    assert list(again) == list(stored)
    assert all(torch.equal(again[name], tensor) for name, tensor in stored.items())


def test_what_cannot_be_packed_stays(monkeypatch):
    half = nn.Linear(4, 4).half()
    assert packed(half) is None
    assert packed(nn.ReLU()) is None
    assert packed(nn.Linear(4, 4, bias=False)) is None
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert packed(nn.Linear(4, 4).bfloat16()) is None
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    module = nn.Sequential(nn.Linear(4, 4))
    pack_linears(module)
    assert type(module[0]) is nn.Linear
