"""Whole model folders: ours, and those that the libraries write."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from longtake.kernels import multiplies_bytes
from longtake.kernels.registry import OPERATIONS
from longtake.models.folder import read_json, write_json
from longtake.models.video.load import int8_linears, load_generator, save_generator
from longtake.models.video.radial import RadialSettings
from longtake.models.video.transformer import TransformerConfig
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import StreamError
from longtake.weights import GENERATOR


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of a sound model folder, to be spoiled."""
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def load(tiny):
    def load(path, dtype=torch.float32, overrides=None, **more):
        return load_generator(path, tiny.device, dtype, overrides, **more)

    return load


@pytest.fixture
def refused(load):
    """Checks that a folder is refused as a bad model, in one sentence that holds some words."""

    def check(path, *words):
        with pytest.raises(StreamError) as caught:
            load(path)
        assert caught.value.code == "bad_model"
        for word in words:
            assert word in caught.value.message
        assert "\n" not in str(caught.value)
        assert caught.value.hint

    return check


def edit(path, **changes):
    """Change fields of a JSON file; None removes a field."""
    data = read_json(path) | changes
    write_json(path, {name: value for name, value in data.items() if value is not None})


def test_what_was_saved_is_loaded(make_generator, load, tmp_path):
    ours = make_generator(positions="absolute", recache="causal", sinks="shifted")
    parts = (ours.transformer, ours.codec, ours.text_encoder, ours.config)
    save_generator(tmp_path / "model", *parts)
    loaded = load(tmp_path / "model")
    assert loaded.config == ours.config
    assert loaded.transformer.config == ours.transformer.config
    assert loaded.codec.config == ours.codec.config
    prompt = "A red ball, and more words than fit"
    assert loaded.text_encoder.tokens(prompt) == ours.text_encoder.tokens(prompt)
    for name in ("transformer", "codec"):
        saved, read = (getattr(each, name).state_dict() for each in (ours, loaded))
        assert saved.keys() == read.keys()
        for key, tensor in saved.items():
            bound = tensor.abs().max() / 127 if tensor.ndim > 1 else tensor.abs().max() / 128
            assert (read[key] - tensor).abs().max() <= bound
    embeddings = [each.text_encoder([prompt]) for each in (ours, loaded)]
    torch.testing.assert_close(*embeddings, rtol=0.1, atol=0.1)


def test_saving_what_was_loaded_changes_nothing(load, folder, tmp_path):
    first = load(folder)
    parts = (first.transformer, first.codec, first.text_encoder, first.config)
    save_generator(tmp_path / "again", *parts)
    second = load(tmp_path / "again")
    for name in ("transformer", "codec"):
        before, after = (getattr(each, name).state_dict() for each in (first, second))
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loaded_model_makes_and_continues_a_film(dtype, load, folder, run_chunk, tmp_path):
    state = (generator := load(folder, dtype)).open("a red ball", 3)
    frames = [run_chunk(generator, state) for _ in range(5)]
    assert frames[0].shape == (8, 32, 32, 3)
    tensors, values = generator.save(state)
    save_file(tensors, tmp_path / "film.safetensors")
    other = load(folder, dtype)
    copy = other.load(load_file(tmp_path / "film.safetensors"), json.loads(json.dumps(values)))
    for _ in range(3):
        assert torch.equal(run_chunk(generator, state), run_chunk(other, copy))


def test_kernels_are_bound_as_asked(load, folder):
    generator = load(folder, overrides={"attention": "reference"})
    assert generator.kernels.names["attention"] == "reference"
    assert generator.kernels.names["rope"] == "cpu"
    with pytest.raises(ValueError, match="attention=flash"):
        load(folder, overrides={"attention": "flash"})


INT8 = "attn1.to_q", "attn2.to_out.0", "ffn.net.0.proj", "ffn.net.2"


def test_int8_keeps_the_stored_weights_and_makes_almost_the_same_film(load, folder, run_chunk):
    plain, int8 = load(folder), load(folder, int8=True)
    stored = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    for name in (f"blocks.1.{layer}.weight" for layer in INT8):
        assert torch.equal(int8.transformer.get_parameter(name), stored[name])
        scales = (int8.transformer.get_parameter(name + "_scale"), stored[name + "_scale"])
        torch.testing.assert_close(*scales, rtol=1e-6, atol=0)
    states = [each.transformer.state_dict() for each in (int8, plain)]
    for name in ("patch_embedding.weight", "condition_embedder.time_proj.weight", "proj_out.bias"):
        pair = (each[name] for each in states)
        torch.testing.assert_close(*pair, rtol=0, atol=0)
    latents = []
    for generator in (plain, int8):
        state = generator.open("a red ball", 3)
        run_chunk(generator, state)
        latents.append(torch.cat([*state.history.values()]))
    error = (latents[1] - latents[0]).std() / latents[0].std()
    assert 0 < error < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_in_int8_is_saved_and_loaded(dtype, load, folder, run_chunk, tmp_path):
    named = {"int8_linear": "cpu"}
    first = load(folder, dtype, named, int8=True)
    parts = (first.transformer, first.codec, first.text_encoder, first.config)
    save_generator(tmp_path / "again", *parts)
    second = load(tmp_path / "again", dtype, named, int8=True)
    stays = {f"blocks.{block}.{layer}.weight" for block in range(2) for layer in INT8}
    before, after = (dict(each.transformer.named_parameters()) for each in (first, second))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in stays)
    assert run_chunk(second, second.open("a red ball", 3)).shape == (8, 32, 32, 3)


def test_a_folder_in_floats_loads_in_int8(wan_folder, load, run_chunk):
    folder, pipeline = wan_folder
    generator = load(folder, int8=True)
    for name in (f"blocks.0.{layer}" for layer in INT8):
        ours, theirs = (
            each.get_submodule(name) for each in (generator.transformer, pipeline.transformer)
        )
        back = ours.weight * ours.weight_scale
        assert ((back - theirs.weight).abs() <= 0.501 * ours.weight_scale).all()
    assert len(run_chunk(generator, generator.open("a red ball", 1))) == 9


def test_int8_where_nothing_makes_it_fast_is_refused_unless_asked_for_by_name(load, folder, tiny):
    with pytest.raises(StreamError, match=r"not served on this mps device.* runs on c") as caught:
        load_generator(folder, torch.device("mps"), torch.float32, int8=True)
    assert caught.value.code == "bad_setting"
    every = dict.fromkeys(OPERATIONS, "reference")
    assert load(folder, overrides=every, int8=True).transformer.int8


def test_a_cache_in_fp8_is_refused_on_a_cpu_unless_asked_for_by_name(load, folder, run_chunk):
    with pytest.raises(StreamError, match=r"a cache in fp8 is not .* runs on cuda, not on cpu"):
        load(folder, fp8_cache=True)
    small = load(folder, overrides={"attention_fp8": "reference"}, fp8_cache=True)
    state = small.open("a red ball", 3)
    assert run_chunk(small, state).shape == (8, 32, 32, 3)
    tensors, _ = small.save(state)
    assert tensors["cache/keys"].dtype == torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("dim", "dtype", "capability", "pays"),
    [
        (384, torch.bfloat16, "avx512_bf16", False),
        (1536, torch.bfloat16, "avx512_bf16", True),
        (384, torch.float32, "avx512_bf16", True),
        (384, torch.bfloat16, "avx2", True),
    ],
)
def test_narrow_layers_stay_in_bfloat16_where_a_cpu_multiplies_it(
    dim, dtype, capability, pays, tiny, monkeypatch
):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {capability: True})
    config = TransformerConfig(
        dim // 64, 64, ffn_dim=48, num_layers=2, in_channels=4, out_channels=4, text_dim=16
    )
    assert int8_linears(config, torch.device("cpu"), dtype) is pays


def test_int8_that_would_change_nothing_is_refused(load, folder, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(StreamError, match="nothing of this model is faster in int8") as caught:
        load(folder, torch.bfloat16, int8=True)
    assert caught.value.code == "bad_setting"


@pytest.mark.skipif(not multiplies_bytes(), reason="this CPU multiplies no bytes")
def test_the_bundled_model_decodes_with_bytes_where_its_layers_stay(monkeypatch):
    monkeypatch.setattr("longtake.models.video.load.has_bfloat16", lambda: True)
    generator = load_generator(GENERATOR, torch.device("cpu"), torch.bfloat16, int8=True)
    assert (generator.transformer.int8, generator.codec.int8, generator.int8) == (0, 1, 1)


def test_config_of_the_text_encoder_holds_what_transformers_needs(folder, load):
    """Tied weights once: the file has no second embedding."""
    names = load_file(folder / "text_encoder" / "model.safetensors").keys()
    assert len([name for name in names if "shared" in name or "embed_tokens" in name]) == 2
    model = load(folder).text_encoder.model
    assert model.shared.weight is model.encoder.embed_tokens.weight
    assert not any(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    "names",
    [["encoder.embed_tokens.weight"], ["shared.weight", "encoder.embed_tokens.weight"]],
    ids=["under the other name", "twice"],
)
def test_tied_embedding_loads_however_it_is_stored(names, load, folder):
    expected = load(folder).text_encoder(["a red ball"])
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    for suffix in ("", "_scale"):
        tensor = tensors.pop(f"shared.weight{suffix}")
        tensors |= {name + suffix: tensor.clone() for name in names}
    save_file(tensors, path)
    assert torch.equal(load(folder).text_encoder(["a red ball"]), expected)


@pytest.fixture(scope="module")
def wan_folder(make_text_encoder, make_tokenizer, tiny, tmp_path_factory):
    """A pipeline of random Wan parts, saved by diffusers itself."""
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=14,
        ffn_dim=24,
        num_layers=2,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
    )
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    pipeline = WanPipeline(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(), pad_token="<pad>"),
        text_encoder=make_text_encoder().model,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    )
    folder = tmp_path_factory.mktemp("wan")
    pipeline.save_pretrained(folder)
    streaming = {
        "width": 48, "height": 32, "rate": 16, "chunk": 3, "sink": 3, "window": 9, "steps": 4,
        "shift": 5.0, "text_length": 12, "positions": "absolute",
    }  # fmt: skip
    write_json(folder / "streaming.json", streaming)
    return folder, pipeline


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folder_written_by_diffusers_loads(dtype, wan_folder, load, run_chunk):
    folder, pipeline = wan_folder
    generator = load(folder, dtype)
    assert isinstance(generator.codec, WanCodec)
    for ours, theirs in (
        (generator.transformer, pipeline.transformer),
        (generator.codec.vae, pipeline.vae),
        (generator.text_encoder.model, pipeline.text_encoder),
    ):
        expected = theirs.state_dict()
        got = ours.state_dict()
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], expected[name].to(dtype)) for name in got)
    state = generator.open("a red ball", 1)
    frames = [run_chunk(generator, state) for _ in range(2)]
    assert [len(each) for each in frames] == [9, 12]
    assert all(latent.isfinite().all() for latent in state.history.values())


def test_prompt_embeddings_are_those_of_the_pipeline(wan_folder, load):
    folder, pipeline = wan_folder
    encoder = load(folder).text_encoder
    for prompt in ("a red  ball", "x" * 100):
        expected, _ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=12
        )
        torch.testing.assert_close(encoder([prompt]), expected, rtol=1e-4, atol=1e-5)


def test_wan_codec_with_a_spoiled_config_is_refused(wan_folder, refused, tmp_path):
    folder = shutil.copytree(wan_folder[0], tmp_path / "model")
    path = folder / "vae" / "config.json"
    sound = read_json(path)
    for change, words in (
        ({"patch_size": 2}, ["patch_size"]),
        ({"dim_mult": 3}, []),
        ({"base_dim": "four"}, []),
        ({"z_dim": 8}, ["8"]),
    ):
        write_json(path, sound | change)
        refused(folder, "vae", *words)


def test_missing_parts_are_named(folder, refused, tmp_path):
    refused(tmp_path / "nowhere", "nowhere")
    for path in (
        "model_index.json",
        "streaming.json",
        "transformer/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ):
        kept = (folder / path).read_bytes()
        (folder / path).unlink()
        refused(folder, path.split("/", maxsplit=1)[0])
        (folder / path).write_bytes(b"neither JSON nor tensors")
        refused(folder, path)
        (folder / path).write_bytes(kept)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_spoiled_tensors_of_every_part_are_named(part, folder, refused):
    path = next((folder / part).glob("*.safetensors"))
    whole = path.read_bytes()
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dtype == torch.int8)
    save_file({key: each for key, each in tensors.items() if not key.startswith(name)}, path)
    refused(folder, part, name)
    save_file(tensors | {"stranger": torch.ones(2)}, path)
    refused(folder, part, "stranger")
    wrong = {name: torch.ones(7, 3, dtype=torch.int8), f"{name}_scale": torch.ones(7, 1)}
    save_file(tensors | wrong, path)
    refused(folder, part, name, "[7, 3]")
    save_file({key: each for key, each in tensors.items() if key != f"{name}_scale"}, path)
    refused(folder, part, name, "scale")
    path.write_bytes(whole[:-5])
    refused(folder, path.name)


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("streaming.json", {"chnuk": 3}, ["chnuk"]),
        ("streaming.json", {"chunk": None}, ["chunk"]),
        ("streaming.json", {"chunk": 0}, ["chunk is 0"]),
        ("streaming.json", {"chunk": "three"}, ["chunk"]),
        ("streaming.json", {"window": 1}, ["window is 1"]),
        ("streaming.json", {"sink": -1}, ["sink is -1"]),
        ("streaming.json", {"steps": 0}, ["steps is 0"]),
        ("streaming.json", {"shift": 0}, ["shift is 0"]),
        ("streaming.json", {"text_length": 0}, ["text_length is 0"]),
        ("streaming.json", {"width": -32}, ["width is -32"]),
        ("streaming.json", {"width": 36}, ["36x32"]),
        ("streaming.json", {"positions": "rotating"}, ["positions"]),
        ("streaming.json", {"recache": "no"}, ["recache"]),
        ("streaming.json", {"sinks": 3}, ["sinks"]),
        ("streaming.json", {"radial": {"blocks": 64}}, ["radial", "blocks"]),
        ("streaming.json", {"radial": {"block": 0}}, ["block is 0"]),
        ("transformer/config.json", {"num_layer": 2}, ["num_layer"]),
        ("transformer/config.json", {"num_layers": 3}, ["blocks.2."]),
        ("transformer/config.json", {"patch_size": [2, 2, 2]}, ["patch_size"]),
        ("transformer/config.json", {"ffn_dim": [48]}, ["ffn_dim"]),
        ("transformer/config.json", {"text_dim": 24}, ["text_embedder", "24"]),
        ("vae/config.json", {"bloks": 1}, ["bloks"]),
        ("vae/config.json", {"blocks": 2}, ["decoder.10.weight"]),
        ("vae/config.json", {"encoder_pool": [2, 2]}, ["encoder"]),
        ("text_encoder/config.json", {"d_model": "wide"}, ["text_encoder"]),
        ("text_encoder/config.json", {"num_layers": 2}, ["text_encoder", "block.1."]),
        ("text_encoder/config.json", {"vocab_size": 5}, ["shared.weight"]),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}, ["AutoencoderKL"]),
        ("model_index.json", {"vae": None}, ["codec"]),
        ("model_index.json", {"vae": "TinyCodec"}, ["TinyCodec"]),
    ],
    ids=str,
)
def test_spoiled_config_of_every_part_is_named(path, change, words, folder, refused):
    edit(folder / path, **change)
    refused(folder, *words)


def test_radial_attention_is_read_and_written(folder, load, tmp_path):
    edit(folder / "streaming.json", radial={"block": 16, "dense_layers": 0})
    ours = load(folder)
    assert ours.config.radial == RadialSettings(block=16, dense_layers=0)
    save_generator(tmp_path, ours.transformer, ours.codec, ours.text_encoder, ours.config)
    assert load(tmp_path).config == ours.config


def test_parts_of_different_models_are_refused(make_generator, folder, refused, tmp_path, tiny):
    other = make_generator()
    parts = (other.transformer, other.codec, other.text_encoder, other.config)
    save_generator(tmp_path / "other", *parts)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(tmp_path / "other" / "tokenizer", folder / "tokenizer")
    refused(folder, "the tokenizer has 259 words")


def test_transformer_and_codec_must_agree_on_channels(
    make_generator, make_codec, refused, tmp_path
):
    codec = make_codec(latent_channels=6, latents_mean=(), latents_std=())
    ours = make_generator()
    save_generator(tmp_path, ours.transformer, codec, ours.text_encoder, ours.config)
    refused(tmp_path, "4 in and 4 out", "6 channels")


def test_transformer_and_text_encoder_must_agree_on_width(
    make_generator, make_transformer, cpu_kernels, refused, tmp_path
):
    ours = make_generator()
    transformer = make_transformer(cpu_kernels, text_dim=24)
    save_generator(tmp_path, transformer, ours.codec, ours.text_encoder, ours.config)
    refused(tmp_path, "text_dim is 24", "16")
