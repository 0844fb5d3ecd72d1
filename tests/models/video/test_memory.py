"""A film's memory by arithmetic, against the bytes that are there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.app.catalogue import find_model
from longtake.app.sizes import sizes_of_known
from longtake.kernels import bind
from longtake.models import memory
from longtake.models.folder import read_json, write_json
from longtake.models.memory import Memory
from longtake.models.video.load import film_sizes, load_generator
from longtake.models.video.memory import FilmSizes
from longtake.models.video.text_setting import TextSetting
from longtake.models.video.transformer import WanTransformer
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import StreamError
from longtake.weights import GENERATOR


def nbytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def sizes_of(generator):
    config = generator.config
    return FilmSizes(generator.transformer.config, generator.codec, config, generator.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fp8", [False, True])
def test_weights_cache_and_prompt_are_the_bytes_that_are_loaded(tiny, tiny_model, dtype, fp8):
    need = film_sizes(tiny_model, dtype, tiny.device, fp8_cache=fp8).need
    named = {"attention_fp8": "reference"}
    generator = load_generator(tiny_model, tiny.device, dtype, named, fp8_cache=fp8)
    state = generator.open("a red ball", 0)
    assert need.parts["transformer"] == nbytes(generator.transformer.parameters())
    assert need.parts["vae"] == nbytes(generator.codec.parameters())
    assert need.parts["text_encoder"] == nbytes(generator.text_encoder.model.parameters())
    assert need.parts["cache"] == state.cache.bytes
    assert need.parts["prompt"] == nbytes(tensor for layer in state.text for tensor in layer)
    session = generator.session_need
    assert session.parts.items() <= need.parts.items()
    assert session.parts.keys() == {"cache", "prompt", "work"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("folder", ["tiny", "bundled"])
def test_an_int8_transformer_is_counted_as_it_is_loaded(tiny, tiny_model, folder, dtype):
    model = GENERATOR if folder == "bundled" else tiny_model
    need = replace(film_sizes(model, dtype, tiny.device), int8=True).need
    generator = load_generator(model, tiny.device, dtype, {"int8_linear": "reference"}, int8=True)
    assert need.parts["transformer"] == nbytes(generator.transformer.parameters())
    whole = film_sizes(model, dtype, tiny.device).need
    assert whole.parts["transformer"] > need.parts["transformer"]
    assert whole.parts | {"transformer": 0} == need.parts | {"transformer": 0}


def test_wans_transformer_in_int8_is_a_little_more_than_half_of_bfloat16(tiny):
    sizes = sizes_of_known(find_model("longlive"), tiny.device, torch.bfloat16)
    kernels = bind(tiny.device, torch.bfloat16)
    with torch.device("meta"):
        transformer = WanTransformer(sizes.transformer, kernels, int8=True)
    loaded = sum(
        each.nbytes if name.endswith("_scale") or each.dtype == torch.int8 else 2 * each.numel()
        for name, each in transformer.named_parameters()
    )
    counted = replace(sizes, int8=True).need.parts["transformer"]
    assert counted == loaded
    assert counted / sizes.need.parts["transformer"] == pytest.approx(0.51, abs=0.005)


def test_the_bundled_model_is_counted_without_loading_it(tiny):
    need = film_sizes(GENERATOR, torch.float32, tiny.device).need
    generator = load_generator(GENERATOR, tiny.device, torch.float32)
    assert need.parts["transformer"] == nbytes(generator.transformer.parameters())
    assert need.parts["cache"] == generator.open("a ball", 0).cache.bytes


@pytest.mark.parametrize("changes", [{"sink": 0}, {"window": 5}, {"width": 48}], ids=str)
def test_every_size_counts(make_generator, changes):
    generator = make_generator(**changes)
    cache = sizes_of(generator).session_need.parts["cache"]
    assert cache == generator.open("one", 0).cache.bytes
    assert cache != sizes_of(make_generator()).session_need.parts["cache"]


def test_a_recache_in_one_forward_takes_more(make_generator):
    full, causal = (
        sizes_of(make_generator(recache=each))._forward() for each in ("full", "causal")
    )
    assert full == 4 * causal  # 12 frames, or a chunk of 3


def test_what_the_tiny_codec_carries_is_counted_twice(make_codec, tiny):
    codec = make_codec()
    height, width = 2 * codec.spatial, 3 * codec.spatial
    _, state = codec.decode(torch.randn(1, codec.channels, 2, 2, 3))
    more = replace(codec.config, blocks=2)
    grown = type(codec)(more).decode_bytes(height, width, torch.float32, 1)
    assert grown - codec.decode_bytes(height, width, torch.float32, 1) == 2 * nbytes(state.memory)


@pytest.mark.parametrize(
    "sizes",
    [
        {"base_dim": 8, "dim_mult": [1, 2, 4, 4]},
        {"base_dim": 6, "dim_mult": [1, 2, 2], "temperal_downsample": [True, False],
         "num_res_blocks": 1},
    ],
    ids=["as Wan's", "other"],
)  # fmt: skip
def test_what_wans_codec_carries_is_the_bytes_of_its_state(sizes):
    statistics = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    codec = WanCodec(AutoencoderKLWan(z_dim=4, **sizes, **statistics).eval())
    state = None
    for _ in range(2):
        _, state = codec.decode(torch.randn(1, 4, 1, 2, 3), state)
    held = nbytes(state.carried)
    height, width = 2 * codec.spatial, 3 * codec.spatial
    assert codec.carried_bytes(height, width, torch.float32) == held
    assert codec.decode_bytes(height, width, torch.float32, 1) > 2 * held


def tensors_in(values):
    """Of lists and tuples, however deep."""
    for each in values:
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, tuple | list):
            yield from tensors_in(each)


class Held(TorchDispatchMode):
    """The most bytes that tensors made within hold at a time."""

    def __init__(self):
        super().__init__()
        self.most = 0
        self._made = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {each.untyped_storage().data_ptr() for each in tensors_in(args)}
        out = func(*args, **(kwargs or {}))
        for each in tensors_in([out]):
            storage = each.untyped_storage()
            # A view of what was there before is not made here.
            if storage.data_ptr() not in given:
                self._made[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        self._made = {at: held for at, held in self._made.items() if not held[0].expired()}
        self.most = max(self.most, sum(size for _, size in self._made.values()))
        return out


@pytest.mark.parametrize("latents", [1, 3])
def test_what_decoding_with_wans_codec_takes_is_what_it_holds(latents):
    def fused(x, residual, bias, weight, eps, out):
        """Holds nothing of its own, as the kernel does."""
        return out

    statistics = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    vae = AutoencoderKLWan(base_dim=8, z_dim=4, num_res_blocks=1, **statistics)
    vae.eval().requires_grad_(requires_grad=False)
    codec = WanCodec(vae, fused)
    with torch.inference_mode():
        _, state = codec.decode(torch.randn(1, 4, latents, 6, 6))
        with Held() as held:
            codec.decode(torch.randn(1, 4, latents, 6, 6), state)
    size = (48, 48, torch.float32)
    counted = codec.decode_bytes(*size, latents) - codec.carried_bytes(*size)
    assert 0.9 * counted < held.most <= 1.15 * counted


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    tiny, tiny_model, monkeypatch
):
    need = film_sizes(tiny_model, torch.float32, tiny.device).need
    free = need.total - 1
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(free, 10**9))
    monkeypatch.setattr("longtake.models.video.load.load_weights", pytest.fail)
    monkeypatch.setattr("longtake.models.video.load.serves_int8", lambda *where: False)
    monkeypatch.setattr("longtake.models.video.text_setting.find_spec", lambda name: None)
    with pytest.raises(StreamError) as caught:
        load_generator(tiny_model, tiny.device, torch.float32)
    assert caught.value.code == "no_memory"
    assert f"{tiny_model} needs {need}" in caught.value.message
    assert "--text-encoder bf16 would fit" in caught.value.hint


@pytest.mark.parametrize("quantizable", [True, False])
def test_int8_is_told_where_it_would_fit_and_is_served(tiny, tiny_model, monkeypatch, quantizable):
    monkeypatch.setattr("longtake.models.video.load.int8_linears", lambda *where: quantizable)
    sizes = film_sizes(tiny_model, torch.bfloat16, tiny.device, TextSetting("bf16"))
    less = replace(sizes, int8=True).need
    assert less.total < sizes.need.total
    monkeypatch.setattr("longtake.models.video.text_setting.find_spec", lambda name: None)
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(less.total, 10**9))
    text = TextSetting("bf16")
    with pytest.raises(StreamError) as caught:
        load_generator(tiny_model, tiny.device, torch.bfloat16, text=text)
    assert caught.value.hint.startswith("--quantize int8 would fit") is quantizable
    named = {"int8_linear": "reference"}
    loaded = load_generator(tiny_model, tiny.device, torch.bfloat16, named, int8=True, text=text)
    assert loaded.transformer.int8


@pytest.mark.parametrize("served", [True, False])
def test_a_cache_in_fp8_is_told_where_it_would_fit_and_is_served(
    tiny, tiny_model, monkeypatch, served
):
    monkeypatch.setattr("longtake.models.video.load.int8_linears", lambda *where: True)
    monkeypatch.setattr("longtake.models.video.load.serves_fp8", lambda *where: served)
    monkeypatch.setattr("longtake.models.video.text_setting.find_spec", lambda name: None)
    text = TextSetting("bf16")
    sizes = film_sizes(tiny_model, torch.bfloat16, tiny.device, text)
    less = replace(sizes, int8=True, fp8_cache=True).need
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(less.total, 10**9))
    with pytest.raises(StreamError) as caught:
        load_generator(tiny_model, tiny.device, torch.bfloat16, text=text)
    told = caught.value.hint.startswith("--quantize int8 --kv-cache fp8 would fit")
    assert told is served


@pytest.mark.parametrize("installed", [True, False])
def test_without_an_elsewhere_the_text_encoder_is_told_in_fewer_bits(
    tiny, tiny_model, monkeypatch, installed
):
    monkeypatch.setattr("longtake.models.video.text_setting.find_spec", lambda name: installed)
    sizes = film_sizes(tiny_model, torch.float32, tiny.device)
    told = [words for words, _ in sizes.alternatives() if words.startswith("--text-encoder")]
    kinds = ["bf16", "int8", "nf4"] if installed else ["bf16"]
    assert told[: len(kinds)] == [f"--text-encoder {kind}" for kind in kinds]
    assert told[len(kinds)].startswith(f"--text-encoder {kinds[-1]} --")
    totals = [need.total for _, need in sizes.alternatives()]
    assert totals[0] < sizes.need.total
    assert totals[: len(kinds)] == sorted(totals[: len(kinds)], reverse=True)


def test_the_setting_that_would_fit_fits(tiny, tiny_model, tmp_path, monkeypatch):
    sizes = film_sizes(tiny_model, torch.float32, tiny.device)
    less = replace(sizes, config=replace(sizes.config, window=2)).need
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(less.total, 10**9))
    folder = tmp_path / "model"
    folder.mkdir()
    for part in tiny_model.iterdir():
        (folder / part.name).symlink_to(part)
    (folder / "streaming.json").unlink()
    write_json(folder / "streaming.json", read_json(tiny_model / "streaming.json") | {"window": 2})
    generator = load_generator(folder, tiny.device, torch.float32)
    assert generator.open("a ball", 0).cache.bytes == less.parts["cache"]


def test_changes_are_those_of_the_config(tiny, tiny_model):
    sizes = film_sizes(tiny_model, torch.float32, tiny.device)
    changes = {"width": 64, "height": 48, "chunk": 3, "window": 6, "sink": 1}
    changed = sizes.changed(changes)
    assert changed.config == replace(sizes.config, **changes)
    assert changed == replace(sizes, config=changed.config)


def test_a_smaller_picture_is_the_last_resort(tiny, tiny_model):
    sizes = film_sizes(tiny_model, torch.float32, tiny.device)
    sizes = sizes.changed({"width": 64, "height": 48})
    words = [words for words, _ in sizes.alternatives()]
    assert [each.rpartition("--")[2] for each in words[-2:]] == ["size 48x32", "size 32x16"]
    assert all(less.total < sizes.need.total for _, less in sizes.alternatives())
