"""The command that serves the studio."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from longtake.app.cli import main
from longtake.app.options import parser
from longtake.app.studio.listening import listen
from longtake.app.studio.settings import StudioSettings

LAUNCH = Path(__file__).parents[2] / "launch.py"


def test_it_serves_until_it_is_interrupted(tiny_model, tmp_path):
    command = [sys.executable, str(LAUNCH), "--port", "0", "--model", str(tiny_model)]
    with subprocess.Popen(
        [*command, "--takes", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as server:  # fmt: skip
        try:
            said = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
            with urllib.request.urlopen(f"{address}health", timeout=60) as response:
                assert json.load(response)["model"] == "tiny"
        finally:
            server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=60)[1]
    assert server.returncode == 130
    assert "longtake: stopped" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_named_with_a_way_on(capsys):
    with listen(StudioSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1" in said
    assert f"--port {port + 1}" in said


def test_a_port_that_is_taken_is_told_before_anything_is_loaded():
    code = (
        "import sys\n"
        "from longtake.app.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(sorted({'torch', 'gradio', 'transformers'} & sys.modules.keys()))\n"
        "sys.exit(code)"
    )
    with listen(StudioSettings(port=0)) as taken:
        command = [sys.executable, "-c", code, "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert "choose another port" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sessions", "0", "'0' is no number of films: use a whole number from 1 to 1000"),
        ("--sessions", "two", "'two' is no number of films: use a whole number from 1 to 1000"),
        ("--port", "99999", "'99999' is no port: use a whole number from 0 to 65535"),
        ("--port", "-1", "'-1' is no port: use a whole number from 0 to 65535"),
        ("--idle", "-5", "'-5' is no number of seconds: use one from 1 to 10,000,000"),
        ("--idle", "nan", "'nan' is no number of seconds: use one from 1 to 10,000,000"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_a_sentence(option, value, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main([f"{option}={value}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument {option}: {said}\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-cert", "no.pem"], "one of --tls-cert and --tls-key is missing"),
        (["--tls-cert", "no.pem", "--tls-key", "no.key"], "there is no file no.pem"),
        (
            ["--tls-cert", __file__, "--tls-key", __file__],
            "are no certificate and its key",
        ),
        (["--host", "192.0.2.1", "--port", "0"], "port 0 of 192.0.2.1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, said, capsys):
    assert main(["serve", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("witness", ["nowhere", "tiny_model"])
def test_a_witness_that_is_none_is_told_of_before_anybody_watches(
    request, tiny_model, tmp_path, witness, capsys
):
    folder = tmp_path / witness if witness == "nowhere" else request.getfixturevalue(witness)
    options = ["--port", "0", "--model", str(tiny_model), "--takes", str(tmp_path)]
    assert main([*options, "--witness", str(folder)]) == 2
    said = capsys.readouterr()
    assert str(folder) in said.err
    assert "give a Qwen2.5-VL folder" in said.err
    assert "open http" not in said.out


def test_the_defaults_are_this_machine_and_one_visitor():
    options = parser().parse_args(["serve"])
    assert (options.host, options.port, options.sessions) == ("127.0.0.1", 7860, 1)
