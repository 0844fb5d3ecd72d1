from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from longtake.app.cli import main


@pytest.fixture
def run(takes, capsys, monkeypatch):
    """Run the command on a folder: exit code, stdout, stderr."""

    def command(*arguments, answer=""):
        monkeypatch.setenv("LONGTAKE_TAKES", str(takes.path))
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        code = main(["takes", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def made(takes, begin, record):
    """The names of a finished take of 2.5 s, an interrupted one and one that is being made."""
    recordings = [begin(takes) for _ in range(3)]
    for recording in recordings:
        record(recording, range(20), (0, "a red\nball " + "and grass " * 20), (1, "night"))
        recording.cut()
    recordings[0].close()
    recordings[1]._journal.close()  # as when its process ends
    yield [recording.folder.name for recording in recordings]
    recordings[2].close()


def test_an_empty_folder_is_listed_with_its_place(run, takes):
    assert run() == (0, f"0 takes, 0.0 MB, in {takes.path}\n", "")
    assert run("--clean") == (0, f"there is nothing to remove in {takes.path}\n", "")
    assert not takes.path.exists()


def test_takes_are_listed_the_newest_first(run, takes, made):
    takes.keep(made[1])
    code, out, err = run()
    total, _, head, *lines = out.splitlines()
    assert (code, err) == (0, "")
    assert total.startswith("3 takes, 0.0 MB, in ")
    assert head.split() == ["TAKE", "LENGTH", "SIZE", "STATE", "FIRST", "PROMPT"]
    assert [line.split()[0] for line in lines] == made[::-1]
    for line, state in zip(lines, ("being made", "interrupted, kept", "finished"), strict=True):
        assert f"2.5 s     0.0 MB  {state:17}  a red ball and grass" in line
        assert line.endswith("…")


def test_cleaning_asks_first_and_leaves_what_is_kept_or_being_made(run, takes, made):
    for answer in ("", "n\n", "what?\n"):
        code, out, _ = run("--clean", answer=answer)
        assert code == 0
        assert out.startswith("Remove 2 takes, 0.0 MB, in ")
        assert out.endswith("? [y/N] nothing was removed\n")
    assert len(takes.takes()) == 3
    code, out, _ = run("--keep", made[1])
    assert (code, out) == (0, f"{made[1]} is kept until you remove it\n")
    code, out, _ = run("--clean", answer="y\n")
    assert "removed 1 take, " in out
    assert [take.name for take in takes.takes()] == [made[2], made[1]]


def test_takes_are_removed_by_name_without_asking_where_that_is_wished(run, takes, made):
    takes.keep(made[1])
    code, out, _ = run("--clean", made[1], made[1], "--yes")
    assert code == 0
    assert out.startswith("removed 1 take, ")
    assert [take.name for take in takes.takes()] == [made[2], made[0]]


@pytest.mark.parametrize(
    ("name", "frames"), [("a.mp4", 20), ("a.png", 1), ("a.gif", 20), ("last.mp4", None)]
)
def test_a_take_is_exported_and_a_file_in_the_way_is_kept(
    run, made, tmp_path, read_film, name, frames
):
    path = tmp_path / name
    path.write_bytes(b"precious")
    last = ["--last", "1"] if frames is None else []
    code, out, err = run("--export", made[1], path, *last)
    assert (code, out) == (0, f"{path}: from the take {made[1]}\n")
    assert "is now" in err
    if path.suffix == ".mp4":
        film = read_film(path)
        assert film.frames == frames or 8 <= film.frames < 16
        assert film.numbers[-1] == 19


def test_the_command_that_makes_a_take_again(run, made):
    code, out, err = run("--command-line", made[0])
    assert code == 0
    assert out.startswith("python launch.py generate --prompt ")
    assert "not the same" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--export", "nowhere", "a.mp4"], "there is no take 'nowhere' in"),
        (["--keep", "../takes"], "there is no take '../takes' in"),
        (["--clean", "nowhere", "--yes"], "there is no take 'nowhere' in"),
        (["--command-line", "nowhere"], "there is no take 'nowhere' in"),
        (["--export", "MADE", "nowhere/a.mp4"], "there is no folder nowhere"),
        (["--export", "MADE", "a.txt"], "does not end in .mp4"),
        (["--export", "MADE", "a.mp4", "--last", "-1"], "there are no last -1 s"),
        (["--clean", "OPEN", "--yes"], "is being made: end it first"),
        (["--folder", "launch.py"], "the takes folder launch.py cannot be used"),
    ],
)
def test_bad_input_gets_one_clear_sentence(
    run, made, takes, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "launch.py").write_text("")
    names = {"MADE": made[0], "OPEN": made[2]}
    code, out, err = run(*(names.get(each, each) for each in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("longtake: ")
    assert len(err.splitlines()) == 1
    assert words in err
    assert len(takes.takes()) == 3


def test_an_interrupt_leaves_quietly(run, made, monkeypatch):
    class Interrupted:
        def readline(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("io.StringIO", lambda _: Interrupted())
    code, _, err = run("--clean")
    assert (code, err) == (130, "longtake: stopped\n")


def test_takes_are_listed_without_loading_torch(takes):
    code = "import sys; from longtake.app.cli import main\n"
    code += "main(['takes']); print('torch' in sys.modules)"
    environment = os.environ | {"LONGTAKE_TAKES": str(takes.path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
