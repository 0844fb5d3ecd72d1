"""LoRAs of all namings are a plain addition of matrices; what is none says so."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models.video.lora import read_lora
from longtake.streaming import StreamError

LAYER = "blocks.1.self_attn.q"
WEIGHT = "blocks.1.attn1.to_q.weight"


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(4, 6), torch.randn(5, 4)


@pytest.fixture
def write(pair, tmp_path):
    """Writes the pair in some naming; gives the file."""

    def write(down, up, metadata=None, name="lora.safetensors", **more):
        path = tmp_path / name
        tensors = {down: pair[0], up: pair[1]} | {k.replace("__", "."): v for k, v in more.items()}
        save_file(tensors, path, metadata)
        return path

    return write


@pytest.fixture
def check(pair):
    """Checks that what is read adds the pair, times a factor."""

    def check(lora, factor=1.0):
        weight = torch.randn(5, 6)
        expected = weight.double() + factor * (pair[1].double() @ pair[0].double())
        torch.testing.assert_close(lora.merge(WEIGHT, weight), expected.float())
        half = lora.merge(WEIGHT, weight.bfloat16())
        assert half.dtype == torch.float32
        assert lora.merge("proj_out.weight", weight) is weight
        lora.check({WEIGHT: weight})

    return check


@pytest.mark.parametrize("layer", [LAYER, WEIGHT.removesuffix(".weight")], ids=["wan", "diffusers"])
@pytest.mark.parametrize(
    "names",
    [
        ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
        ("base_model.model.{}.lora_A.default.weight", "base_model.model.{}.lora_B.default.weight"),
        ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight"),
        ("diffusion_model.{}.lora_down.weight", "diffusion_model.{}.lora_up.weight"),
        ("{}.lora_A.weight", "{}.lora_B.weight"),
    ],
    ids=lambda names: names[0],
)
def test_every_naming_is_read(names, layer, write, check):
    path = write(*(name.format(layer) for name in names))
    check(read_lora(path))
    check(read_lora(path, 0.25), 0.25)


def test_layers_outside_of_blocks_are_changed_too(write):
    path = write("time_projection.1.lora_A.weight", "time_projection.1.lora_B.weight")
    assert list(read_lora(path).down) == ["condition_embedder.time_proj.weight"]


def test_alpha_is_taken_from_wherever_it_is_said(write, check, tmp_path):
    names = f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"
    alpha = {f"{LAYER.replace('.', '__')}__alpha": torch.tensor(8.0)}
    check(read_lora(write(*names, **alpha)), 2.0)
    note = json.dumps({"transformer.lora_alpha": 2, "transformer.r": 4})
    check(read_lora(write(*names, {"lora_adapter_metadata": note})), 0.5)
    (tmp_path / "peft").mkdir()
    write(*names, name="peft/adapter_model.safetensors")
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps({"lora_alpha": 12, "r": 4, "use_dora": False}))
    check(read_lora(tmp_path / "peft"), 3.0)


def refuse(call, *words):
    with pytest.raises(StreamError) as caught:
        call()
    assert caught.value.code == "bad_lora"
    for word in words:
        assert word in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({f"{LAYER}.lora_B.weight": None}, f"one half of the change of {LAYER}"),
        ({f"{LAYER}.lora_A.weight": torch.ones(3, 6)}, "[5, 4] and [3, 6]"),
        ({f"{LAYER}.lora_A.weight": torch.ones(4, 6, 1)}, "[4, 6, 1]"),
        ({f"{LAYER}.dora_scale": torch.ones(3)}, f"{LAYER}.dora_scale"),
        ({"blocks.0.norm3.diff": torch.ones(3)}, "blocks.0.norm3.diff"),
        (
            {
                f"{WEIGHT.removesuffix('.weight')}.lora_A.weight": torch.ones(4, 6),
                f"{WEIGHT.removesuffix('.weight')}.lora_B.weight": torch.ones(5, 4),
            },
            "under Wan's and under diffusers' name",
        ),
        ({"blocks.0.ffn.0.alpha": torch.ones(())}, "one half of the change of blocks.0.ffn.0"),
    ],
    ids=["half", "rank", "convolution", "dora", "difference", "double", "alpha alone"],
)
def test_what_is_no_lora_is_named(changes, word, write):
    path = write(f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight")
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    refuse(lambda: read_lora(path), str(path), word)


@pytest.mark.parametrize("variant", ["use_dora", "use_rslora"])
def test_other_kinds_of_lora_are_refused(variant, write, tmp_path):
    path = write(f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight")
    (tmp_path / "adapter_config.json").write_text(json.dumps({variant: True, "lora_alpha": 4}))
    refuse(lambda: read_lora(path), variant)


def test_missing_and_ambiguous_files_are_named(write, tmp_path):
    refuse(lambda: read_lora(tmp_path / "nowhere"), "nowhere")
    refuse(lambda: read_lora(tmp_path), "holds 0 files")
    for name in ("a.safetensors", "b.safetensors"):
        write("a.lora_A.weight", "a.lora_B.weight", name=name)
    refuse(lambda: read_lora(tmp_path), "holds 2 files")


def test_a_layer_of_another_shape_is_named(write):
    lora = read_lora(write(f"{LAYER}.lora_A.weight", f"{LAYER}.lora_B.weight"))
    refuse(lambda: lora.check({WEIGHT: torch.ones(5, 7)}), WEIGHT, "[5, 6]", "[5, 7]")
    refuse(lambda: lora.check({}), WEIGHT, "lacks")
