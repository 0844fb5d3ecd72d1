from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.benchmarks import departures
from longtake.models.video.rewriter import load_rewriter
from longtake.training import package
from longtake.training.valley.world import COLOUR, RATE, SHAPE
from longtake.weights import GENERATOR


@pytest.fixture(scope="module")
def packaged(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy as a model with radial attention."""
    folder = tmp_path_factory.mktemp("packaged")
    package.package(built / "generator", built / "codec", built / "judge", folder)
    path = folder / "valley" / "streaming.json"
    radial = {"block": 8, "decay": 1.0, "dense_layers": 0, "dense_steps": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"radial": radial}))
    return folder


class _Reader:
    """In place of a judge: the colour and the shape are the brightness of two corners."""

    class config:  # noqa: N801
        window = 4

    def read(self, clips: Tensor) -> Tensor:
        rows = torch.zeros(len(clips), 11, dtype=torch.long)
        rows[:, COLOUR] = clips[:, 0, 0, -1, 0].long()
        rows[:, SHAPE] = clips[:, 0, 0, -1, -1].long()
        return rows


def test_what_came_back_is_told_from_what_did_not() -> None:
    films = torch.zeros(5, 16 * RATE, 3, 144, 256, dtype=torch.uint8)

    def put(film: int, first: float, last: float, colour: int, shape: int) -> None:
        there = films[film, round(first * RATE) : round(last * RATE)]
        there[..., 100:120, 50:80] = 255
        there[..., -1, 0], there[..., -1, -1] = colour, shape

    # Twice the same; another colour; another shape; one that never leaves; one that stays away.
    for film, (colour, shape) in enumerate(((3, 4), (5, 4), (3, 6))):
        put(film, 1, 4, 3, 4)
        put(film, 14, 16, colour, shape)
    put(3, 1, 16, 3, 4)
    put(4, 1, 4, 3, 4)
    # What moves in the sky is not taken for it.
    films[:, 100:, :, :50] = 200
    found = departures.kept(films, _Reader())
    assert found["returns"] == pytest.approx(3 / 5)
    assert found["colour"] == found["shape"] == pytest.approx(2 / 3)
    assert found["both"] == pytest.approx(1 / 3)
    # Pairs of a film and a later one: the others came back as (5, 4) and (3, 6).
    assert found["chance_colour"] == pytest.approx(2 / 3)
    assert found["chance_shape"] == pytest.approx(1 / 3)
    assert found["chance_both"] == 0


def test_the_prompts_are_understood_and_never_name_it() -> None:
    rewriter = load_rewriter(GENERATOR)
    assert rewriter is not None
    read = [
        [rewriter(list(script.values())[:count]) for count in (1, 2, 3, 4)]
        for script in departures.scripts(18)
    ]
    told = ["flies away and back on the grass, by day", "rests on the grass, by day"]
    assert read[0] == [*told, *told]
    assert len({tuple(prompts) for prompts in read}) == 18
    assert all(prompts[:2] == prompts[2:] for prompts in read)
    assert departures.scripts(19)[18] == departures.scripts(1)[0]
    assert list(departures.scripts(1)[0]) == [0, 2, 7, 27]


def test_models_are_measured_beside_their_dense_twins_and_renders(
    packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "TURNS", 2)
    out = tmp_path / "results" / "departures.json"
    given = ["--model", f"toy={packaged / 'valley'}", "--judge", str(packaged / "judge")]
    departures.main(
        [*given, "--films", "2", "--dtype", "fp32", "--device", "cpu", "--out", str(out)]
    )
    metrics = json.loads(out.read_text())["metrics"]
    assert metrics["renders_returns"] == 1
    for name in ("toy", "toy_dense"):
        assert metrics[f"{name}_chunk_ms"] > 0
        assert 0 <= metrics[f"{name}_returns"] <= 1
        assert out.with_name(f"departures_{name}.webp").exists()
    assert json.loads((packaged / "valley" / "streaming.json").read_text())["radial"]["block"] == 8


def test_a_model_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        departures.parser().parse_args(["--model", "work/long/valley"])
    assert "'work/long/valley' is not NAME=FOLDER" in capsys.readouterr().err
