"""Model folders in the diffusers layout: read strictly, hashed, written in small shards.

A folder has ``model_index.json`` and one subfolder a part, each with ``config.json`` and
safetensors files. Whatever is missing, unknown or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.models.quantization import SCALE_SUFFIX, dequantize
from longtake.streaming import StreamError

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)

SHARD_BYTES = 14_000_000


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        StreamError: ``bad_model``: no such file, or not a JSON object.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise StreamError("bad_model", f"{path} does not exist", _FOLDER_HINT) from None
    except (OSError, ValueError) as error:
        raise StreamError("bad_model", f"{path} cannot be read ({error})", REFETCH) from None
    if not isinstance(data, dict):
        raise StreamError("bad_model", f"{path} holds no JSON object", REFETCH)
    return data


@contextmanager
def taking(path: Path) -> Iterator[None]:
    """Name the file or folder that a library does not take; they raise all sorts of exceptions.

    Raises:
        StreamError: ``bad_model``: whatever was raised within.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise StreamError("bad_model", f"{path} does not serve ({reason})", REFETCH) from None


def read_config(path: Path, cls: type[Config]) -> Config:
    """A dataclass from a JSON file; keys that begin with an underscore are other tools' notes.

    Raises:
        StreamError: ``bad_model``: an unknown, missing or unfit field, named.
    """
    data = {key: value for key, value in read_json(path).items() if not key.startswith("_")}
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(data.keys() - known - {"quantization_config"}):
        raise StreamError("bad_model", f"{path} has unknown fields {', '.join(unknown)}", REFETCH)
    data.pop("quantization_config", None)
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        problem = f"{path}: {where + ': ' if where else ''}{reason}"
        raise StreamError("bad_model", problem, REFETCH) from None


def load_weights(module: Module, folder: Path, dtype: torch.dtype) -> Module:
    """Fill a module (made on the meta device or not) from the safetensors of a folder.

    Stored int8 weights are dequantised. Tied parameters need to be there only once; whoever
    called ties them again.

    Args:
        module: its parameters' names and shapes are what the files must hold.
        folder: the part's subfolder.
        dtype: of the loaded parameters.

    Returns:
        The module, in evaluation mode, without gradients.

    Raises:
        StreamError: ``bad_model``: a file is missing or truncated, a tensor is missing, unknown or
            of the wrong shape (named).
    """
    expected = dict(module.named_parameters())
    own_name = {id(parameter): name for name, parameter in expected.items()}
    aliases = {
        name: own_name[id(parameter)]
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    found: dict[str, Tensor] = {}
    stored: set[str] = set()
    try:
        for stored_name, tensor in dequantize(read_tensors(folder)):
            name = aliases.get(stored_name, stored_name)
            if problem := _misfit(stored_name, tensor, expected.get(name), stored):
                raise StreamError("bad_model", f"{folder}: {problem}", REFETCH)
            stored.add(stored_name)
            found[name] = tensor.to(dtype)
    except ValueError as error:
        raise StreamError("bad_model", f"{folder}: {error}", REFETCH) from None
    if missing := [name for name in expected if name not in found]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise StreamError("bad_model", f"{folder} lacks tensor {missing[0]}{more}", REFETCH)
    module.load_state_dict(found, strict=False, assign=True)
    return module.eval().requires_grad_(requires_grad=False)


def _misfit(name: str, tensor: Tensor, expected: Tensor | None, stored: set[str]) -> str | None:
    if expected is None:
        return f"tensor {name} is unknown"
    if name in stored:
        return f"tensor {name} is there twice"
    if tensor.shape != expected.shape:
        return f"tensor {name} is {list(tensor.shape)}, the config makes it {list(expected.shape)}"
    if not tensor.is_floating_point():
        return f"tensor {name} is {tensor.dtype} and has no scale"
    return None


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of every safetensors file of a folder, file by file, as stored.

    Raises:
        StreamError: ``bad_model``: no file, or one that is truncated or not safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise StreamError("bad_model", f"{index} holds no weight_map", REFETCH)
        shards = {folder / str(name) for name in weight_map.values()}
        if lost := sorted(shards - set(files)):
            raise StreamError("bad_model", f"{lost[0]} does not exist", REFETCH)
    if not files:
        raise StreamError("bad_model", f"{folder} holds no .safetensors file", _FOLDER_HINT)
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            problem = f"{path} is not a whole safetensors file ({error})"
            raise StreamError("bad_model", problem, REFETCH) from None


def save_weights(tensors: Mapping[str, Tensor], folder: Path, stem: str) -> None:
    """Write tensors as safetensors, in shards under 15 MB with an index where one is not enough.

    A quantised weight and its scale land in the same shard.

    Args:
        tensors: names to contiguous CPU tensors.
        folder: made if need be; earlier files of that stem are removed.
        stem: ``"diffusion_pytorch_model"`` or ``"model"``, as the libraries name their files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob(f"{stem}[.-]*safetensors*"):
        earlier.unlink()
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if size and size + tensor.nbytes > SHARD_BYTES and not name.endswith(SCALE_SUFFIX):
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_file(shards[0], folder / f"{stem}.safetensors", {"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / f"{stem}.safetensors.index.json", index)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """A JSON object, indented; lists of numbers stay readable enough."""
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's JSON and safetensors files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".safetensors"}:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


REFETCH = "fetch the model folder again, or leave --model out to use the bundled one"
_FOLDER_HINT = "a model folder holds model_index.json and one subfolder for each part"
