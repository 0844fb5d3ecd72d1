"""The command, on checkpoints that the model's own tests make."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from longtake.app.cli import main
from longtake.app.options import parser
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


def test_a_pulled_model_is_given_by_its_name_and_its_lora_is_merged(
    run, base, tmp_path, monkeypatch
):
    monkeypatch.setenv("LONGTAKE_MODELS", str(tmp_path / "pulled"))
    code, _, error = run("longlive", tmp_path / "out", "--head-dim", 14)
    assert code == 2
    assert "longlive is not here: run `python launch.py models pull longlive`" in error
    folder = tmp_path / "pulled" / "longlive" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "base.pt").rename(folder / "longlive_base.pt")
    (tmp_path / "lora.pt").rename(folder / "lora.pt")
    assert run("longlive", tmp_path / "named", "--head-dim", 14)[0] == 0
    files = (folder / "longlive_base.pt", tmp_path / "given", "--lora", folder / "lora.pt")
    assert run(*files, "--head-dim", 14)[0] == 0
    named, given = (
        load_file(next((tmp_path / each / "transformer").glob("*.safetensors")))
        for each in ("named", "given")
    )
    assert named.keys() == given.keys()
    assert all(torch.equal(named[key], given[key]) for key in named)


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


def test_pulled_models_make_a_whole_folder_by_their_names(run, published, tmp_path, monkeypatch):
    place = tmp_path / "pulled"
    place.mkdir()
    monkeypatch.setenv("LONGTAKE_MODELS", str(place))
    parts = SimpleNamespace(
        transformer=published.make_transformer(),
        vae=published.make_vae(),
        text_encoder=published.make_text_encoder(),
    )
    assert run(published.write_wan(tmp_path / "Wan2.1", parts), place / "wan-1.3b")[0] == 0
    shutil.rmtree(place / "wan-1.3b" / "transformer")
    weights = {"weight_map": {"shared.weight": "model.safetensors"}}
    index = place / "wan-1.3b" / "text_encoder" / "model.safetensors.index.json"
    index.write_text(json.dumps(weights))
    tensors = published.originals(parts.transformer, published.TRANSFORMER)
    (place / "self-forcing" / "checkpoints").mkdir(parents=True)
    fsdp = {f"model._fsdp_wrapped_module.{name}": tensor for name, tensor in tensors.items()}
    checkpoint = place / "self-forcing" / "checkpoints" / "self_forcing_dmd.pt"
    torch.save({"generator_ema": fsdp}, checkpoint)
    code, said, _ = run("wan-1.3b", "self-forcing", tmp_path / "film", "--head-dim", 14)
    assert code == 0
    assert f"transformer: {checkpoint}, generator_ema" in said
    assert f"generate --model {tmp_path / 'film'} --prompt" in said


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
