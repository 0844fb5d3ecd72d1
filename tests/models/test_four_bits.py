"""4-bit layers of any shape on any CPU."""

from __future__ import annotations

import pytest
import torch

from longtake.models.four_bits import keep_unpacked


@pytest.mark.parametrize(("inputs", "outputs"), [(32, 96), (192, 480), (480, 192), (64, 20)])
def test_a_layer_of_any_shape_multiplies(inputs, outputs):
    bits = pytest.importorskip("bitsandbytes.nn")
    torch.manual_seed(0)
    layer = bits.Linear4bit(inputs, outputs, bias=False, quant_type="nf4")
    weight, x = layer.weight.data.clone(), torch.randn(3, inputs)
    layer.to("cpu").eval()
    keep_unpacked(layer)
    with torch.inference_mode():
        pair = (layer(x).flatten(), (x @ weight.T).flatten())
    assert torch.cosine_similarity(*pair, dim=0) > 0.98


@pytest.mark.parametrize(("inputs", "outputs", "left"), [(128, 64, True), (96, 64, False)])
def test_only_what_cannot_be_packed_is_kept_from_it(inputs, outputs, left):
    layer = torch.nn.Linear(inputs, outputs)
    layer.support_avx512bf16_for_cpu = True
    keep_unpacked(torch.nn.Sequential(layer, torch.nn.Linear(3, 3)))
    assert layer.support_avx512bf16_for_cpu is left
