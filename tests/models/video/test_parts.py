"""What is no checkpoint of Wan 2.1 is refused in one sentence, and nothing is left of it."""

from __future__ import annotations

import shutil
from contextlib import suppress

import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from longtake.models.checkpoints import read_checkpoint
from longtake.models.folder import read_json, write_json
from longtake.streaming import StreamError


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"blocks.1.ffn.0.bias": None}, "lacks tensor blocks.1.ffn.net.0.proj.bias"),
        ({"head.head.weight": None}, "lacks tensor proj_out.weight"),
        ({"blocks.0.self_attn.extra": torch.ones(3)}, "blocks.0.self_attn.extra is unknown"),
        ({"img_emb.proj.0.weight": torch.ones(3)}, "img_emb.proj.0.weight is unknown"),
        ({"blocks.1.modulation": torch.ones(1, 6, 5)}, "blocks.1.modulation is [1, 6, 5]"),
        ({"blocks.1.norm3.bias": torch.ones(28, dtype=torch.int8)}, "blocks.1.norm3.bias is"),
        ({"model.patch_embedding.bias": torch.ones(28)}, "patch_embedding.bias"),
        ({"patch_embedding.weight": torch.ones(28, 16, 2, 2, 2)}, "patch_size"),
        ({"patch_embedding.weight": torch.ones(28, 16)}, "patch_embedding.weight is [28, 16]"),
        ({"patch_embedding.weight": None}, "no part of Wan 2.1 that is known"),
    ],
    ids=[
        "missing",
        "missing size",
        "extra",
        "image",
        "shape",
        "dtype",
        "double",
        "patch",
        "flat",
        "other",
    ],
)
def test_broken_transformer_is_named(changes, word, original, refused, tmp_path):
    path = tmp_path / "broken.safetensors"
    tensors = {name: each for name, each in (original | changes).items() if each is not None}
    save_file(tensors, path)
    refused("bad_checkpoint", path, words=[path, word])


def test_head_dim_is_asked_for_where_it_cannot_be_128(original, refused, tmp_path):
    save_file(original, tmp_path / "wan.safetensors")
    words = ["28 channels are no whole number of heads of 128"]
    refused("bad_checkpoint", tmp_path / "wan.safetensors", words=words, head_dim=None)


class Malice:
    def __reduce__(self):
        return (print, ("run",))


def test_pickles_that_could_run_code_are_not_loaded(refused, tmp_path, capsys):
    torch.save({"generator": Malice()}, tmp_path / "evil.pt")
    refused("bad_checkpoint", tmp_path / "evil.pt", words=["more than tensors"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"nonsense" * 99, b"PK", b"\x80"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_is_no_checkpoint_is_named(content, suffix, refused, tmp_path):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(content)
    said = "cannot be read" if suffix == "pt" else "not a whole safetensors file"
    refused("bad_checkpoint", path, words=[path, said])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=20))
def test_flipped_bytes_are_read_or_refused(broken_pickle, changes):
    path, whole = broken_pickle
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(whole)] = value
    path.write_bytes(content)
    with suppress(StreamError):
        read_checkpoint(path, ["generator"])


@pytest.fixture(scope="module")
def broken_pickle(tmp_path_factory):
    """A file to be broken, and its bytes while it is whole."""
    path = tmp_path_factory.mktemp("broken") / "broken.pt"
    torch.save({"generator": {"a": torch.ones(3), "b": torch.ones(50)}}, path)
    return path, path.read_bytes()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("length", [0, 10, 0.5, 0.99])
def test_truncated_file_is_named(suffix, length, original, refused, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    (torch.save if suffix == "pt" else save_file)(original, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(length * len(whole)) if isinstance(length, float) else length])
    refused("bad_checkpoint", path, words=[path])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"step": 1, "optimizer": {}}, ["step, optimizer", "generator_ema"]),
        ({}, ["nothing"]),
        ([torch.ones(1)], ["list"]),
        ({"weights": torch.ones(1)}, ["weights", "no part of Wan"]),
        ({"a.lora_A.weight": torch.ones(1, 1)}, ["is a LoRA"]),
    ],
    ids=["other entries", "empty", "list", "strange", "lora"],
)
def test_what_holds_no_weights_is_named(data, words, refused, tmp_path):
    torch.save(data, tmp_path / "strange.pt")
    refused("bad_checkpoint", tmp_path / "strange.pt", words=words)


def test_sources_that_are_nothing_are_named(refused, tmp_path, wan_original):
    (tmp_path / "empty").mkdir()
    (tmp_path / "film.mp4").touch()
    refused("bad_checkpoint", tmp_path / "empty", words=["empty", ".safetensors"])
    refused("bad_checkpoint", tmp_path / "nowhere", words=["nowhere"])
    refused("bad_checkpoint", tmp_path / "film.mp4", words=["film.mp4"])
    both = shutil.copytree(wan_original, tmp_path / "both")
    shutil.copy(both / "Wan2.1_VAE.pth", both / "other.pth")
    refused("bad_checkpoint", both, words=["Wan2.1_VAE.pth", "other.pth", "both a vae"])


def test_folders_in_8_bits_are_not_converted_again(make, refused, wan_original):
    stored = make(wan_original, int8=True)
    refused("bad_checkpoint", stored, words=["fewer bits"], name="again")


def test_configs_that_do_not_serve_are_named_where_they_are(make, refused, wan_original):
    folder = make(wan_original)
    config = folder / "vae" / "config.json"
    write_json(config, read_json(config) | {"patch_size": 2})
    refused("bad_checkpoint", folder, words=[config, "patch_size 2"], name="again")
    index = folder / "model_index.json"
    write_json(index, read_json(index) | {"vae": ["diffusers", "AutoencoderDC"]})
    refused("bad_checkpoint", folder, words=[index, "AutoencoderDC"], name="again")
    for part in ("transformer", "text_encoder", "vae"):
        shutil.rmtree(folder / part)
    refused("bad_checkpoint", folder, words=[folder, "holds no"], name="again")


def test_codecs_of_other_latents_are_refused(published, refused, tmp_path):
    other = published.originals(AutoencoderKLWan(base_dim=4, z_dim=8), published.VAE)
    torch.save(other, tmp_path / "vae.pth")
    refused("bad_checkpoint", tmp_path / "vae.pth", words=["8 channels", "16"])
