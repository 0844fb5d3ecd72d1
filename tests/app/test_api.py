from __future__ import annotations

import errno
import json
import os
import threading
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import longtake
from longtake.app import api
from longtake.app.devices import choose_device, choose_dtype
from longtake.app.mp4 import H264File
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.text import TextEncoder
from longtake.models.video.tiny_codec import TinyCodec
from longtake.models.video.transformer import WanTransformer
from longtake.streaming import StreamError


@pytest.fixture
def model(tiny_model):
    with longtake.open(tiny_model, dtype="fp32") as opened:
        yield opened


def bytes_of(take, seconds):
    return [frame.pixels.tobytes() for frame in take.frames(seconds)]


def test_a_take_tells_how_its_prompts_were_read(rewriting_model, model):
    with longtake.open(rewriting_model, dtype="fp32") as rewrites:
        take = rewrites.take("a red boat on the lake")
        for text, at in (("make it green", 1.2), ("night falls", 1.4), ("it snows", 2.5)):
            take.prompt(text, at=at)
        list(take.frames(5))
        told = {
            0.0: "a red boat on the water",
            2.0: "a green boat on the water, at night",
            3.0: "a green boat on the water, at night while it snows",
        }
        assert take.reads == told
        rewriter = rewrites.generator.text_encoder.rewriter
        assert take.reads[3.0] == rewriter(take._session.state.prompts)
        assert take.scene == rewriter(take._session.state.prompts, 0) != take.reads[3.0]
        # What it replaces is known, whatever the text encoder's words are.
        assert rewrites.unknown_words("a boat on the ocean, a zebra") == {"zebra": None}
    plain = model.take("a red ball")
    plain.prompt("night falls")
    list(plain.frames(1))
    assert plain.reads == {}
    assert plain.scene is None


def test_frames_come_with_their_number_time_and_prompt(model):
    take = model.take("a red ball", seed=7)
    take.prompt("night falls", at=1.5)
    frames = list(take.frames(3.1))
    assert len(frames) == round(3.1 * 8)
    assert [frame.index for frame in frames] == list(range(25))
    assert [frame.time for frame in frames] == [index / 8 for index in range(25)]
    assert frames[0].pixels.shape == (32, 32, 3)
    assert frames[0].pixels.dtype == np.uint8
    # A chunk is 8 frames, a second: what is due at 1.5 s is in force from 2 s on.
    assert [frame.prompt for frame in frames] == ["a red ball"] * 16 + ["night falls"] * 9


def test_the_same_seed_and_script_make_the_same_bytes_and_others_do_not(model):
    def film(seed, prompt):
        take = model.take("a red ball", seed=seed)
        take.prompt(prompt, at=1.0)
        return bytes_of(take, 3)

    first = film(7, "night falls")
    assert film(7, "night falls") == first
    assert film(8, "night falls") != first
    other = film(7, "snow")
    assert other[:8] == first[:8]
    assert other[8:] != first[8:]


def test_a_prompt_between_two_runs_applies_at_the_same_chunk_every_time(model):
    def film():
        take = model.take("a red ball", seed=1)
        made = bytes_of(take, 1.25)
        take.prompt("night falls")
        return made + bytes_of(take, 2), [(entry.chunk, entry.time) for entry in take.log]

    frames, log = film()
    assert log == [(2, 2.0)]
    assert all(film() == (frames, log) for _ in range(3))


def test_a_take_goes_on_after_a_snapshot_as_if_never_interrupted(model, tmp_path, tiny_model):
    take = model.take("a red ball", seed=3)
    take.prompt("snow", at=4.0)
    list(take.frames(2.6))
    take.snapshot(tmp_path / "film.take")
    rest = [(frame.index, frame.prompt, frame.pixels.tobytes()) for frame in take.frames(4)]
    with longtake.open(tiny_model, dtype="fp32") as other, warnings.catch_warnings():
        warnings.simplefilter("error")
        again = other.restore(tmp_path / "film.take")
        assert again.time == pytest.approx(21 / 8)
        restored = [(f.index, f.prompt, f.pixels.tobytes()) for f in again.frames(4)]
    assert restored == rest
    assert restored[-1][1] == "snow"


def test_a_prompt_takes_over_in_some_chunks_and_a_snapshot_on_the_way_does_not_matter(
    model, tmp_path
):
    take = model.take("a red ball", seed=3)
    take.prompt("snow", at=1.0, transition=4)
    list(take.frames(2.5))
    take.snapshot(tmp_path / "film.take")
    rest = bytes_of(take, 4)
    assert take.about["applied"] == [{"time": 1.0, "prompt": "snow", "transition": 4}]
    again = model.restore(tmp_path / "film.take")
    assert bytes_of(again, 4) == rest
    assert again.log == take.log
    sudden = model.take("a red ball", seed=3)
    sudden.prompt("snow", at=1.0)
    list(sudden.frames(2.5))
    assert bytes_of(sudden, 4) != rest


def test_a_snapshot_in_the_middle_of_an_iteration_loses_no_frame(model, tmp_path):
    take = model.take("a red ball", seed=3)
    frames = take.frames(5)
    made = [next(frames).pixels.tobytes() for _ in range(3)]
    take.snapshot(tmp_path / "film.take")
    made += bytes_of(model.restore(tmp_path / "film.take"), 4)
    assert made == bytes_of(model.take("a red ball", seed=3), 35 / 8)


def test_a_mismatch_of_conditions_is_said_by_name(model, tmp_path):
    take = model.take("a red ball")
    take.snapshot(tmp_path / "film.take")
    path = tmp_path / "film.take"
    with safe_open(path, "pt") as file:
        note = json.loads(file.metadata()["longtake"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    note["conditions"]["torch"] = "1.0"
    save_file(tensors, path, {"longtake": json.dumps(note)})
    with pytest.warns(UserWarning, match=r"made with torch 1\.0.*may differ"):
        model.restore(path)


@pytest.fixture
def lora(model, tmp_path):
    """A LoRA for the tiny model's first feed-forward layer."""
    outputs, inputs = model.generator.transformer.blocks[0].ffn.net[2].weight.shape
    path = tmp_path / "snow.safetensors"
    layer = "transformer.blocks.0.ffn.net.2"
    pair = {
        f"{layer}.lora_A.weight": torch.randn(2, inputs),
        f"{layer}.lora_B.weight": torch.randn(outputs, 2),
    }
    save_file(pair, path)
    return path


def test_a_lora_changes_the_film_and_is_told_of(model, tiny_model, lora):
    films = {None: bytes_of(model.take("a red ball"), 1)}
    for scale in (0.0, 0.5, 1.0):
        with longtake.open(tiny_model, dtype="fp32", lora=lora, lora_scale=scale) as opened:
            take = opened.take("a red ball")
            films[scale] = bytes_of(take, 1)
            assert take.about["lora"] == f"snow.safetensors at {scale:g}"
            assert take.about["conditions"]["lora"].endswith(f" at {scale:g}")
            assert str(lora.parent) not in json.dumps(take.about)
    assert films[0.0] == films[None]
    assert len({tuple(film) for film in films.values()}) == 3
    assert "lora" not in model.about


def test_a_lora_of_another_model_is_refused(tiny_model, lora):
    tensors = load_file(lora)
    save_file({name.replace("blocks.0", "blocks.9"): t for name, t in tensors.items()}, lora)
    with pytest.raises(StreamError, match=r"changes blocks\.9\.ffn.*which the transformer lacks"):
        longtake.open(tiny_model, lora=lora)
    with pytest.raises(StreamError, match=r"no LoRA for a scale of 0\.5"):
        longtake.open(tiny_model, lora_scale=0.5)
    with pytest.raises(StreamError, match="a LoRA's scale is nan"):
        longtake.open(tiny_model, lora=lora, lora_scale=float("nan"))


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 10])
def test_what_is_no_snapshot_is_refused(model, tmp_path, content):
    path = tmp_path / "film.take"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StreamError) as caught:
        model.restore(path)
    assert caught.value.code == "bad_snapshot"


def test_a_truncated_snapshot_is_refused(model, tmp_path):
    take = model.take("a red ball")
    list(take.frames(1))
    path = tmp_path / "film.take"
    take.snapshot(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StreamError, match="cannot be read"):
        model.restore(path)


def test_a_snapshot_that_cannot_be_written_leaves_the_earlier_one(model, tmp_path):
    take = model.take("a red ball")
    with pytest.raises(StreamError, match="cannot be written"):
        take.snapshot(tmp_path / "missing" / "film.take")
    assert len(bytes_of(take, 1)) == 8


def test_a_run_is_saved_with_its_chapters_and_what_made_it(model, tmp_path, read_film):
    take = model.take("a red ball", seed=5, steps=1)
    take.run(2)
    take.prompt("night falls")
    take.run(1.5)
    take.save(tmp_path / "film.mp4")
    film = read_film(tmp_path / "film.mp4")
    assert film.frames == 28
    assert film.chapters == [(0.0, "a red ball"), (2.0, "night falls")]
    about = film.about
    assert (about["seed"], about["steps"], about["model"]) == (5, 1, "tiny")
    assert {"time": 2.0, "prompt": "night falls"} in about["applied"]
    assert about["conditions"]["dtype"] == "float32"
    assert len(about["conditions"]["weights"]) == 64


def test_what_is_not_run_is_not_saved_and_chapters_are_where_they_are_seen(
    model, tmp_path, read_film
):
    take = model.take("a red ball")
    take.prompt("snow", at=2.0)
    take.prompt("night falls", at=4.0)
    take.run(1)
    list(take.frames(2))
    take.run(2)
    take.save(tmp_path / "film.mp4")
    film = read_film(tmp_path / "film.mp4")
    assert film.frames == 24
    assert film.chapters == [(0.0, "a red ball"), (1.0, "snow"), (2.0, "night falls")]


def test_a_full_disk_ends_a_run_and_what_was_made_is_saved(model, tmp_path, read_film, monkeypatch):
    def fail(film, pixels):
        if film.frames == 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(film, pixels)

    write = H264File.write
    take = model.take("a red ball")
    with monkeypatch.context() as full:
        full.setattr(H264File, "write", fail)
        with pytest.raises(StreamError, match=r"the disk is full; 1\.5 s of this take") as caught:
            take.run(3)
    assert caught.value.code == "disk_full"
    take.save(tmp_path / "film.mp4")
    assert read_film(tmp_path / "film.mp4").frames == 12
    take.run(1)
    take.save(tmp_path / "more.mp4")
    assert read_film(tmp_path / "more.mp4").frames == 20


@pytest.mark.parametrize("seconds", [None, 0])
def test_there_is_nothing_to_save_before_a_frame_was_run(model, tmp_path, seconds):
    take = model.take("a red ball")
    if seconds is not None:
        take.run(seconds)
    with pytest.raises(StreamError) as caught:
        take.save(tmp_path / "film.mp4")
    assert caught.value.code == "nothing_recorded"
    assert list(tmp_path.iterdir()) == []


def test_settings_change_what_is_made_and_bad_ones_are_refused(model):
    plain = bytes_of(model.take("a red ball"), 4)
    assert bytes_of(model.take("a red ball", steps=1), 4) != plain
    assert bytes_of(model.take("a red ball", window=2), 4) != plain
    assert bytes_of(model.take("a red ball", sink=0), 4) != plain
    for settings in ({"steps": 0}, {"window": 1}, {"sink": -1}, {"switch": "cut"}, {"speed": 2}):
        with pytest.raises(StreamError) as caught:
            model.take("a red ball", **settings)
        assert caught.value.code == "bad_setting"


def test_a_bad_prompt_leaves_the_take_as_it_was(model):
    take = model.take("a red ball", seed=2)
    made = bytes_of(take, 1)
    for prompt in ("", "   ", "x" * 100_000):
        with pytest.raises(StreamError, match="prompt"):
            take.prompt(prompt)
    assert made + bytes_of(take, 2) == bytes_of(model.take("a red ball", seed=2), 3)


def test_two_takes_at_once_equal_each_alone(model):
    alone = [bytes_of(model.take("a red ball", seed=seed), 3) for seed in (1, 2)]
    takes = [model.take("a red ball", seed=seed) for seed in (1, 2)]
    both = [take.frames(3) for take in takes]
    together = [[next(each).pixels.tobytes() for each in both] for _ in range(24)]
    assert [list(film) for film in zip(*together, strict=True)] == alone


def test_a_closed_take_or_model_says_so(model):
    take = model.take("a red ball")
    take.close()
    with pytest.raises(StreamError, match="closed"):
        list(take.frames(1))
    with pytest.raises(StreamError, match="closed"):
        take.prompt("snow")


def test_all_that_computes_runs_in_one_thread_that_is_not_the_callers(
    tiny_model, tmp_path, monkeypatch
):
    """OpenMP keeps a team for each thread that ever computed, and a second halves the speed."""
    threads = set()

    def note(owner, name):
        original = getattr(owner, name)

        def noted(*arguments, **options):
            threads.add(threading.current_thread())
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, noted)

    note(api, "load_generator")
    note(TextEncoder, "__call__")
    note(TinyCodec, "decode")
    note(WanTransformer, "forward")
    note(VideoGenerator, "save")
    with longtake.open(tiny_model, dtype="fp32") as model:
        model.affordable_steps()
        take = model.take("a red ball")
        take.prompt("night falls", at=1.0)
        list(take.frames(3))
        take.snapshot(tmp_path / "film.take")
        list(model.restore(tmp_path / "film.take").frames(1))
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_int8_is_said_among_the_conditions_and_nothing_else_is_taken_for_it(tiny_model, model):
    with longtake.open(tiny_model, quantize="int8", device="cpu", dtype="fp32") as quantized:
        assert quantized.conditions["quantize"] == "int8"
        assert len(list(quantized.take("a red ball").frames(1))) == 8
    assert "quantize" not in model.conditions
    with pytest.raises(StreamError, match="quantize is 'int4'"):
        longtake.open(tiny_model, quantize="int4")


def test_a_cache_in_fp8_is_said_among_the_conditions(tiny_model, model, monkeypatch):
    where = {"device": "cpu", "dtype": "fp32"}
    with pytest.raises(StreamError, match="a cache in fp8 is not served on this cpu") as caught:
        longtake.open(tiny_model, kv_cache="fp8", **where)
    assert caught.value.hint == "leave --kv-cache out"
    with pytest.raises(StreamError, match="kv_cache is 'int8'"):
        longtake.open(tiny_model, kv_cache="int8", **where)
    # What serves it, a GPU does; here the reference is as good.
    monkeypatch.setattr("longtake.models.video.load.serves_fp8", lambda *where: True)
    with longtake.open(tiny_model, kv_cache="fp8", **where) as small:
        assert small.conditions["kv_cache"] == "fp8"
        assert len(list(small.take("a red ball").frames(1))) == 8
    assert "kv_cache" not in model.conditions


def test_devices_and_dtypes(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(StreamError, match="no CUDA device"):
        choose_device("cuda")
    for capability, name in (("avx512_bf16", "torch.bfloat16"), ("avx2", "torch.float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda flag=capability: {flag: True})
        assert str(choose_dtype("auto", choose_device("cpu"))) == name
    assert str(choose_dtype("bf16", choose_device("cpu"))) == "torch.bfloat16"


def test_the_public_names_are_there():
    for name in longtake.__all__:
        assert getattr(longtake, name) is not None
    with pytest.raises(AttributeError):
        _ = longtake.nothing
