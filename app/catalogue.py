"""The models that are known: what they are, where they come from, and whether they are here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from longtake.app.places import user_data
from longtake.streaming import StreamError
from longtake.weights import CAPTIONER, GENERATOR

PLACE_VARIABLE = "LONGTAKE_MODELS"
_TABLE = Path(__file__).parent / "catalogue.json"


@dataclass(frozen=True)
class Known:
    """A model, or a part of one.

    Attributes:
        name: that people call it by.
        what: it is, in a few words.
        licence: of the weights.
        size: bytes of its files, about.
        repo: on the Hugging Face hub; empty for what is bundled.
        files: of the repository, as names or patterns.
        commercial: whether the licence allows commercial use.
        film: where it makes films, what :func:`sizes_of` calls its sizes.
        captioner: where it watches, as ``film``.
        lora: of ``files`` the one that is merged into the others.
        bundled: the folder of what comes with Longtake.
    """

    name: str
    what: str
    licence: str
    size: int
    repo: str = ""
    files: tuple[str, ...] = ()
    commercial: bool = True
    film: str = ""
    captioner: str = ""
    lora: str = ""
    bundled: Path | None = None

    @property
    def folder(self) -> Path:
        """Where it is, or would be; the files in it are named as in the repository."""
        return self.bundled or models_folder() / self.name

    def missing(self) -> list[str]:
        """Files that are not there yet: names, or patterns where the names are not known."""
        absent = [file for file in self.files if not any(self.folder.glob(file))]
        for index in self.folder.rglob("*.safetensors.index.json"):
            there = index.parent.relative_to(self.folder)
            shards = [there / shard for shard in _shards(index)]
            absent += [each.as_posix() for each in shards if not (self.folder / each).is_file()]
        return absent

    def holds(self, file: str) -> bool:
        """Whether a file of the repository, named by its path there, is one of the model's."""
        parts = file.split("/")
        patterns = [pattern.split("/") for pattern in self.files]
        # Part by part, so that no * reaches out of its folder.
        return any(
            len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern))
            for pattern in patterns
        )

    def check_here(self) -> None:
        """Raise ``StreamError`` (``no_model``) where it is not."""
        if self.missing():
            hint = f"run `python launch.py models pull {self.name}`"
            raise StreamError("no_model", f"{self.name} is not here", hint)

    def disk_bytes(self) -> int:
        """Bytes that its folder takes, what was fetched of a file included."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)

    def terms(self) -> str:
        """The licence, in a sentence that warns of one that is not for commercial use."""
        warning = "" if self.commercial else ", which is not for commercial use"
        source = f"; its card: {page(self.repo)}" if self.repo else ""
        return f"{self.name}: {self.licence}{warning}{source}"


def models_folder() -> Path:
    """Where models are put: ``$LONGTAKE_MODELS``, or ``longtake/models`` in the user's data."""
    return Path(os.environ.get(PLACE_VARIABLE) or user_data() / "models")


def page(repo: str) -> str:
    """Address of a repository's page on the Hugging Face hub."""
    return f"https://huggingface.co/{repo}"


def known_models() -> list[Known]:
    """All of them, what is bundled first."""
    bundled = [("valley", "the bundled model for films", GENERATOR)]
    if CAPTIONER.is_dir():
        bundled.append(("witness", "the bundled captioner", CAPTIONER))
    own = [Known(name, what, "Apache-2.0", 0, bundled=folder) for name, what, folder in bundled]
    return own + TypeAdapter(list[Known]).validate_python(_table()["models"])


def find_model(name: str) -> Known:
    """The model of a name.

    Raises:
        StreamError: ``no_model``: there is none.
    """
    models = {model.name: model for model in known_models()}
    if name not in models:
        raise StreamError("no_model", f"no model {name} is known", f"there are {', '.join(models)}")
    return models[name]


def sizes_of(name: str) -> Mapping[str, Any]:
    """Configs and numbers of parameters, for the arithmetic on what is not here yet."""
    sizes: Mapping[str, Any] = _table()["sizes"][name]
    return sizes


def find_captioner(source: str | Path) -> str | Path:
    """The folder of a captioner that was fetched, by its name or its repository's.

    Returns:
        ``source`` itself where it is a folder, or nothing of that name was fetched.

    Raises:
        StreamError: ``no_model``: it is a name of ours, and not here.
    """
    if Path(source).is_dir():
        return source
    for model in known_models():
        if model.captioner and str(source) in {model.name, model.repo}:
            if str(source) == model.name:
                model.check_here()
            if not model.missing():
                return model.folder
    return source


def find_published(source: Path) -> tuple[list[Path], Path | None]:
    """The files that a source of ``convert`` stands for: a path, or the name of a fetched model.

    Returns:
        Files or folders, and the LoRA that is to be merged into them, if there is one.

    Raises:
        StreamError: ``no_model``: it is a name of ours, and not here.
    """
    models = {Path(model.name): model for model in known_models()}
    if source.exists() or source not in models:
        return [source], None
    model = models[source]
    model.check_here()
    if "model_index.json" in model.files:
        return [model.folder], None
    checkpoints = [model.folder / file for file in model.files if file != model.lora]
    return checkpoints, model.folder / model.lora if model.lora else None


def _shards(index: Path) -> list[str]:
    """The files that an index names; none where it is broken, which a loader tells of."""
    try:
        return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []


def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text("utf-8"))
    return table
