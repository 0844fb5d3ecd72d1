"""`caption --model` with a folder laid out as Qwen2.5-VL-3B's on the hub, scaled down."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from longtake.app.cli import main
from longtake.app.transcript import read_transcript

PARTS = Path(__file__).parents[1] / "models" / "vlm" / "conftest.py"
# As the files of the hub say it, which transformers 4.41 wrote; only the sizes are smaller.
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": 128_000,
    "max_window_layers": 70,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "rope_theta": 1_000_000.0,
    "sliding_window": 32_768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_sliding_window": False,
    "vision_config": {
        "depth": 2,
        "fullatt_block_indexes": [1],
        "hidden_act": "silu",
        "hidden_size": 64,
        "in_chans": 3,
        "intermediate_size": 96,
        "num_heads": 2,
        "out_hidden_size": 256,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
    },
}
PROCESSOR = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 12_845_056,
    "merge_size": 2,
    "min_pixels": 3136,
    "patch_size": 14,
    "processor_class": "Qwen2_5_VLProcessor",
    "temporal_patch_size": 2,
}
# Names that the files of the hub have, for those of transformers 5.
OLD_NAMES = {"model.language_model.": "model.", "model.visual.": "visual."}


def old_name(name: str) -> str:
    for new, old in OLD_NAMES.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights in three files, with an index, and all that lies beside them."""
    path = tmp_path_factory.mktemp("Qwen2.5-VL-3B-Instruct")
    tokenizer = runpy.run_path(str(PARTS))["make_tokenizer"]()
    marks = {
        "bos": "<|endoftext|>",
        "eos": "<|im_end|>",
        "image": "<|image_pad|>",
        "video": "<|video_pad|>",
        "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    }
    ids = {f"{name}_token_id": tokenizer.token_to_id(mark) for name, mark in marks.items()}
    # More than the tokenizer has, as on the hub.
    config = CONFIG | ids | {"vocab_size": tokenizer.get_vocab_size() + 24}
    torch.manual_seed(0)
    made = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config)).to(torch.bfloat16)
    tensors = {
        old_name(name): tensor.contiguous()
        for name, tensor in made.state_dict().items()
        if name != "lm_head.weight"
    }
    where = {}
    for shard in range(3):
        names = sorted(tensors)[shard::3]
        file = f"model-{shard + 1:05}-of-00003.safetensors"
        save_file({name: tensors[name] for name in names}, path / file, {"format": "pt"})
        where |= dict.fromkeys(names, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    files = {
        "config.json": config,
        "generation_config.json": {"do_sample": True, "temperature": 1e-06},
        "model.safetensors.index.json": {"metadata": {"total_size": size}, "weight_map": where},
        "preprocessor_config.json": PROCESSOR,
        "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"},
        "chat_template.json": {"chat_template": "{{ messages }}"},
    }
    for name, values in files.items():
        (path / name).write_text(json.dumps(values))
    tokenizer.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def film(shoot_film: Callable[..., Path], tmp_path: Path) -> Path:
    """Three seconds."""
    return shoot_film(tmp_path / "film.mp4", [index / 10 for index in range(30)])


@pytest.mark.parametrize("bits", [None, "8bit", "4bit"])
def test_a_folder_as_on_the_hub_watches_a_film(
    qwen: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bits: str | None
) -> None:
    if bits:
        pytest.importorskip("bitsandbytes")
        pytest.importorskip("accelerate")
    out = tmp_path / "told.vtt"
    options = ["--model", str(qwen), "--device", "cpu", "--dtype", "fp32", "--out", str(out)]
    options += ["--quantization", bits] if bits else []
    capsys.readouterr()
    assert main(["caption", str(film), *options, "--ask", "@1s what moves?"]) == 0
    lines = read_transcript(out)
    assert [line.start for line in lines] == [0.0, 1.0, 2.0]
    assert [line.question for line in lines] == ["", "what moves?", ""]
    assert all(line.text for line in lines)
    shown = capsys.readouterr()
    assert "3 s watched" in shown.out
    assert not shown.err


def _rename(folder: Path, old: str, new: str) -> None:
    for path in folder.glob(f"*{old}"):
        path.rename(path.with_suffix(new))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _configure(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)


SECOND = "model-00002-of-00003.safetensors"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "there is no model folder"),
        (lambda path: (path / "config.json").unlink(), "lacks config.json"),
        (lambda path: _configure(path, '{"model_type": "llama"}'), "holds a llama, no Qwen2.5-VL"),
        (lambda path: _configure(path, '{"model_type": "qwen2_vl"}'), "no Qwen2.5-VL"),
        (lambda path: _configure(path, "{}"), "does not say of which model it is"),
        (lambda path: _configure(path, "[]"), "holds no JSON object"),
        (lambda path: _rename(path, ".safetensors", ".bin"), "holds no .safetensors file"),
        (
            lambda path: (path / "model.safetensors.index.json").unlink(),
            "lacks model.safetensors.i",
        ),
        (lambda path: (path / SECOND).unlink(), f"{SECOND} does not exist"),
        (lambda path: _cut(path / SECOND), f"{SECOND} is not a whole safetensors file"),
        (lambda path: (path / "tokenizer.json").unlink(), "lacks tokenizer.json"),
        (lambda path: (path / "preprocessor_config.json").unlink(), "lacks preprocessor_config"),
    ],
)
def test_a_folder_that_is_no_whole_qwen_is_refused_in_one_sentence(
    qwen: Path,
    film: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    said: str,
) -> None:
    copy = shutil.copytree(qwen, tmp_path / "spoilt")
    spoil(copy)
    out = tmp_path / "told.vtt"
    assert main(["caption", str(film), "--model", str(copy), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert line.count(": ") >= 2
    assert not out.exists()
