"""Any Qwen2.5-VL folder is loaded; what is wrong with another is said in a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.models.vlm.folder import is_captioner
from longtake.models.vlm.load import load_captioner
from longtake.models.vlm.settings import Settings
from longtake.streaming import StreamError

CPU = torch.device("cpu")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "witness")


def edit(path, **changes):
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | changes))


def refused(source, problem, **more):
    with pytest.raises(StreamError, match=problem) as caught:
        load_captioner(source, CPU, torch.float32, **more)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_folder_says_what_was_saved(folder, make_captioner, video, watch):
    loaded = load_captioner(folder, CPU, torch.float32)
    assert is_captioner(folder)
    assert loaded.settings == Settings()
    assert loaded.pixels == (384, 384)
    settings = make_captioner().settings
    mine, theirs = loaded.watching_with(settings), make_captioner()
    both = [watch(each, each.open("snow", 1), video(5)) for each in (mine, theirs)]
    assert both[0] == both[1]


def test_it_watches_in_bfloat16(folder, make_captioner, video, watch):
    loaded = load_captioner(folder, CPU, torch.bfloat16)
    captioner = loaded.watching_with(make_captioner().settings)
    state = captioner.open("", 1)
    rounds = watch(captioner, state, video(6))
    assert len(rounds) == 6
    assert state.cache.save()["written"].dtype == torch.bfloat16


def test_loading_prints_nothing(folder, capfd):
    load_captioner(folder, CPU, torch.float32)
    assert capfd.readouterr() == ("", "")


def test_a_folder_may_say_how_to_watch_with_it(copy):
    (copy / "streaming.json").write_text('{"temperature": 0, "vision_seconds": 8}')
    settings = load_captioner(copy, CPU, torch.float32).settings
    assert (settings.temperature, settings.vision_seconds, settings.fps) == (0, 8, 2)
    (copy / "streaming.json").write_text('{"fps": 2.5}')
    refused(copy, "make no whole number of frames")
    for value in ("-1", "NaN"):
        (copy / "streaming.json").write_text(f'{{"clock_seconds": {value}}}')
        refused(copy, "clock_seconds is")
    (copy / "streaming.json").write_text('{"speed": 2}')
    refused(copy, "unknown fields speed")


def test_both_of_transformers_layouts_of_the_processor_are_read(copy):
    path = copy / "preprocessor_config.json"
    values = json.loads(path.read_text())
    path.unlink()
    refused(copy, "lacks preprocessor_config.json")
    (copy / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    assert load_captioner(copy, CPU, torch.float32).processor.patch_size == 4


def test_a_folder_of_something_else_is_refused(copy, tmp_path):
    refused(tmp_path / "nowhere", "there is no model folder")
    refused("../nowhere", "there is no model folder")
    edit(copy / "config.json", model_type="llama")
    assert "Qwen2.5-VL" in refused(copy, "holds a llama, no Qwen2.5-VL").hint
    assert not is_captioner(copy)
    assert not is_captioner(tmp_path / "nowhere")


def test_to_look_at_a_folder_loads_nothing_of_the_captioner():
    code = (
        "import sys\n"
        "from longtake.models.vlm import folder\n"
        "print([name for name in sys.modules if name.startswith('longtake.models.vlm.')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['longtake.models.vlm.folder']\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_broken_file_is_named(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:100])
    refused(copy, r"does not serve|cannot be read|is not a whole")
    path.unlink()
    refused(copy, "lacks|holds no .safetensors")


def test_a_missing_unknown_or_misshapen_tensor_is_named(copy):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    more = {"format": "pt"}
    save_file({key: value for key, value in tensors.items() if key != name}, path, more)
    refused(copy, r"missing tensors: .*layers\.1\.mlp\.up_proj\.weight")
    save_file(tensors | {"model.extra": torch.zeros(2)}, path, more)
    refused(copy, r"unexpected tensors: .*extra")
    save_file(tensors | {name: torch.zeros(2, 2)}, path, more)
    refused(copy, "does not serve|mismatched")


def test_parts_of_different_models_are_refused(copy):
    edit(copy / "preprocessor_config.json", patch_size=14)
    refused(copy, "the processor's patch_size is 14, the model's 4")
    edit(copy / "preprocessor_config.json", patch_size=4, min_pixels=0)
    refused(copy, "preprocessor_config.json does not serve")


def test_a_tokenizer_without_the_marks_is_refused(copy):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace("<|vision_start|>", "<|video_start|>"))
    refused(copy, "lacks <|vision_start|>".replace("|", r"\|"))


def test_rotary_positions_that_cannot_be_moved_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["rope_parameters"] |= {"rope_type": "dynamic", "factor": 2.0}
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy, "type dynamic are not served")


def test_quantization_that_cannot_be_had_is_refused(folder, monkeypatch):
    refused(folder, "quantization is 2bit", quantization="2bit")
    monkeypatch.setattr("longtake.models.vlm.load.find_spec", lambda name: None)
    error = refused(folder, "needs bitsandbytes", quantization="8bit")
    assert "pip install" in error.hint
    monkeypatch.setattr("longtake.models.vlm.load.find_spec", lambda name: object())
    with pytest.raises(StreamError, match="runs on cuda or cpu, not on mps"):
        load_captioner(folder, torch.device("mps"), torch.float32, "4bit")

    def fail(quantization, device):
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr("longtake.models.vlm.load._try_quantization", fail)
    error = refused(
        folder, r"does not work on this cpu \(no such instruction\)", quantization="4bit"
    )
    assert "leave the quantization out" in error.hint


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_fewer_bits_see_much_the_same(folder, make_captioner, video, watch, bits):
    pytest.importorskip("bitsandbytes")
    pytest.importorskip("accelerate")
    whole, quantized = (
        load_captioner(folder, CPU, torch.float32, each).watching_with(make_captioner().settings)
        for each in (None, bits)
    )
    weight = quantized.network.model.model.language_model.layers[0].mlp.up_proj.weight
    assert weight.dtype in {torch.int8, torch.uint8}
    assert quantized.network.dtype == torch.float32
    found = []
    for captioner in (whole, quantized):
        state = captioner.open("snow", 1)
        assert len(watch(captioner, state, video(4))) == 4
        first = slice(len(state.context.prompt))
        found.append(state.cache.save()["values"][:, :, first].flatten())
    assert 0.98 < torch.cosine_similarity(*found, dim=0) < 1


def test_a_name_on_the_hub_that_cannot_be_fetched_is_refused(monkeypatch):
    def fail(*arguments, **more):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    refused("Qwen/Qwen2.5-VL-3B-Instruct", r"cannot be fetched \(no route to host\)")


def test_a_name_on_the_hub_is_fetched(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **more: str(folder))
    assert load_captioner("somebody/witness", CPU, torch.float32).pixels == (384, 384)
