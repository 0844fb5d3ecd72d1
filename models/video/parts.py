"""What a file or folder that somebody has holds of a video model: its parts, mapped, not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from longtake.models.checkpoints import (
    PICKLES,
    REFETCH,
    Checkpoint,
    bare_name,
    read_checkpoint,
    read_safetensors,
)
from longtake.models.folder import read_json
from longtake.models.video.lora import is_lora
from longtake.models.video.originals import HEAD_DIM, Layout, recognise
from longtake.streaming import StreamError

# What Self-Forcing and LongLive call the weights that make films, and what trainers do.
ENTRIES = ("generator_ema", "generator", "state_dict", "model_state_dict", "model")
PARTS = ("transformer", "vae", "text_encoder")
TOKENIZERS = ("tokenizer/tokenizer.json", "google/umt5-xxl/tokenizer.json", "tokenizer.json")


@dataclass(frozen=True)
class Part:
    """One part of a model.

    Attributes:
        name: of its folder.
        source: the file or folder it comes from.
        kind: library and class, for ``model_index.json``.
        config: its ``config.json``.
        tensors: by diffusers' (or transformers') names.
        origin: the name that each of them has in the source.
        entry: of a pickle, in which they were.
    """

    name: str
    source: Path
    kind: tuple[str, ...]
    config: dict[str, Any]
    tensors: Mapping[str, Tensor]
    origin: Mapping[str, str]
    entry: str = ""

    @property
    def stem(self) -> str:
        """Of its weights' files, as the libraries name them."""
        return "model" if self.name == "text_encoder" else "diffusion_pytorch_model"


@dataclass
class Found:
    """What one source holds.

    Attributes:
        parts: by name.
        tokenizer: its file.
        streaming: the content of ``streaming.json``; None where there is none.
        left_out: what of it is not used, a sentence each.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    tokenizer: Path | None = None
    streaming: dict[str, Any] | None = None
    left_out: list[str] = field(default_factory=list)


def find_parts(source: Path, head_dim: int | None = None) -> Found:
    """Look into a file or a folder.

    Args:
        source: a checkpoint; a folder with some, as Wan 2.1 is published; or a folder in the
            diffusers layout.
        head_dim: channels of an attention head; None takes the config beside the transformer, or
            128 where there is none.

    Raises:
        StreamError: ``bad_checkpoint``: there is nothing, something unknown, or two of one part;
            ``bad_model``: a JSON file does not serve.
    """
    if source.is_file():
        found = Found()
        _add(found, read_checkpoint(source, ENTRIES), head_dim)
    elif (source / "model_index.json").exists():
        found = _diffusers(source)
    elif source.is_dir():
        found = _originals(source, head_dim)
    else:
        raise StreamError("bad_checkpoint", f"there is no {source}", "give a file or a folder")
    if not found.parts:
        problem = f"{source} holds no .safetensors file and no {', '.join(PICKLES)}"
        raise StreamError("bad_checkpoint", problem, "give the folder that was downloaded")
    if source.is_dir():
        files = (source / name for name in TOKENIZERS)
        found.tokenizer = next((file for file in files if file.exists()), None)
    return found


def _originals(folder: Path, head_dim: int | None) -> Found:
    """Of a folder of checkpoints: all its safetensors files are one, each pickle is one."""
    found = Found()
    if any(folder.glob("*.safetensors")):
        _add(found, Checkpoint(folder, read_safetensors(folder)), head_dim)
    for path in sorted(path for path in folder.iterdir() if path.suffix in PICKLES):
        _add(found, read_checkpoint(path, ENTRIES), head_dim)
    return found


def _diffusers(folder: Path) -> Found:
    """Of a folder in the diffusers layout, whose names stay as they are."""
    found = Found()
    index = read_json(folder / "model_index.json")
    for name in PARTS:
        if not (folder / name).is_dir():
            continue
        config = read_json(folder / name / "config.json")
        if "quantization_config" in config:
            problem = f"{folder / name} holds weights in fewer bits"
            raise StreamError("bad_checkpoint", problem, "convert what it was made from")
        tensors = read_safetensors(folder / name)
        kind = tuple(index.get(name) or ())
        own = {tensor: tensor for tensor in tensors}
        found.parts[name] = Part(name, folder / name, kind, config, tensors, own)
    if (folder / "streaming.json").exists():
        found.streaming = read_json(folder / "streaming.json")
    return found


def _add(found: Found, checkpoint: Checkpoint, head_dim: int | None) -> None:
    path = checkpoint.path
    names = {bare_name(name): name for name in checkpoint.tensors}
    layout = recognise(names)
    if layout is None:
        if is_lora(names):
            raise StreamError("bad_checkpoint", f"{path} is a LoRA", "give it with --lora")
        some = ", ".join(list(checkpoint.tensors)[:3])
        problem = f"{path} is no part of Wan 2.1 that is known (its tensors: {some}, ...)"
        hint = "its transformer, VAE and text encoder are, and a TAEHV"
        raise StreamError("bad_checkpoint", problem, hint)
    if layout.part in found.parts:
        problem = f"{found.parts[layout.part].source} and {path} are both a {layout.part}"
        raise StreamError("bad_checkpoint", problem, "give the file instead of the folder")
    found.parts[layout.part] = _part(checkpoint, names, layout, head_dim)
    if checkpoint.left_out:
        left_out = ", ".join(checkpoint.left_out)
        found.left_out.append(f"{path}: {checkpoint.entry} is used; left out are {left_out}")


def _part(
    checkpoint: Checkpoint, names: Mapping[str, str], layout: Layout, head_dim: int | None
) -> Part:
    path = checkpoint.path
    origin = {name: names[bare] for name, bare in layout.rename(names).items()}
    if double := sorted(checkpoint.tensors.keys() - set(origin.values())):
        problem = f"{path} holds tensor {double[0]} under another name too"
        raise StreamError("bad_checkpoint", problem, REFETCH)
    tensors = {name: checkpoint.tensors[source] for name, source in origin.items()}
    try:
        if layout.trim:
            tensors = layout.trim(tensors)
        config = layout.config(tensors, head_dim or _head_dim(path, tensors))
    except KeyError as error:
        problem = f"{path} lacks tensor {error.args[0]}"
        raise StreamError("bad_checkpoint", problem, REFETCH) from None
    except (ValueError, IndexError, ZeroDivisionError) as error:
        hint = "only weights of Wan 2.1 and a TAEHV for it are converted"
        if layout.part == "transformer":
            hint = "if that is the channels of a head, say them with --head-dim; else " + hint
        raise StreamError("bad_checkpoint", f"{path}: {error}", hint) from None
    entry = checkpoint.entry
    return Part(layout.part, path, layout.kind, config, tensors, origin, entry)


def _head_dim(path: Path, tensors: Mapping[str, Tensor]) -> int:
    """What Wan's own config beside the transformer says, or 128."""
    config = (path if path.is_dir() else path.parent) / "config.json"
    heads = read_json(config).get("num_heads") if config.exists() else None
    if isinstance(heads, int) and heads > 0 and "patch_embedding.weight" in tensors:
        return int(tensors["patch_embedding.weight"].shape[0]) // heads
    return HEAD_DIM
