"""What the doctor says, and the sizes that it takes for what is not here."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from longtake.app import catalogue, doctor
from longtake.app.catalogue import Known, find_model, known_models, sizes_of
from longtake.app.cli import main
from longtake.app.devices import hardware
from longtake.app.expected import expected_fps
from longtake.app.sizes import sizes_of_known
from longtake.kernels.registry import Implementation
from longtake.models.memory import Memory, in_words
from longtake.models.video.convert import LONGLIVE
from longtake.models.video.load import film_sizes
from longtake.models.video.text_setting import TextSetting
from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.models.vlm.load import watch_sizes

CPU = torch.device("cpu")


@pytest.fixture
def run(capsys):
    """The command on a CPU in float32: exit code, stdout, stderr."""

    def run(*arguments):
        code = main(["doctor", "--device", "cpu", "--dtype", "fp32", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def free(monkeypatch):
    """Says how much memory is free."""

    def say(size):
        monkeypatch.setattr("longtake.app.doctor.memory_of", lambda device: Memory(size, 2 * size))

    return say


def test_the_machine_its_kernels_and_its_codecs_are_told(run, tiny_model):
    code, out, err = run("--model", tiny_model)
    assert (code, err) == (0, "")
    assert f"cpu: {hardware(CPU)}, computes in float32" in out
    assert f"torch {torch.__version__}" in out
    assert "attention: cpu; " in out
    assert "sdpa runs on cuda or mps, not on cpu" in out
    assert "writes libx264" in out
    assert "cameras: " in out
    titles = [line for line in out.splitlines() if not line.startswith(" ")]
    assert titles == ["machine", "kernels", "video", "models"]


def test_every_model_that_is_known_is_told_of(run, free, monkeypatch, tmp_path):
    monkeypatch.setenv("LONGTAKE_MODELS", str(tmp_path))
    free(12 * 10**9)
    code, out, _ = run()
    assert code == 0
    for model in known_models():
        told = f"  {model.name}" in out
        assert told == bool(model.bundled or model.film or model.captioner)
    assert "longlive (not here): 832x480, window 9, sink 3, float32" in out
    assert "cache 7.76 GB" in out  # 2 * 12 + 3 frames of 1560 tokens, 30 layers of 1536, 4 bytes
    assert "does not fit in 12.00 GB: no setting makes it fit" in out


def test_the_settings_count_and_a_smaller_window_that_fits_is_told(
    run, free, tiny_model, monkeypatch
):
    monkeypatch.setattr("longtake.models.video.load.serves_int8", lambda *where: False)
    monkeypatch.setattr("longtake.models.video.text_setting.PRECISIONS", ())
    sizes = film_sizes(tiny_model, torch.float32, CPU)
    config = replace(sizes.config, width=64, height=48, window=40)
    need = replace(sizes, config=config).need
    asked = ("--model", tiny_model, "--window", 40, "--size", "64x48")
    free(need.total)
    out = run(*asked)[1]
    fits = "fits; frames a second: not measured on this machine"
    assert f"64x48, window 40, sink 2, float32\n    {need}\n    {fits}\n" in out
    free(need.total - 1)
    out = run(*asked)[1]
    assert "    does not fit in " in out
    assert ": --window 39 --sink 2 would fit" in out
    assert "frames a second" not in out


def test_a_setting_or_a_folder_that_does_not_fit_is_refused(run, tiny_model, tmp_path):
    for arguments, words in (
        (("--model", tiny_model, "--window", 1), "a chunk of 2 has to fit in it"),
        (("--model", tiny_model, "--size", "33x32"), "no whole number of tokens of "),
        (("--model", tiny_model, "--size", "0x0"), "width is 0"),
        (("--model", tmp_path / "no"), "there is no model folder"),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert words in err
        assert len(err.splitlines()) == 1
    with pytest.raises(SystemExit):
        run("--size", "large")


def test_a_broken_model_hides_no_other(run, monkeypatch, tmp_path, tiny_model):
    models = [
        Known("broken", "", "", 0, bundled=tmp_path),
        Known("sound", "", "", 0, bundled=tiny_model),
    ]
    monkeypatch.setattr("longtake.app.doctor.known_models", lambda: models)
    code, out, _ = run()
    assert code == 0
    assert "broken: " in out
    assert "model_index.json does not exist" in out
    assert "sound: 32x32" in out
    monkeypatch.setattr("longtake.app.doctor.known_models", known_models)
    code, out, _ = run("--size", "256x152")
    assert code == 0
    assert "longlive: 256x152 pixels are no whole number of tokens of 16x16" in out
    assert "qwen2.5-vl-7b (not here): 16 s of memory" in out


def test_a_captioner_that_is_here_is_measured_by_its_own_files(tiny_captioner, monkeypatch):
    entry = find_model("qwen2.5-vl-3b")
    monkeypatch.setenv("LONGTAKE_MODELS", str(tiny_captioner / "none"))
    published = sizes_of_known(entry, CPU, torch.bfloat16)
    assert published.need.parts["weights"] == 2 * 3_754_622_976
    monkeypatch.setattr(Known, "folder", tiny_captioner)
    monkeypatch.setattr(Known, "missing", lambda self: [])
    assert (
        sizes_of_known(entry, CPU, torch.bfloat16).need
        == watch_sizes(tiny_captioner, CPU, torch.bfloat16).need
    )


def test_the_sizes_of_wan_are_the_published_ones():
    """LongLive's cache is 3.45 GB in bfloat16; ours holds the sinks' keys twice."""
    need = sizes_of_known(find_model("longlive"), CPU, torch.bfloat16).need
    assert need.parts["transformer"] == 2 * 1_418_996_800
    frame = 30 * 1560 * 1536 * 2
    assert 2 * 12 * frame == 3_450_470_400
    assert need.parts["cache"] == 2 * 12 * frame + 3 * frame


@pytest.mark.parametrize("model", known_models(), ids=lambda model: model.name)
def test_the_catalogue_is_sound(model):
    assert model.licence
    assert model.what
    if model.bundled:
        return
    assert model.repo.count("/") == 1
    assert model.files
    assert model.size > 0
    for name in filter(None, (model.film, model.captioner)):
        assert sizes_of(name)["parameters"]
    assert ("not for commercial use" in model.terms()) is not model.commercial


def test_licences_that_forbid_commercial_use_are_marked():
    limited = {model.name for model in known_models() if not model.commercial}
    assert limited == {"self-forcing", "longlive", "qwen2.5-vl-3b"}


def test_names_are_told_where_there_is_none_such(capsys):
    assert main(["models", "pull", "longlife"]) == 2
    assert "no model longlife is known: there are valley, " in capsys.readouterr().err
    assert main(["models", "pull", "valley"]) == 0
    assert "valley is bundled: " in capsys.readouterr().out
    assert main(["models", "remove", "valley"]) == 2
    assert "valley is bundled" in capsys.readouterr().err


def test_models_are_listed_with_size_licence_and_place(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("LONGTAKE_MODELS", str(tmp_path))
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for model in known_models():
        line = next(line for line in out.splitlines() if line.startswith(f"{model.name} "))
        assert model.licence in line
        assert line.endswith(str(model.bundled) if model.bundled else "not here")
    assert f"models are put into {tmp_path}" in out
    assert catalogue.models_folder() == tmp_path


def test_only_what_was_measured_on_this_hardware_is_expected(tmp_path):
    def result(name, **fields):
        (tmp_path / name).write_text(json.dumps(fields))

    result("film.json", hardware="H100", metrics={"fps": 20.71})
    result("large.json", hardware="H100", metrics={"fps": 17.0}, model="longlive")
    result("other.json", hardware="A100", metrics={"fps": 12.0})
    result("kernels.json", hardware="H100", metrics={"attention": 1.0})
    sizes = sizes_of_known(find_model("longlive"), CPU, torch.bfloat16)
    assert expected_fps("valley", sizes, "H100", tmp_path) == ["20.7 (film.json)"]
    assert expected_fps("longlive", sizes, "H100", tmp_path) == ["17.0 (large.json)"]
    assert expected_fps(None, sizes, "H100", tmp_path) == []
    assert expected_fps("longlive", sizes, "A100", tmp_path) == []
    assert expected_fps("valley", sizes, "H100", tmp_path / "nowhere") == []


@pytest.fixture
def measured(tmp_path):
    """Results of the full size on a card, as the two benchmarks name what they measure."""
    sizes = sizes_of_known(find_model("longlive"), CPU, torch.bfloat16)
    settings = {
        "dtype": "bf16",
        "transformer": asdict(sizes.transformer),
        "streaming": asdict(sizes.config),
    }
    bench = {"e2e_fps_tiny_decoder_bf16": 30.0, "e2e_fps_tiny_decoder_int8": 33.0}
    bench |= {"e2e_fps_wan_vae_int8_fp8": 27.0}
    bench |= {"e2e_fps_wan_vae_bf16": 20.0, "e2e_fps_wan_vae_int8": 22.0, "e2e_fps_wan_vae": 22.0}
    full = {"fps": 19.0, "offload_text_fps": 18.5, "offload_text_once_fps": 18.0, "int8_fps": 21.0}
    for name, metrics in (("bench.json", bench), ("full.json", full)):
        result = {"hardware": "H200", "model": "longlive", "metrics": metrics, "settings": settings}
        (tmp_path / name).write_text(json.dumps(result))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["20.0 (bench.json)", "19.0 (full.json)"]),
        ({"int8": True}, ["22.0 (bench.json)", "21.0 (full.json)"]),
        ({"int8": True, "fp8_cache": True}, ["27.0 (bench.json)"]),
        ({"fp8_cache": True}, []),
        ({"setting": TextSetting(None, "text")}, ["20.0 (bench.json)", "18.5 (full.json)"]),
        ({"setting": TextSetting("nf4", "text-once")}, ["20.0 (bench.json)", "18.0 (full.json)"]),
        ({"int8": True, "setting": TextSetting(None, "text")}, ["22.0 (bench.json)"]),
        ({"codec": TinyCodec(TinyCodecConfig())}, ["30.0 (bench.json)"]),
        ({"codec": TinyCodec(TinyCodecConfig()), "int8": True}, ["33.0 (bench.json)"]),
        ({"codec": TinyCodec(TinyCodecConfig()), "int8_decoder": True}, ["33.0 (bench.json)"]),
        ({"dtype": torch.float32}, []),
    ],
    ids=lambda value: "" if isinstance(value, list) else "-".join(value) or "own",
)
def test_what_was_measured_in_these_shapes_and_settings_is_expected(measured, changes, expected):
    sizes = sizes_of_known(find_model("longlive"), CPU, torch.bfloat16)
    sizes = replace(sizes, **changes)
    # Whatever it is called: somebody's own folder is not in the list.
    assert expected_fps("wan", sizes, "H200", measured) == expected
    assert expected_fps("wan", sizes, "A100", measured) == []
    for more in ({"window": 6}, {"width": 640, "height": 384}):
        assert expected_fps("longlive", sizes.changed(more), "H200", measured) == []
    other = replace(sizes, transformer=replace(sizes.transformer, num_layers=40))
    assert expected_fps("longlive", other, "H200", measured) == []


def test_what_converting_writes_is_what_is_measured_under_longlives_name():
    sizes = sizes_of_known(find_model("longlive"), CPU, torch.bfloat16)
    # Where a frame's position counts from costs neither time nor memory.
    assert replace(sizes.config, positions=LONGLIVE.positions) == LONGLIVE


def test_the_speed_of_a_models_own_settings_is_not_that_of_others(
    run, tiny_model, tmp_path, monkeypatch, capsys
):
    result = {"hardware": hardware(CPU), "model": str(tiny_model), "metrics": {"fps": 12.0}}
    (tmp_path / "film.json").write_text(json.dumps(result))
    monkeypatch.setattr(doctor, "expected_fps", partial(expected_fps, results=tmp_path))
    model = ["doctor", "--device", "cpu", "--model", str(tiny_model)]
    for more, told in (
        ([], True),
        (["--window", "3"], False),
        (["--offload", "text"], False),
        (["--text-encoder", "bf16"], False),
    ):
        assert main([*model, *more]) == 0
        assert ("frames a second: 12.0 (film.json)" in capsys.readouterr().out) is told


def test_for_a_small_card_the_text_encoder_is_offloaded():
    gpu, entry = torch.device("cuda"), find_model("longlive")
    here = sizes_of_known(entry, gpu, torch.bfloat16)
    assert here.need.parts["text_encoder"] == 2 * 5_680_910_336
    words, need = next(here.alternatives())
    assert words == "--offload text"
    assert here.need.total - need.total == 2 * 5_680_910_336
    less = sizes_of_known(entry, gpu, torch.bfloat16, TextSetting("nf4"))
    assert less.need.parts["text_encoder"] / 1e9 == pytest.approx(5.98, abs=0.01)
    assert "text_encoder" not in need.parts


def test_how_the_text_encoder_is_kept_counts(run, tiny_model):
    whole, half = (
        run("--model", tiny_model, *more)[1] for more in ((), ("--text-encoder", "bf16"))
    )
    assert whole != half
    assert "text encoder in bf16" in half
    assert "text encoder offloaded" in run("--model", tiny_model, "--offload", "text")[1]


def test_int8_counts_and_is_told_where_it_makes_a_model_fit(run, free, tiny_model, monkeypatch):
    monkeypatch.setattr("longtake.models.video.load.serves_int8", lambda *where: True)
    asked = ("--model", tiny_model, "--text-encoder", "bf16")
    less = film_sizes(tiny_model, torch.float32, CPU, TextSetting("bf16"), int8=True).need
    free(less.total)
    monkeypatch.setattr("longtake.models.video.text_setting.find_spec", lambda name: None)
    assert f"--quantize int8 would fit, with {in_words(less.total)}" in run(*asked)[1]
    out = run(*asked, "--quantize", "int8")[1]
    assert "float32, transformer in int8, text encoder in bf16" in out
    assert f"    {less}\n    fits; " in out


def test_a_cache_in_fp8_counts_and_is_told(run, tiny_model, monkeypatch):
    code, _, error = run("--kv-cache", "fp8")
    assert (code, "a cache in fp8 is not served on this cpu device" in error) == (2, True)
    monkeypatch.setattr("longtake.models.video.load.serves_fp8", lambda *where: True)
    out = run("--model", tiny_model, "--kv-cache", "fp8")[1]
    assert "float32, keys and values in fp8" in out
    assert f"    {film_sizes(tiny_model, torch.float32, CPU, fp8_cache=True).need}\n" in out


@pytest.mark.parametrize("there", [True, False])
def test_a_decoder_in_int8_is_told_where_the_cpu_multiplies_bytes(run, monkeypatch, there):
    monkeypatch.setattr("longtake.models.video.tiny_codec.multiplies_bytes", lambda: there)
    out = run("--quantize", "int8", "--dtype", "fp32")[1]
    line = next(line for line in out.splitlines() if "valley:" in line)
    assert line.endswith("transformer in int8" + ", decoder in int8" * there)


def test_int8_that_is_not_served_is_a_sentence_as_when_a_model_is_loaded(
    run, tiny_model, monkeypatch
):
    monkeypatch.setattr("longtake.models.video.load.serves_int8", lambda *where: False)
    monkeypatch.setattr(Implementation, "refusal", lambda self, device, dtype: "needs more")
    code, _, error = run("--model", tiny_model, "--quantize", "int8")
    assert code == 2
    assert "int8 is not served on this cpu device: its kernel needs more" in error
    assert len(error.splitlines()) == 1


def test_an_encoder_that_the_machine_has_no_room_for_is_told(tiny_model, monkeypatch):
    sizes = film_sizes(tiny_model, torch.float32, torch.device("cuda"), TextSetting(None, "text"))
    size, left = sizes.beside.need.total, 10**9
    for room, told in ((size, False), (size - 1, True)):
        monkeypatch.setattr(
            "longtake.app.doctor.memory_of",
            lambda device, room=room: Memory(room if device == CPU else left, left),
        )
        line = list(doctor._report("tiny", "tiny", sizes, torch.device("meta")))[2]
        assert line.startswith(f"  and of the machine's memory {sizes.beside.need}, for prompts")
        assert (f"only {in_words(room)} are free: --text-encoder bf16 would fit" in line) is told
