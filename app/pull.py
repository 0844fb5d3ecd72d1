"""Fetching a model's files: from the Hugging Face hub, a mirror of it, or a folder.

Files go where a person could put them by hand. Each is fetched beside its place, so that an
interrupted one goes on where it was (the hub's own download begins a file again), and takes its
place once its checksum is right.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
from huggingface_hub.utils.sha import git_hash

from longtake.app.catalogue import PLACE_VARIABLE, Known, page
from longtake.app.outputs import unwritable
from longtake.models.memory import in_words
from longtake.streaming import StreamError

_FULL_HINT = f"make room, or say another place with {PLACE_VARIABLE}; what was fetched is kept"


@dataclass(frozen=True)
class _Remote:
    """A file of a repository.

    Attributes:
        name: its path there.
        url: to fetch it from.
        size: in bytes.
        sha256: of its content; None for a small file, of which only git's hash is known.
        blob: git's hash of it.
    """

    name: str
    url: str
    size: int
    sha256: str | None
    blob: str

    def matches(self, path: Path) -> bool:
        """Whether a file is there and is this one."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256 is None:
            return git_hash(path.read_bytes()) == self.blob
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def pull(model: Known) -> None:
    """Fetch what of a model is not here yet; what is here is checked.

    Progress goes to stderr. The hub is that of ``HF_ENDPOINT``.

    Raises:
        StreamError: ``no_download``: the hub cannot be reached, or no more (run it again: it goes
            on where it was); ``bad_download``: a file has another checksum, and is deleted;
            ``disk_full``, ``bad_output``: the disk.
    """
    wanted = [each for each in _listing(model) if not each.matches(model.folder / each.name)]
    with _disk(model):
        _check_room(model, sum(each.size - _fetched(model, each) for each in wanted))
        for remote in wanted:
            _fetch(model, remote)


def copy(model: Known, source: Path) -> None:
    """Take a model's files from a folder, in which they are named as in the repository.

    Raises:
        StreamError: ``no_download``: the folder lacks some, named; ``disk_full``, ``bad_output``.
    """
    paths = {path.relative_to(source).as_posix(): path for path in source.rglob("*")}
    files = {name: path for name, path in paths.items() if path.is_file() and model.holds(name)}
    if absent := [file for file in model.files if not any(source.glob(file))]:
        hint = f"they are named there as in {page(model.repo)}"
        raise StreamError("no_download", f"{source} lacks {', '.join(absent)}", hint)
    with _disk(model):
        _check_room(model, sum(path.stat().st_size for path in files.values()))
        for name, path in files.items():
            target = model.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = _beside(target)
            shutil.copyfile(path, part)
            part.replace(target)


def _listing(model: Known) -> Sequence[_Remote]:
    """The model's files in its repository, all of one revision."""
    api = HfApi()
    try:
        info = api.model_info(model.repo, files_metadata=True)
    except Exception as error:  # the hub's own, the connection's
        problem = f"{api.endpoint} cannot be asked for {model.repo} ({_reason(error)})"
        raise StreamError("no_download", problem, _by_hand(model)) from None
    address = partial(hf_hub_url, model.repo, revision=info.sha, endpoint=api.endpoint)
    return [
        _Remote(
            each.rfilename,
            address(each.rfilename),
            each.size or 0,
            each.lfs.sha256 if each.lfs else None,
            each.blob_id or "",
        )
        for each in info.siblings or ()
        if model.holds(each.rfilename)
    ]


def _fetch(model: Known, remote: _Remote) -> None:
    target = model.folder / remote.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target)
    if _fetched(model, remote) > remote.size:
        part.unlink()
    with part.open("ab") as file:
        try:
            http_get(
                remote.url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(),
                expected_size=remote.size,
                displayed_filename=remote.name,
            )
        except OSError as error:
            if error.errno is not None:
                raise  # the disk's
            raise _lost(model, remote, error, file.tell()) from None
        except Exception as error:  # the connection's
            raise _lost(model, remote, error, file.tell()) from None
    if not remote.matches(part):
        part.unlink()
        problem = f"{remote.name} of {model.repo} came with another checksum, and was deleted"
        hint = "pull again; if it comes so again, the mirror or the way to it is not to be trusted"
        raise StreamError("bad_download", problem, hint)
    part.replace(target)


def _fetched(model: Known, remote: _Remote) -> int:
    """Bytes of a file that an interrupted pull left."""
    part = _beside(model.folder / remote.name)
    return part.stat().st_size if part.is_file() else 0


def _beside(target: Path) -> Path:
    """Where a file is until it is whole."""
    return target.with_name(f"{target.name}.part")


def _check_room(model: Known, needed: int) -> None:
    model.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(model.folder).free
    if needed > free:
        problem = f"{model.name} takes {in_words(needed)} more, and {model.folder} has room for"
        raise StreamError("disk_full", f"{problem} {in_words(free)}", _FULL_HINT)


def _lost(model: Known, remote: _Remote, error: Exception, got: int) -> StreamError:
    problem = f"{remote.name} came to {in_words(got)} of {in_words(remote.size)}"
    hint = f"run `python launch.py models pull {model.name}` again, it goes on from there"
    return StreamError("no_download", f"{problem} ({_reason(error)})", hint)


def _by_hand(model: Known) -> str:
    names = ", ".join(model.files)
    return (
        f"fetch {names} from {page(model.repo)} elsewhere and put them into {model.folder}, or "
        "take them from a folder with --from; HF_ENDPOINT names a mirror"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _disk(model: Known) -> Iterator[None]:
    """Failures of the disk, for a person to read."""
    try:
        yield
    except OSError as error:
        raise unwritable(model.folder, error, _FULL_HINT) from None
