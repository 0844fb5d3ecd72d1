"""The transformer against diffusers' own, and its parts against their formulas."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from longtake.models.folder import load_weights, read_config
from longtake.models.video.conditions import timestep_sinusoid
from longtake.models.video.transformer import TransformerConfig, WanTransformer

# Heads, head_dim, layers, channels in and out, patch, grid of tokens, frames, cross_attn_norm.
SHAPES = [
    (2, 16, 2, 4, 4, (1, 2, 2), (4, 4), 3, True),
    (3, 14, 1, 3, 3, (1, 2, 2), (3, 5), 1, False),
    (1, 24, 3, 4, 6, (1, 2, 2), (5, 2), 4, True),
    (4, 10, 2, 8, 8, (1, 1, 1), (1, 7), 2, False),
    (2, 20, 1, 2, 5, (1, 2, 4), (3, 3), 5, True),
    (1, 128, 2, 16, 16, (1, 2, 2), (2, 3), 3, True),
]


@pytest.fixture
def diffusers_model(tmp_path):
    """Makes a random model of diffusers and saves it to a folder."""

    def make(shape, seed: int):
        heads, head_dim, layers, channels, out_channels, patch, _, _, cross_attn_norm = shape
        torch.manual_seed(seed)
        model = WanTransformer3DModel(
            patch_size=patch,
            num_attention_heads=heads,
            attention_head_dim=head_dim,
            in_channels=channels,
            out_channels=out_channels,
            text_dim=12,
            freq_dim=32,
            ffn_dim=40,
            num_layers=layers,
            cross_attn_norm=cross_attn_norm,
        )
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path)
        return model.eval(), tmp_path

    return make


def _load(folder, kernels, dtype=torch.float32) -> WanTransformer:
    config = read_config(folder / "config.json", TransformerConfig)
    with torch.device("meta"):
        empty = WanTransformer(config, kernels)
    return load_weights(empty, folder, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_diffusers_on_one_chunk_with_full_attention(shape, kernels, diffusers_model, naive):
    theirs, folder = diffusers_model(shape, seed=SHAPES.index(shape))
    ours = _load(folder, kernels)
    *_, patch, grid, frames, _ = shape
    latents = torch.randn(2, shape[3], frames, grid[0] * patch[1], grid[1] * patch[2])
    text = torch.randn(2, 7, 12)
    for timestep in (1000.0, 937.5, 625.0, 0.0):
        expected = theirs(latents, torch.full((2,), timestep), text).sample
        attention = naive.PlainAttention(grid, range(frames))
        times = torch.full((2, frames), timestep)
        got = ours(latents, times, ours.encode_text(text), attention)
        assert got.shape == expected.shape
        assert (got - expected).abs().max() < 1e-4
        assert expected.std() > 0.1


def test_equals_diffusers_with_a_timestep_for_each_frame(kernels, diffusers_model, naive):
    shape = SHAPES[0]
    theirs, folder = diffusers_model(shape, seed=9)
    ours = _load(folder, kernels)
    grid, frames = shape[6], shape[7]
    latents = torch.randn(1, shape[3], frames, 2 * grid[0], 2 * grid[1])
    text = torch.randn(1, 7, 12)
    times = torch.tensor([[0.0, 250.0, 1000.0]])
    tokens = times.repeat_interleave(grid[0] * grid[1], 1)
    expected = theirs(latents, tokens, text).sample
    attention = naive.PlainAttention(grid, range(frames))
    got = ours(latents, times, ours.encode_text(text), attention)
    assert (got - expected).abs().max() < 1e-4


def test_bfloat16_is_as_exact_as_diffusers_mixed_precision(kernels, diffusers_model, naive):
    """They keep norms, time embedding and modulation in float32, we only their arithmetic."""
    shape = (4, 32, 6, 16, 16, (1, 2, 2), (4, 4), 3, True)
    exact, folder = diffusers_model(shape, seed=4)
    mixed = copy.deepcopy(exact).to(torch.bfloat16)
    mixed.rope = exact.rope
    for name, parameter in exact.named_parameters():
        if set(name.split(".")) & set(exact._keep_in_fp32_modules):
            mixed.get_parameter(name).data = parameter.data
    ours = _load(folder, kernels, torch.bfloat16)
    latents, text = torch.randn(1, 16, 3, 8, 8), torch.randn(1, 7, 12)
    for timestep in (1000.0, 625.0, 0.0):
        time = torch.tensor([timestep])
        expected = exact(latents, time, text).sample
        theirs = mixed(latents.bfloat16(), time, text.bfloat16()).sample
        attention = naive.PlainAttention(shape[6], range(3))
        text_kv = ours.encode_text(text.bfloat16())
        got = ours(latents.bfloat16(), time.expand(1, 3), text_kv, attention)
        assert got.dtype == torch.bfloat16
        errors = [(each.float() - expected).square().mean().sqrt() for each in (got, theirs)]
        assert errors[0] < 1.25 * errors[1] < 0.05


def test_parameter_names_are_those_of_diffusers(diffusers_model, cpu_kernels):
    theirs, folder = diffusers_model(SHAPES[0], seed=0)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    ours = _load(folder, cpu_kernels).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == shapes


def test_wan_1_3b_has_the_published_number_of_parameters(cpu_kernels):
    config = TransformerConfig(
        num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=30
    )
    with torch.device("meta"):
        model = WanTransformer(config, cpu_kernels)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_418_996_800
    assert len(list(model.parameters())) == 825


def test_timestep_sinusoid_puts_cosines_first():
    got = timestep_sinusoid(torch.tensor([[0.0, 1.0]]), 4)
    angle = torch.tensor([1.0, 0.01])
    expected = torch.stack((torch.tensor([1.0, 1, 0, 0]), torch.cat((angle.cos(), angle.sin()))))
    torch.testing.assert_close(got[0], expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patch_size": (2, 2, 2)}, "patch_size"),
        ({"qk_norm": "rms_norm"}, "qk_norm"),
        ({"image_dim": 1280}, "image"),
        ({"added_kv_proj_dim": 64}, "image"),
        ({"pos_embed_seq_len": 257}, "image"),
    ],
)
def test_config_refuses_what_is_not_served(change, named, tiny):
    with pytest.raises(ValueError, match=named):
        replace(tiny.transformer, **change)


def test_config_of_the_released_model_is_read(tmp_path):
    released = {
        "_class_name": "WanTransformer3DModel",
        "_diffusers_version": "0.33.0.dev0",
        "added_kv_proj_dim": None,
        "attention_head_dim": 128,
        "cross_attn_norm": True,
        "eps": 1e-06,
        "ffn_dim": 8960,
        "freq_dim": 256,
        "image_dim": None,
        "in_channels": 16,
        "num_attention_heads": 12,
        "num_layers": 30,
        "out_channels": 16,
        "patch_size": [1, 2, 2],
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": 4096,
    }
    (tmp_path / "config.json").write_text(json.dumps(released))
    config = read_config(tmp_path / "config.json", TransformerConfig)
    assert config.dim == 1536
    assert config.patch_size == (1, 2, 2)
