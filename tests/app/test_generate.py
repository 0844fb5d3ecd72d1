from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import longtake
from longtake.app import generate
from longtake.app.cli import main
from longtake.app.recording import Recording
from longtake.app.repeat import command_line
from longtake.app.stored import read_take
from longtake.models.video import text_load

LAUNCH = Path(__file__).parents[2] / "launch.py"


def run(capsys, *arguments):
    """Run the command in this process: exit code, lines of stdout, stderr."""
    code = main(["generate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out.strip().splitlines(), captured.err


@pytest.fixture
def options(tiny_model, tmp_path):
    return ["--model", tiny_model, "--dtype", "fp32", "--out", tmp_path / "film.mp4"]


def test_a_film_from_prompts_and_its_summary(capsys, options, tmp_path, read_film):
    code, lines, err = run(
        capsys, *options, "--prompt", "a red ball", "--prompt", "@1.5s night falls",
        "--seconds", "3.3", "--seed", "7", "--json", "--verbose",
    )  # fmt: skip
    (line,) = lines
    summary = json.loads(line)
    assert code == 0
    assert (summary["frames"], summary["seconds"], summary["seed"]) == (26, 3.25, 7)
    assert {"fps", "first_frame_s", "switch_s", "peak_memory_mb", "model", "sha256"} <= set(summary)
    assert summary["fps"] > 0
    assert summary["switch_s"] > 0
    assert "film.mp4: 26 frames" in err
    film = read_film(tmp_path / "film.mp4")
    assert film.frames == 26
    assert film.chapters == [(0.0, "a red ball"), (2.0, "night falls")]
    assert film.about["seed"] == 7


@pytest.fixture
def folding(tiny_model, tmp_path):
    """A model folder that reads a film's prompts together."""
    folder = shutil.copytree(tiny_model, tmp_path / "folds")
    config = json.loads((folder / "streaming.json").read_text("utf-8")) | {"prompts": 64}
    (folder / "streaming.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.fixture
def make_take(tmp_path):
    """A recorded take: the digest of its frames, and the command that makes it again."""

    def make(folder, prompts, seconds):
        place, digest = tmp_path / "take", hashlib.sha256()
        place.mkdir()
        with longtake.open(folder, dtype="fp32") as model:
            (first, _), *later = prompts
            take = model.take(first)
            for text, at in later:
                take.prompt(text, at=at)
            shape = model.shape
            recording = Recording(
                place, shape["width"], shape["height"], model.rate, take.about, folder
            )
            for frame in take.frames(seconds):
                recording.write(frame.pixels, frame.index, take.log)
                digest.update(frame.pixels.tobytes())
            recording.close()
        return digest.hexdigest(), command_line(read_take(place))[0]

    return make


def test_prompts_of_one_time_all_count_and_the_command_of_the_take_says_them(
    capsys, folding, tmp_path, make_take
):
    script = tmp_path / "script.jsonl"
    lines = [(0, "a red ball"), (1.2, "it starts to snow"), (1.2, "night falls"), (1.3, "blue")]

    def film(*kept):
        cues = [{"at": lines[index][0], "prompt": lines[index][1]} for index in kept]
        script.write_text("".join(json.dumps(cue) + "\n" for cue in cues), "utf-8")
        code, said, err = run(
            capsys, "--model", folding, "--dtype", "fp32", "--out", tmp_path / "film.mp4",
            "--script", script, "--seconds", "3", "--json",
        )  # fmt: skip
        assert code == 0
        assert "newest" not in err
        return json.loads(said[-1])["sha256"]

    digest = film(0, 1, 2, 3)
    assert len({digest, film(0, 2, 3), film(0, 1, 3), film(0, 1, 2), film(0, 2, 1, 3)}) == 5
    taken, line = make_take(folding, [(text, at) for at, text in lines], 3)
    assert taken == digest
    words = shlex.split(line)[3:]
    code, said, _ = run(capsys, *words, "--out", tmp_path / "again.mp4", "--json")
    assert (code, json.loads(said[-1])["sha256"]) == (0, digest)


def test_asked_to_it_says_how_the_prompts_were_read(capsys, options, rewriting_model, tmp_path):
    prompts = ["--prompt", "a red boat", "--prompt", "@1s night falls", "--prompt", "@1s it snows"]
    out = ["--dtype", "fp32", "--out", tmp_path / "film.mp4", "--seconds", "2", "--verbose"]
    code, lines, _ = run(capsys, "--model", rewriting_model, *out, *prompts)
    told = [line for line in lines if "read as" in line]
    assert code == 0
    (scene,) = [line for line in lines if "by the seed" in line]
    assert re.search(r"that is: a \w+ red boat .*, at night while it snows, the camera", scene)
    assert told == [
        "from 0 s on the prompt was read as: a red boat",
        "from 1 s on the prompt was read as: a red boat, at night while it snows",
    ]
    # Pictures that it begins with show what is left open.
    Image.new("RGB", (24, 16)).save(tmp_path / "start.png")
    begun = [*out[:4], "--start", tmp_path / "start.png", *prompts, "--seconds", "2", "--verbose"]
    code, lines, _ = run(capsys, "--model", rewriting_model, *begun)
    assert code == 0
    assert [line for line in lines if "read as" in line] == told
    assert not any("by the seed" in line for line in lines)
    code, lines, _ = run(capsys, *options, "--prompt", "a red ball", "--seconds", "1", "--verbose")
    assert code == 0
    assert not any("read as" in line or "by the seed" in line for line in lines)


def test_a_model_that_reads_one_prompt_says_which_of_one_time_it_is(capsys, options):
    made = []
    for prompts in (["a red ball", "@1s snow", "@1s night"], ["a red ball", "@1s night"]):
        words = [word for prompt in prompts for word in ("--prompt", prompt)]
        code, lines, err = run(capsys, *options, *words, "--seconds", "2", "--json")
        assert code == 0
        made.append((json.loads(lines[-1])["sha256"], "of those at 1 s" in err))
    assert made[0][0] == made[1][0]
    assert [said for _, said in made] == [True, False]


def test_loading_counts_from_the_start_of_the_command(capsys, options, monkeypatch):
    film = generate.generate
    monkeypatch.setattr(generate, "generate", lambda parsed, began: film(parsed, began - 60))
    _, lines, _ = run(capsys, *options, "--prompt", "a red ball", "--seconds", "1", "--json")
    assert json.loads(lines[-1])["load_s"] > 60


def test_words_the_model_never_met_are_named_with_the_nearest_one(capsys, options):
    _, lines, err = run(
        capsys,
        *options,
        "--prompt",
        "a red bal",
        "--prompt",
        "@1s xylophone snow",
        "--seconds",
        "2",
    )
    assert 'this model passes over words it never met: "bal" (ball?)\n' in err
    assert 'this model passes over words it never met: "xylophone"\n' in err
    assert "16 frames" in lines[0]
    _, _, err = run(capsys, *options, "--prompt", "a red ball", "--seconds", "1")
    assert "never met" not in err


def test_a_lora_makes_another_film(capsys, options, tmp_path):
    torch.manual_seed(0)
    layer = "transformer.blocks.0.attn1.to_q"
    pair = {f"{layer}.lora_{which}.weight": torch.randn(32, 32) for which in "AB"}
    save_file(pair, tmp_path / "lora.safetensors")
    command = [*options, "--prompt", "a red ball", "--seconds", "1", "--json"]
    digests = set()
    for scale in ("0", "1"):
        lora = ["--lora", tmp_path / "lora.safetensors", "--lora-scale", scale]
        _, lines, _ = run(capsys, *command, *lora)
        digests.add(json.loads(lines[-1])["sha256"])
    assert len(digests) == 2
    code, _, err = run(capsys, *command, "--lora", tmp_path / "nowhere")
    assert code == 2
    assert "there is no LoRA" in err


def test_the_same_command_makes_the_same_bytes_and_keeps_the_earlier_film(
    capsys, options, tmp_path
):
    command = [*options, "--prompt", "a red ball", "--seconds", "2", "--json"]
    digests = []
    for _ in range(2):
        _, lines, err = run(capsys, *command)
        digests.append(json.loads(lines[-1])["sha256"])
    assert digests[0] == digests[1]
    assert "it is now" in err
    assert (tmp_path / "film.1.mp4").is_file()
    _, lines, _ = run(capsys, *command, "--seed", "9")
    other = json.loads(lines[-1])
    assert other["sha256"] != digests[0]
    assert other["switch_s"] is None


@pytest.mark.parametrize("switch", ["recache", "keep", "flush"])
def test_every_way_to_switch(capsys, options, switch):
    code, _, _ = run(
        capsys, *options, "--prompt", "a red ball", "--prompt", "@1s snow", "--seconds", "3",
        "--switch", switch, "--steps", "auto", "--window", "2", "--sink", "0",
    )  # fmt: skip
    assert code == 0


def test_scripts_in_both_forms(capsys, options, tmp_path, read_film):
    script = tmp_path / "script.jsonl"
    script.write_text('{"prompts": ["a red ball", "night falls"]}')
    assert run(capsys, *options, "--script", script, "--every", "1", "--seconds", "2")[0] == 0
    assert [at for at, _ in read_film(tmp_path / "film.mp4").chapters] == [0.0, 1.0]


def test_prompts_can_be_left_out_of_the_file(capsys, options, tmp_path):
    run(capsys, *options, "--prompt", "a red ball", "--seconds", "1", "--no-metadata")
    content = (tmp_path / "film.mp4").read_bytes()
    assert b"red ball" not in content
    assert b'"seed"' in content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", ""], "the prompt is empty"),
        (["--prompt", "x" * 100_000], "100,000 characters"),
        (["--prompt", "a", "--prompt", "@5s b", "--prompt", "@4s c"], "does not come after"),
        (["--prompt", "a", "--prompt", "@50s b"], "beyond the end"),
        (["--prompt", "a", "--prompt", "@1s "], "time of the prompt"),
        (["--prompt", "a", "--prompt", "@1s " + "x" * 100_000], "100,000 characters"),
        (["--script", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--prompt", "a", "--seconds", "0"], "a length of 0 s"),
        (["--prompt", "a", "--seconds", "-3"], "a length of -3 s"),
        (["--prompt", "a", "--seconds", "nan"], "a length of nan s"),
        (["--prompt", "a", "--seconds", "0.01"], "no frame"),
        (["--prompt", "a", "--steps", "0"], "steps is 0"),
        (["--prompt", "a", "--window", "1"], "window is 1"),
        (["--prompt", "a", "--sink", "-1"], "sink is -1"),
        (["--prompt", "a", "--model", "nowhere"], "no model folder nowhere"),
        (["--prompt", "a", "--device", "cuda"], "no CUDA device"),
        (["--prompt", "a", "--out", "nowhere/film.mp4"], "no folder nowhere"),
        (["--prompt", "a", "--out", "film.mkv"], "does not end in .mp4"),
    ],
)
def test_bad_input_gets_one_clear_sentence_and_leaves_nothing(
    capsys, options, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    code, lines, err = run(capsys, *options, *arguments)
    assert code == 2
    assert words in err
    assert not lines
    assert "Traceback" not in err
    assert err.startswith("longtake: ")
    assert len([line for line in err.splitlines() if line.startswith("longtake:")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_was_there_outlives_bad_input(capsys, options, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"precious")
    assert run(capsys, *options, "--prompt", "a", "--steps", "99")[0] == 2
    assert film.read_bytes() == b"precious"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_film_is_playable_and_said_where(options, tmp_path, read_film, sent):
    command = [*map(str, options), "--prompt", "a red ball", "--seconds", "3600"]
    process = subprocess.Popen(
        [sys.executable, str(LAUNCH), "generate", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    film = tmp_path / "film.mp4"
    # The file appears with the first frame; then the film is being made.
    while not (film.exists() and film.stat().st_size > 20_000):
        assert process.poll() is None, process.communicate()[1]
    process.send_signal(sent)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert str(film) in out
    frames = int(out.split(": ")[1].split(" ")[0])
    read = read_film(film)
    assert read.frames == frames
    assert read.chapters == [(0.0, "a red ball")]


def test_the_text_encoder_may_be_offloaded_and_a_known_prompt_needs_none(
    capsys, options, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [*options, "--prompt", "a red ball", "--seconds", "1", "--json"]
    command += ["--offload", "text-once"]
    _, lines, _ = run(capsys, *command)
    first = json.loads(lines[-1])
    assert first["conditions"]["offload"] == "text-once"
    monkeypatch.setattr(text_load, "_model", pytest.fail)
    _, lines, _ = run(capsys, *command)
    assert json.loads(lines[-1])["sha256"] == first["sha256"]
