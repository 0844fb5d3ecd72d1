"""Text encoders in 8 and 4 bits, offloaded, and not needed for a prompt that is known."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

from longtake.models import memory
from longtake.models.folder import write_json
from longtake.models.memory import Memory
from longtake.models.video import text_load
from longtake.models.video.load import film_sizes, load_generator
from longtake.models.video.prompt_cache import PromptCache
from longtake.models.video.text_load import count_text, load_text_encoder
from longtake.models.video.text_setting import TextSetting
from longtake.streaming import StreamError

CPU = torch.device("cpu")
LENGTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_tokenizer):
    """A text encoder and a tokenizer in the layout of umT5-xxl's, a sixteenth as wide."""
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=make_tokenizer().get_vocab_size(), d_model=256, d_kv=64,
                        d_ff=640, num_heads=4, num_layers=2)  # fmt: skip
    model = UMT5EncoderModel(config).eval()
    root = tmp_path_factory.mktemp("model")
    part = root / "text_encoder"
    part.mkdir()
    tensors = {name: value.detach() for name, value in model.named_parameters()}
    save_file(tensors, part / "model.safetensors")
    write_json(part / "config.json", config.to_diff_dict())
    (root / "tokenizer").mkdir()
    make_tokenizer().save(str(root / "tokenizer" / "tokenizer.json"))
    return root


@pytest.fixture
def load(folder):
    """The folder's encoder: `load(precision, offload, prompts)`."""

    def load(precision=None, offload=None, prompts=None, dtype=torch.float32):
        setting = TextSetting(precision, offload)
        return load_text_encoder(folder, LENGTH, setting, CPU, dtype, prompts)

    return load


@pytest.fixture
def loads(monkeypatch):
    """Counts the encoders that are loaded, and holds each weakly."""
    made = []
    model = text_load._model

    def counted(*arguments):
        loaded = model(*arguments)
        made.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(text_load, "_model", counted)
    return made


def distance(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def nbytes(model):
    return sum(each.nbytes for each in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.03), ("nf4", 0.25)])
def test_fewer_bits_read_a_prompt_much_the_same_and_take_what_is_counted(
    precision, error, load, folder
):
    pytest.importorskip("bitsandbytes")
    whole, less = load(), load(precision)
    embeddings, exact = less(["a red ball"]), whole(["a red ball"])
    assert embeddings.shape == (1, LENGTH, 256)
    assert 0 < distance(embeddings, exact) < error
    other = whole(["a cat"])
    assert distance(embeddings, exact) < distance(embeddings, other) / 2
    count = count_text(folder / "text_encoder")
    assert nbytes(whole.model) == TextSetting().bytes(count, torch.float32)
    counted = TextSetting(precision).bytes(count, torch.float32)
    assert counted == pytest.approx(nbytes(less.model), rel=0.02)


def test_bf16_is_half_of_float32(load, folder):
    encoder = load("bf16")
    count = count_text(folder / "text_encoder")
    assert nbytes(encoder.model) == TextSetting("bf16").bytes(count, torch.float32)
    assert encoder(["a red ball"]).dtype == torch.bfloat16


def test_a_model_reads_prompts_in_its_own_dtype_whatever_the_encoders(tiny_model):
    setting = TextSetting("bf16")
    generator = load_generator(tiny_model, CPU, torch.float32, text=setting)
    state = generator.open("a red ball", 0)
    assert state.embeddings.dtype == torch.float32
    exact = load_generator(tiny_model, CPU, torch.float32).open("a red ball", 0).embeddings
    assert 0 < distance(state.embeddings, exact) < 0.05


@pytest.mark.parametrize("failure", ["absent", "broken"])
def test_without_bitsandbytes_it_is_a_sentence(failure, load, monkeypatch):
    if failure == "absent":
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
        monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
        words = "nf4 needs bitsandbytes, which is not installed"
    else:

        def refuse(*arguments, **named):
            raise RuntimeError("no kernel\nfor this device")

        bits = SimpleNamespace(Linear4bit=refuse)
        monkeypatch.setattr(text_load, "_bitsandbytes", lambda precision: bits)
        words = "nf4 needs bitsandbytes, which fails on this cpu: no kernel for this device"
    with pytest.raises(StreamError) as caught:
        load("nf4")
    assert caught.value.code == "bad_setting"
    assert caught.value.message == words


@pytest.mark.parametrize("setting", [TextSetting("int4"), TextSetting(None, "codec")])
def test_what_there_is_not_is_refused(setting, tiny_model):
    with pytest.raises(StreamError, match="or leave it out"):
        load_generator(tiny_model, CPU, torch.float32, text=setting)


def test_an_offloaded_encoder_reads_as_one_that_is_loaded(load):
    embeddings = load(offload="text")(["a red", "ball"])
    torch.testing.assert_close(embeddings, load()(["a red", "ball"]), rtol=1e-4, atol=1e-5)


def test_it_is_loaded_for_the_first_unknown_prompt_and_kept_or_let_go_of(load, loads, tmp_path):
    kept, once = (load(offload=each, prompts=tmp_path / each) for each in ("text", "text-once"))
    assert loads == []
    for prompt in ("a", "b"):
        kept([prompt])
    assert len(loads) == 1
    for prompt in ("a", "b"):
        once([prompt])
    gc.collect()
    assert [each() is not None for each in loads] == [True, False, False]


def test_a_known_prompt_needs_no_encoder(load, loads, tmp_path):
    first = load(offload="text-once", prompts=tmp_path)(["a red ball"])
    assert len(loads) == 1
    again = load(offload="text", prompts=tmp_path)
    assert torch.equal(again([" a  red ball"]), first)
    assert len(loads) == 1
    again(["a red cat"])
    assert len(loads) == 2


def test_another_precision_or_encoder_knows_nothing_of_it(
    load, loads, folder, make_tokenizer, tmp_path
):
    load(offload="text", prompts=tmp_path)(["a"])
    load("bf16", "text", prompts=tmp_path)(["a"])
    assert len(loads) == 2
    part = folder / "text_encoder"
    identity = text_load._identity(part, TextSetting(), torch.float32)
    original = (part / "model.safetensors").read_bytes()
    try:
        (part / "model.safetensors").write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        assert text_load._identity(part, TextSetting(), torch.float32) != identity
    finally:
        (part / "model.safetensors").write_bytes(original)


def test_the_cache_keeps_within_its_cap_and_lets_the_oldest_go(tmp_path):
    rows = {n: torch.full((2, 64), float(n)) for n in range(4)}
    cache = PromptCache(tmp_path, "encoder", cap=2000)  # a file has 512 bytes and a header
    for n in range(3):
        cache.put([n, 1], rows[n])
        os.utime(cache._path([n, 1]), (n + 1, n + 1))
    assert torch.equal(cache.get([0, 1]), rows[0])  # used again, so the next one is the oldest
    cache.put([3, 1], rows[3])
    assert [cache.get([n, 1]) is not None for n in range(4)] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000


def test_a_broken_or_unwritable_cache_only_costs_time(load, loads, tmp_path):
    encoder = load(offload="text", prompts=tmp_path / "prompts")
    expected = encoder(["a"])
    (file,) = (tmp_path / "prompts").iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(encoder(["a"]), expected)
    assert load(offload="text", prompts=tmp_path / "prompts")(["a"]) is not None
    assert len(loads) == 1
    (tmp_path / "file").touch()
    assert torch.equal(load(offload="text", prompts=tmp_path / "file")(["a"]), expected)


def test_an_encoder_that_does_not_fit_beside_is_refused_with_what_would(load, folder, monkeypatch):
    encoder = load(offload="text")
    count = count_text(folder / "text_encoder")
    free = TextSetting("bf16").bytes(count, torch.float32)
    monkeypatch.setattr(memory, "memory_of", lambda device: Memory(free, 10**9))
    with pytest.raises(StreamError) as caught:
        encoder(["a"])
    assert caught.value.code == "no_memory"
    assert "needs text_encoder" in caught.value.message
    assert "--text-encoder bf16 would fit" in caught.value.hint


def test_on_a_gpu_what_is_offloaded_is_counted_beside(tiny_model):
    gpu, offload = torch.device("cuda"), TextSetting(None, "text")
    here = film_sizes(tiny_model, torch.float32, gpu)
    there = film_sizes(tiny_model, torch.float32, gpu, offload)
    size = here.need.parts["text_encoder"]
    assert here.need.total - there.need.total == size
    assert there.beside.need.parts == {"text_encoder": size}
    assert here.beside is None
    # The machine's memory is a CPU's own.
    plain = film_sizes(tiny_model, torch.float32, CPU)
    assert film_sizes(tiny_model, torch.float32, CPU, offload).need == plain.need
    words, need = next(here.alternatives())
    assert (words, need) == ("--offload text", there.need)
    here = replace(here, narrowable=False)
    by_words = dict(replace(here, quantizable=True).alternatives())
    assert by_words["--offload text --quantize int8"] == replace(there, int8=True).need
    smaller = replace(there, config=replace(there.config, window=3))
    assert by_words["--offload text --quantize int8 --window 3 --sink 2"] == (
        replace(smaller, int8=True).need
    )
    by_words = dict(replace(here, quantizable=False).alternatives())
    assert by_words["--offload text --window 3 --sink 2"] == smaller.need
