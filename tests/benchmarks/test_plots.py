"""Charts of results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from longtake.benchmarks import plots

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_a_chart_has_a_line_for_each_series_and_the_mark() -> None:
    series = {"one": [(-0.5, 0.9), (0.5, 0.5)], "two": [(-0.5, 0.1), (0.5, 1.0)]}
    (axes,) = plots.line_chart(series, "seconds", "right", 0.0).axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn[:2] == [[list(point) for point in points] for points in series.values()]
    assert [x for x, _ in drawn[2]] == [0.0, 0.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]


def test_bars_stand_where_their_names_are() -> None:
    (axes,) = plots.bars({"a": {"x": 0.5, "y": 1.0}, "b": {"y": 0.25}}, "right").axes
    places = [(round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in axes.patches]
    assert places == [(0, 0.5), (1, 1.0), (1, 0.25)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y"]


def test_films_and_openings_have_curves_of_their_own() -> None:
    lines = [
        {"loss": 1.0 + step, "seconds": float(step), "opening": float(step % 2)}
        for step in range(6)
    ]
    plain = [{"loss": 1.0, "seconds": float(step)} for step in range(4)]
    first, second = plots.curves({"teacher": lines, "judge": plain}).axes
    assert [line.get_ydata().tolist() for line in first.lines] == [[3.0, 5.0], [4.0, 6.0]]
    assert [line.get_ydata().tolist() for line in second.lines] == [[1.0, 1.0]]


@pytest.mark.parametrize("name", ["training", "training_stages", "bundled_attributes"])
def test_every_chart_of_the_docs_is_drawn_from_the_results(tmp_path: Path, name: str) -> None:
    results = shutil.copytree(RESULTS, tmp_path / "results")
    (results / f"{name}.png").unlink()
    plots.draw(results)
    with Image.open(results / f"{name}.png") as drawn, Image.open(RESULTS / f"{name}.png") as kept:
        assert drawn.size == kept.size
