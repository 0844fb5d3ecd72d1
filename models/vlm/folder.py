"""What a Qwen2.5-VL folder holds, looked at before anything of it is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

from longtake.models.folder import REFETCH, read_json
from longtake.streaming import StreamError

MODEL_TYPE = "qwen2_5_vl"
FILES = ("config.json", "tokenizer.json")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHTS_FILES = ("model.safetensors", "model.safetensors.index.json")
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
KINDS_HINT = "give a Qwen2.5-VL folder, or its name on the Hugging Face hub"


def is_captioner(folder: Path) -> bool:
    """Whether a folder says that it holds a Qwen2.5-VL."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def check_source(source: str | Path) -> None:
    """Refuse what is no captioner; a name on the hub is not asked for.

    Args:
        source: a folder, or a name on the hub.

    Raises:
        StreamError: ``bad_model``: what is missing or of another kind.
    """
    folder = Path(source)
    if folder.is_dir():
        _check_files(folder)
    elif not (isinstance(source, str) and re.fullmatch(HUB_NAME, source)):
        raise StreamError("bad_model", f"there is no model folder {source}", KINDS_HINT)


def _check_files(folder: Path) -> None:
    for name in FILES:
        if not (folder / name).exists():
            raise StreamError("bad_model", f"{folder} lacks {name}", KINDS_HINT)
    kind = read_json(folder / "config.json").get("model_type")
    if kind is None:
        problem = f"{folder / 'config.json'} does not say of which model it is"
        raise StreamError("bad_model", problem, KINDS_HINT)
    if kind != MODEL_TYPE:
        raise StreamError("bad_model", f"{folder} holds a {kind}, no Qwen2.5-VL", KINDS_HINT)
    if not any((folder / name).exists() for name in PROCESSOR_FILES):
        raise StreamError("bad_model", f"{folder} lacks {PROCESSOR_FILES[0]}", KINDS_HINT)
    if not any(folder.glob("*.safetensors")):
        raise StreamError("bad_model", f"{folder} holds no .safetensors file", KINDS_HINT)
    if not any((folder / name).exists() for name in WEIGHTS_FILES):
        problem = f"{folder} lacks {WEIGHTS_FILES[1]}, which says what is in which file"
        raise StreamError("bad_model", problem, REFETCH)
