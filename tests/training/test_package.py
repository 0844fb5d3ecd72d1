"""From the stages' folders to a model folder, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longtake.models.video.rewriter import load_rewriter
from longtake.training.codec import load_codec
from longtake.training.denoiser import load_denoiser
from longtake.training.package import package
from longtake.training.unpack import unpack

TOY = Path(__file__).parents[1] / "toy.json"


def test_a_run_goes_on_from_what_was_packaged(built: Path, tmp_path: Path) -> None:
    package(built / "generator", built / "codec", built / "judge", tmp_path)
    rewriter = load_rewriter(tmp_path / "valley")
    assert rewriter is not None
    assert rewriter(["a ball", "make it red"]) == "a red ball"
    unpack(tmp_path / "valley", TOY, tmp_path / "work")
    for before, after in (("generator", "teacher"), ("codec", "codec")):
        trained, unpacked = (
            load_file(folder / "model.safetensors")
            for folder in (built / before, tmp_path / "work" / after)
        )
        assert trained.keys() == unpacked.keys()
        for name, value in trained.items():
            largest = float(value.float().abs().max())
            torch.testing.assert_close(
                unpacked[name].float(), value.float(), atol=largest / 127, rtol=0.01, msg=name
            )
    denoiser, _ = load_denoiser(tmp_path / "work" / "teacher", torch.device("cpu"))
    text = load_file(tmp_path / "work" / "reader" / "model.safetensors")
    for name, value in denoiser.text.named_parameters():
        torch.testing.assert_close(text[name], value.float(), atol=1e-6, rtol=0.01, msg=name)
    codecs = [load_codec(folder) for folder in (built / "codec", tmp_path / "work" / "codec")]
    assert codecs[0].config.latents_std == pytest.approx(codecs[1].config.latents_std)
