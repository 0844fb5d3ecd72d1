"""Charts of results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from longtake.app.cli import main
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


def test_the_fastest_implementation_is_shown_of_its_own_ceiling() -> None:
    metrics = {
        "rope/reference_gbs": 1.0,
        "rope/reference_share": 0.1,
        "rope/triton_gbs": 5.0,
        "rope/triton_share": 0.5,
        "attention/cudnn_tflops": 7.0,
        "attention/cudnn_share": 0.7,
    }
    (axes,) = plots.shares(metrics).axes
    drawn = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in axes.patches}
    assert drawn == {0: 0.5, 1: 0.7}
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["rope: triton", "attention: cudnn"]
    assert {text.get_text() for text in axes.texts} == {"5 GB/s", "7 TFLOP/s"}


@pytest.mark.parametrize("made", [("bf16", "int8"), ("bf16", "int8", "int8_fp8")])
def test_speeds_stand_beside_what_others_made(made) -> None:
    metrics = {
        f"{name}_{precision}": 40.0 + step
        for step, precision in enumerate(made)
        for name in plots.FILMS
    }
    (axes,) = plots.speeds(metrics).axes
    heights = sorted(bar.get_height() for bar in axes.patches)
    expected = [40.0 + step for step in range(len(made)) for _ in plots.FILMS]
    assert heights == sorted([*plots.PUBLISHED.values(), *expected])


def test_a_bench_has_a_chart_for_what_it_measured(tmp_path) -> None:
    speeds = dict.fromkeys(
        (f"{name}_{precision}" for name in plots.FILMS for precision in plots.PRECISIONS), 9.0
    )
    kernels = {"rope/triton_gbs": 5.0, "rope/triton_share": 0.5}
    path = tmp_path / "bench.json"
    for metrics, names in (
        (speeds | kernels, ["bench.png", "bench_kernels.png"]),
        (kernels, ["bench.png"]),
        ({"dit_fps_fp32": 1.0}, []),
    ):
        path.write_text(json.dumps({"metrics": metrics}))
        drawn = plots.draw_speed(path)
        assert [picture.name for picture in drawn] == names
        assert all(picture.stat().st_size for picture in drawn)


def test_without_matplotlib_a_bench_says_how_to_get_charts(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("longtake.benchmarks.bench.find_spec", lambda name: None)
    out = tmp_path / "bench.json"
    more = ["--device", "cpu", "--dtype", "fp32", "--seconds", "0.1", "--kernels", "0"]
    assert main(["bench", "--toy", *more, "--out", str(out)]) == 0
    assert "pip install -e '.[benchmarks]'" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_films_and_openings_have_curves_of_their_own() -> None:
    lines = [
        {"loss": 1.0 + step, "seconds": float(step), "opening": float(step % 2)}
        for step in range(6)
    ]
    plain = [{"loss": 1.0, "seconds": float(step)} for step in range(4)]
    first, second = plots.curves({"teacher": lines, "judge": plain}).axes
    assert [line.get_ydata().tolist() for line in first.lines] == [[3.0, 5.0], [4.0, 6.0]]
    assert [line.get_ydata().tolist() for line in second.lines] == [[1.0, 1.0]]


def test_what_a_captioner_learns_has_a_curve_for_each_part() -> None:
    lines = [
        {"loss": 9.0, "seconds": float(step), "said": 2.0 * (step % 2), "told": 3.0}
        for step in range(6)
    ]
    (axes,) = plots.curves({"captioner": lines}).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    # In every second step nothing was to be said.
    said, told = [[3.0, 2.0], [5.0, 2.0]], [[step, 3.0] for step in (2.0, 3.0, 4.0, 5.0)]
    assert drawn == {"told": told, "said": said}


def test_a_stream_that_ends_early_is_marked_where_it_ends() -> None:
    long = {name: [1.0, 2.0, 3.0] for name in plots.COURSE}
    short = {name: [1.0, 4.0] for name in plots.COURSE}
    panels = plots.courses({"ours": long, "other": short}).axes
    assert [axes.get_ylabel() for axes in panels] == list(plots.COURSE.values())
    for axes in panels:
        drawn = [line.get_xydata().tolist() for line in axes.lines]
        assert drawn == [[[1, 1], [2, 2], [3, 3]], [[1, 1], [2, 4]], [[2, 4]]]


def test_the_long_streams_are_drawn_once_they_are_measured(tmp_path: Path) -> None:
    results = shutil.copytree(RESULTS, tmp_path / "results")
    path, chart = results / "captioner.json", results / "captioner_hours.png"
    result = json.loads(path.read_text())
    result["parts"] = {}
    path.write_text(json.dumps(result))
    chart.unlink(missing_ok=True)
    plots.draw(results)
    assert not chart.exists()
    result["parts"]["hours"] = {"course": {name: [1.0] for name in plots.COURSE}}
    path.write_text(json.dumps(result))
    plots.draw(results)
    assert chart.exists()


CHARTS = ("training", "training_stages", "bundled_attributes", "ablation_stages")


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_of_the_docs_is_drawn_from_the_results(tmp_path: Path, name: str) -> None:
    results = shutil.copytree(RESULTS, tmp_path / "results")
    (results / f"{name}.png").unlink()
    plots.draw(results)
    with Image.open(results / f"{name}.png") as drawn, Image.open(RESULTS / f"{name}.png") as kept:
        assert drawn.size == kept.size
