"""The command, on checkpoints that the model's own tests make."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from longtake.app.cli import main, parser
from longtake.models.folder import read_json

PUBLISHED = Path(__file__).parents[1] / "models" / "video" / "conftest.py"


@pytest.fixture(scope="module")
def published():
    return SimpleNamespace(**runpy.run_path(str(PUBLISHED)))


@pytest.fixture
def base(published, tmp_path):
    """LongLive's files, tiny."""
    model = published.make_transformer()
    tensors = published.originals(model, published.TRANSFORMER)
    torch.save({"generator": {f"model.{n}": t for n, t in tensors.items()}}, tmp_path / "base.pt")
    lora = {f"base_model.model.{n}": t for n, t in published.make_lora(model).items()}
    torch.save({"generator_lora": lora, "critic_lora": {}, "step": 1}, tmp_path / "lora.pt")
    return tmp_path / "base.pt"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["convert", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_part_is_converted_and_what_is_lacking_is_said(run, base, tmp_path):
    out = tmp_path / "longlive"
    lora = tmp_path / "lora.pt"
    code, said, remarks = run(base, out, "--lora", lora, "--head-dim", 14, "--quantize", "int8")
    assert code == 0
    assert f"transformer: {base}, generator, " in said
    assert "lacks vae, text_encoder, tokenizer" in said
    assert "left out are critic_lora, step" in remarks
    assert read_json(out / "transformer" / "config.json")["num_attention_heads"] == 2
    code, _, error = run(base, out, "--head-dim", 14)
    assert code == 2
    assert f"longtake: {out} exists already" in error


def test_a_whole_folder_ends_with_the_command_to_try(run, published, tmp_path):
    parts = SimpleNamespace(
        transformer=published.make_transformer(),
        vae=published.make_vae(),
        text_encoder=published.make_text_encoder(),
    )
    source = published.write_wan(tmp_path / "Wan2.1", parts)
    code, said, remarks = run(source, tmp_path / "wan", "--dtype", "bfloat16")
    assert code == 0
    assert f"generate --model {tmp_path / 'wan'} --prompt" in said
    assert "makes no film chunk by chunk" in remarks


def test_one_sentence_where_it_goes_wrong(run, base, tmp_path):
    code, _, error = run(base, tmp_path / "out")
    assert code == 2
    assert error.count("\n") == 1
    assert "--head-dim" in error
    code, _, error = run(base, tmp_path / "out", "--lora", base, "--head-dim", 14)
    assert code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [["--head-dim", "0"], ["--head-dim", "many"], ["--dtype", "float32", "--quantize", "int8"]],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_at_once(options):
    with pytest.raises(SystemExit):
        parser().parse_args(["convert", "a", "b", *options])
