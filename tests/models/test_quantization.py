"""Weights in 8 bits: how far off they may be, and what a broken pair is called."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.models.quantization import dequantize, quantize


@settings(deadline=None)
@given(
    shape=st.sampled_from([(4, 6), (1, 3), (5, 2, 3, 3), (3, 2, 1, 2, 2)]),
    size=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_error_is_at_most_half_a_step_of_each_channel(shape, size, seed):
    weight = size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    weight[0] *= 100  # a loud channel does not cost the others
    stored = quantize({"a.weight": weight})
    assert stored["a.weight"].dtype == torch.int8
    scale = stored["a.weight_scale"]
    assert scale.dtype == torch.float32
    assert scale.shape == (shape[0], *(1,) * (len(shape) - 1))
    back = dict(dequantize(stored.items()))["a.weight"]
    assert ((back - weight).abs() <= scale * 0.5001).all()
    largest = weight.flatten(1).abs().amax(1)
    torch.testing.assert_close(scale.flatten() * 127, largest)


def test_zero_channels_stay_zero():
    back = dict(dequantize(quantize({"a.weight": torch.zeros(3, 4)}).items()))
    assert torch.equal(back["a.weight"], torch.zeros(3, 4))


def test_quantising_again_changes_nothing():
    once = dict(dequantize(quantize({"a.weight": torch.randn(8, 8)}).items()))
    twice = dict(dequantize(quantize(once).items()))
    torch.testing.assert_close(twice["a.weight"], once["a.weight"])


def test_what_is_quantised_already_stays_as_it_is():
    once = quantize({"a.weight": torch.randn(8, 8)})
    twice = quantize(once)
    assert twice.keys() == once.keys()
    assert all(torch.equal(twice[name], once[name]) for name in once)


def test_vectors_and_tables_stay_bfloat16():
    tensors = {
        "a.bias": torch.randn(4),
        "norm.weight": torch.randn(4),
        "scale_shift_table": torch.randn(1, 6, 4),
    }
    stored = quantize(tensors)
    assert {name: tensor.dtype for name, tensor in stored.items()} == dict.fromkeys(
        tensors, torch.bfloat16
    )
    for name, tensor in dequantize(stored.items()):
        assert torch.equal(tensor, tensors[name].bfloat16())


def test_scale_may_come_before_or_long_after_its_weight():
    stored = quantize({"a.weight": torch.randn(4, 4), "b.weight": torch.randn(2, 4)})
    expected = dict(dequantize(stored.items()))
    order = ["b.weight_scale", "a.weight", "b.weight", "a.weight_scale"]
    shuffled = dict(dequantize((name, stored[name]) for name in order))
    assert shuffled.keys() == expected.keys()
    assert all(torch.equal(shuffled[name], expected[name]) for name in expected)


def test_pieces_without_a_partner_are_passed_on():
    stored = quantize({"a.weight": torch.randn(4, 4), "b.weight": torch.randn(2, 4)})
    del stored["a.weight"], stored["b.weight_scale"]
    assert dict(dequantize(stored.items())).keys() == {"a.weight_scale", "b.weight"}


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4), (3, 1), ()])
def test_scale_of_the_wrong_shape_is_refused(shape):
    stored = quantize({"a.weight": torch.randn(4, 4)}) | {"a.weight_scale": torch.ones(shape)}
    with pytest.raises(ValueError, match=r"the scale of tensor a\.weight is "):
        dict(dequantize(stored.items()))
