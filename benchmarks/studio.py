"""The studio with a real browser on the same machine: what the person in front of it waits for."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright

from longtake.benchmarks.film import command_line
from longtake.benchmarks.report import RESULTS, show, write_result

CHANGES = ("night falls", "it starts to snow", "the sun comes up", "the sky clears", "it rains")
PATIENCE_MS = 120_000
"""For what usually takes a second or two."""
_WATCH = """stage => {
    stage.shownAt = [];
    const { view } = stage, before = view.onShown;
    view.onShown = (frame) => { stage.shownAt.push(performance.now()); before(frame); };
}"""
_LAST = "document.querySelector('longtake-stage').receipts.all.at(-1)"


@contextmanager
def served(takes: Path) -> Iterator[tuple[str, int]]:
    """The address of a studio of its own, and its process."""
    command = command_line("serve", "--port", "0", "--takes", str(takes))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[1], process.pid
        finally:
            process.terminate()


@contextmanager
def watched(url: str, browser: str) -> Iterator[Page]:
    """The studio's page in a browser, once its film plays."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.wait_for_function("document.querySelector('longtake-stage')?.view?.shown")
        page.locator("longtake-stage").evaluate(_WATCH)
        yield page
        chromium.close()


def change_prompts(page: Page, count: int) -> dict[str, float]:
    """Type prompts and wait until each is seen; in seconds and milliseconds."""
    stage, box = page.locator("longtake-stage"), page.locator("longtake-stage [name=text]")
    seen, accepted, added = [], [], []
    rng = random.Random(0)
    for index in range(count):
        box.fill(CHANGES[index % len(CHANGES)])
        box.press("Enter")
        page.wait_for_function(f"{_LAST}.state === 'seen'")
        receipt = page.evaluate(_LAST)
        # The next measurements tell how long the engine alone took.
        reaction = stage.evaluate(
            """stage => new Promise((resolve) => {
                const tell = () => resolve(stage.metrics.reaction);
                stage.addEventListener("longtake-metrics", tell, { once: true });
            })"""
        )
        seen.append(receipt["seen"] / 1000)
        accepted.append(receipt["accepted"])
        added.append(receipt["seen"] - 1000 * reaction)
        # Prompts come at any moment of a chunk.
        time.sleep(rng.random())
    return {
        "prompt_p50_s": statistics.median(seen),
        "prompt_p95_s": _p95(seen),
        "accepted_p50_ms": statistics.median(accepted),
        "added_p50_ms": statistics.median(added),
    }


def play(page: Page, server: int, minutes: float) -> dict[str, float]:
    """Let the film run: how evenly, and what it adds to memory after its first minute."""
    stage, held = page.locator("longtake-stage"), []
    fps, speeds = [], []
    stage.evaluate("stage => { stage.shownAt = []; }")
    for _ in range(max(2, round(minutes))):
        page.wait_for_timeout(60_000)
        metrics = stage.evaluate("stage => stage.metrics")
        fps.append(metrics["fps"])
        speeds.append(metrics["speed"])
        browser = [each for each in _children()[os.getpid()] if each != server]
        held.append((_memory_mb(server), _memory_mb(*browser)))
    shown = stage.evaluate("stage => stage.shownAt")
    frame = 1000 / stage.evaluate("stage => stage.session.ready.rate") / statistics.median(speeds)
    gaps = [after - before for before, after in pairwise(shown)]
    return {
        "fps": statistics.median(fps),
        "speed": statistics.median(speeds),
        "shown_fps": 1000 * len(gaps) / (shown[-1] - shown[0]),
        "jitter_p95_frames": _p95([abs(gap - frame) / frame for gap in gaps]),
        "server_mb": held[0][0],
        "server_growth_mb": held[-1][0] - held[0][0],
        "browser_mb": held[0][1],
        "browser_growth_mb": held[-1][1] - held[0][1],
    }


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _children() -> dict[int, list[int]]:
    """Process -> those it started, from Linux's /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        children.setdefault(parent, []).append(int(folder.name))
    return children


def _memory_mb(*processes: int) -> float:
    """Proportional memory of processes and all those they started."""
    children, total, left = _children(), 0, list(processes)
    while left:
        process = left.pop()
        left += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=50, help="prompts typed, at least two")
    parser.add_argument("--minutes", type=float, default=10, help="of film after them")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path, default=RESULTS / "studio_cpu.json")
    options = parser.parse_args()
    if options.changes < 2:
        parser.error("--changes has to be at least 2: there is a 95th percentile of them")
    with (
        tempfile.TemporaryDirectory() as takes,
        served(Path(takes)) as (url, server),
        watched(url, options.browser) as page,
    ):
        metrics = change_prompts(page, options.changes) | play(page, server, options.minutes)
    write_result(options.out, "-m longtake.benchmarks.studio", torch.device("cpu"), metrics)
    show(metrics)


if __name__ == "__main__":
    main()
