"""Models fetched from a mirror of the hub on loopback, and all that can go wrong with that."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from longtake.app import catalogue
from longtake.app.catalogue import Known, find_captioner
from longtake.app.cli import main
from longtake.streaming import StreamError

REPO = "someone/some-model"
WEIGHTS = bytes(range(256)) * 4000
FILES = {
    "config.json": b'{"model_type": "qwen2_5_vl"}',
    "part/weights-1.safetensors": WEIGHTS,
    "part/weights-2.safetensors": WEIGHTS[::-1],
    "README.md": b"not ours",
}
TINY = Known(
    "tiny", "a tiny model", "CC-BY-NC-SA-4.0", 2_048_000, REPO,
    ("config.json", "part/weights-*.safetensors"), commercial=False, captioner="tiny",
)  # fmt: skip


class Mirror:
    """What the hub answers for one repository.

    Attributes:
        url: of it.
        sent: for each file asked for, its name and the byte from which.
        cut: bytes of an answer after which the connection is broken, by file.
        spoilt: files that come with another content of the same size.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.cut: dict[str, int] = {}
        self.spoilt: set[str] = set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path == f"/api/models/{REPO}":
            return self.say(request, 200, json.dumps(self.listing()).encode())
        prefix = f"/{REPO}/resolve/{'c' * 40}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in FILES:
            return self.say(request, 404, b"no such file")
        first = int(request.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        self.sent.append((name, first))
        content = FILES[name][::-1] if name in self.spoilt else FILES[name]
        status = 206 if first else 200
        return self.say(request, status, content[first:], self.cut.get(name), len(content))

    def listing(self) -> dict:
        siblings = []
        for name, content in FILES.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith(".safetensors"):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": REPO, "sha": "c" * 40, "siblings": siblings}

    def say(self, request, status, body, cut=None, whole=None) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if status == 206:
            start = whole - len(body)
            request.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        request.end_headers()
        request.wfile.write(body[:cut])
        if cut is not None:
            request.close_connection = True


@pytest.fixture
def mirror(monkeypatch):
    """A mirror that the hub's library asks; retries come at once."""
    served = Mirror()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)
    at_once = SimpleNamespace(sleep=lambda _: None)
    monkeypatch.setattr("huggingface_hub.file_download.time", at_once)
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of the only model that is known, besides what is bundled."""
    monkeypatch.setenv("LONGTAKE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(catalogue, "_table", lambda: {"models": [asdict(TINY)]})
    return tmp_path / "models" / "tiny"


@pytest.fixture
def run(capsys):
    """The command, with exit code, stdout and the last line of stderr."""

    def run(*arguments):
        code = main(["models", *map(str, arguments)])
        captured = capsys.readouterr()
        said = captured.err.splitlines()
        return code, captured.out, said[-1] if said else "", captured.err

    return run


@pytest.fixture
def refused(run):
    """That it ends with one sentence that holds some words."""

    def check(*arguments, words):
        code, out, last, everything = run(*arguments)
        assert (code, out) == (2, "")
        assert last.startswith("longtake: ")
        assert "Traceback" not in everything
        for word in words:
            assert word in last
        return last

    return check


def here(place):
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


OURS = {name: content for name, content in FILES.items() if name != "README.md"}


def test_a_model_is_fetched_and_its_licence_told_first(run, mirror, place, monkeypatch):
    monkeypatch.setenv("TQDM_POSITION", "-1")  # progress though there is no terminal
    code, out, _, said = run("pull", "tiny")
    assert (code, out) == (0, f"tiny is in {place}: --model tiny\n")
    first = said.splitlines()[0]
    assert first.startswith("tiny: CC-BY-NC-SA-4.0, which is not for commercial use; its card: ")
    assert "part/weights-1.safetensors: 100%" in said
    assert here(place) == OURS
    assert sorted(mirror.sent) == [(name, 0) for name in sorted(OURS)]


def test_what_is_here_is_checked_and_not_fetched_again(run, mirror, place):
    run("pull", "tiny")
    (place / "config.json").write_bytes(b"spoilt")
    weights = place / "part" / "weights-2.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    mirror.sent.clear()
    assert run("pull", "tiny")[0] == 0
    assert here(place) == OURS
    assert sorted(mirror.sent) == [("config.json", 0), ("part/weights-2.safetensors", 0)]


def test_a_broken_connection_is_made_again_and_goes_on(run, mirror, place):
    mirror.cut["part/weights-1.safetensors"] = 600_000
    assert run("pull", "tiny")[0] == 0
    assert here(place) == OURS
    firsts = [first for name, first in mirror.sent if name == "part/weights-1.safetensors"]
    assert firsts == [0, 600_000]


def test_an_interrupted_pull_goes_on_where_it_was(run, refused, mirror, place, monkeypatch):
    name = "part/weights-1.safetensors"
    mirror.cut[name] = 600_000
    real = Mirror.say

    def gone(self, request, status, body, cut=None, whole=None):
        """The connection is lost for good after its first bytes."""
        real(self, request, status, body, 0 if status == 206 else cut, whole)

    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "say", gone)
        said = refused("pull", "tiny", words=[f"{name} came to 0.6 MB of 1.0 MB"])
        assert said.endswith("run `python launch.py models pull tiny` again, it goes on from there")
    assert (place / f"{name}.part").stat().st_size == 600_000
    assert "tiny" in run()[1]
    assert "not whole: it lacks part/weights-*.safetensors" in run()[1]
    mirror.cut.clear()
    mirror.sent.clear()
    assert run("pull", "tiny")[0] == 0
    assert here(place) == OURS
    assert mirror.sent == [(name, 600_000), ("part/weights-2.safetensors", 0)]


@pytest.mark.parametrize("name", ["config.json", "part/weights-2.safetensors"])
def test_a_wrong_checksum_is_told_and_the_file_deleted(name, refused, run, mirror, place):
    mirror.spoilt.add(name)
    words = [f"{name} of {REPO} came with another checksum, and was deleted", "pull again"]
    refused("pull", "tiny", words=words)
    assert name not in here(place)
    assert f"{name}.part" not in here(place)
    mirror.spoilt.clear()
    assert run("pull", "tiny")[0] == 0
    assert here(place) == OURS


def test_room_on_the_disk_is_looked_for_before_anything_is_fetched(
    refused, mirror, place, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    words = ["tiny takes 2.0 MB more", f"{place} has room for 2.0 MB", "LONGTAKE_MODELS"]
    refused("pull", "tiny", words=words)
    assert mirror.sent == []
    # What is here counts as here.
    (place / "part").mkdir()
    (place / "part" / "weights-1.safetensors.part").write_bytes(WEIGHTS[:100_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_950_000))
    assert main(["models", "pull", "tiny"]) == 0


def test_a_disk_that_fills_up_is_told(refused, mirror, place, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("longtake.app.pull.http_get", full)
    refused("pull", "tiny", words=["cannot be written (No space left on device)", "make room"])


def test_a_folder_that_cannot_be_made_is_told(refused, mirror, place):
    place.parent.parent.mkdir(exist_ok=True)
    place.parent.write_text("a file")
    refused("pull", "tiny", words=[f"{place} cannot be written"])


def test_offline_it_says_which_files_to_put_where(refused, mirror, place, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    by_hand = [
        "config.json, part/weights-*.safetensors",
        f"from https://huggingface.co/{REPO}",
        f"put them into {place}",
        "--from",
        "HF_ENDPOINT",
    ]
    refused("pull", "tiny", words=["cannot be asked for", *by_hand])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    mirror.server.shutdown()
    mirror.server.server_close()
    refused("pull", "tiny", words=[f"{mirror.url} cannot be asked for {REPO}", *by_hand])


def test_files_put_there_by_hand_are_here(run, mirror, place):
    for name, content in OURS.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    assert str(place) in run()[1]
    assert "not whole" not in run()[1]
    assert run("pull", "tiny")[0] == 0
    assert mirror.sent == []


def test_a_model_is_taken_from_a_folder(run, refused, place, tmp_path):
    source = tmp_path / "stick"
    (source / "part").mkdir(parents=True)
    (source / "config.json").write_bytes(FILES["config.json"])
    (source / "README.md").write_bytes(FILES["README.md"])
    words = [f"{source} lacks part/weights-*.safetensors", REPO]
    refused("pull", "tiny", "--from", source, words=words)
    refused("pull", "tiny", "--from", tmp_path / "no", words=["there is no folder"])
    for name in ("part/weights-1.safetensors", "part/weights-2.safetensors"):
        (source / name).write_bytes(FILES[name])
    assert run("pull", "tiny", "--from", source)[0] == 0
    assert here(place) == OURS


def test_a_shard_that_an_index_names_is_missed(place):
    place.mkdir(parents=True)
    for name in ("config.json", "part/weights-1.safetensors"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(OURS[name])
    index = {"weight_map": {"a": "weights-1.safetensors", "b": "weights-2.safetensors"}}
    (place / "part" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert TINY.missing() == ["part/weights-2.safetensors"]
    (place / "part" / "model.safetensors.index.json").write_text("[")
    assert TINY.missing() == []  # whoever loads it tells of that


def test_a_mirror_names_no_files_elsewhere(run, mirror, place, monkeypatch):
    assert TINY.holds("part/weights-7.safetensors")
    assert not TINY.holds("part/weights-/../../../weights-7.safetensors")
    assert not TINY.holds("elsewhere/config.json")
    evil = "part/weights-/../../../../evil.safetensors"
    monkeypatch.setitem(FILES, evil, b"evil")
    assert run("pull", "tiny")[0] == 0
    assert evil not in [name for name, _ in mirror.sent]
    assert here(place) == OURS


def test_removing_asks_first(run, refused, mirror, place, monkeypatch):
    assert run("remove", "tiny")[1] == "tiny is not here\n"
    run("pull", "tiny")
    monkeypatch.setattr("sys.stdin.readline", lambda: "\n", raising=False)
    code, out, *_ = run("remove", "tiny")
    assert code == 0
    assert out.endswith("[y/N] nothing was removed\n")
    assert here(place) == OURS
    assert run("remove", "tiny", "--yes")[1] == "removed tiny, 0.00 GB\n"
    assert not place.exists()


def test_a_captioner_is_found_by_its_name_and_its_repositorys(mirror, place, run):
    assert find_captioner("elsewhere/other") == "elsewhere/other"
    assert find_captioner(REPO) == REPO  # not here: the hub's library fetches it
    with pytest.raises(StreamError, match="tiny is not here: run `python"):
        find_captioner("tiny")
    run("pull", "tiny")
    assert find_captioner("tiny") == find_captioner(REPO) == place
    assert find_captioner(place.parent) == place.parent
