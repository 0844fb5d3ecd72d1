"""Model folders in the diffusers layout: read strictly, hashed, written in small shards.

A folder has ``model_index.json`` and one subfolder a part, each with ``config.json`` and
safetensors files. Whatever is missing, unknown or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.models.quantization import SCALE_SUFFIX, dequantize, quantize
from longtake.streaming import StreamError

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)
Adapt = Callable[[str, Tensor], Tensor]

SHARD_BYTES = 14_000_000


class Header(NamedTuple):
    """What a file says of a tensor.

    Attributes:
        shape: its own.
        dtype: as safetensors names it, ``"BF16"`` for example.
    """

    shape: tuple[int, ...]
    dtype: str


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
    except (MemoryError, torch.OutOfMemoryError):
        raise  # no fault of the file
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


def load_weights(
    module: Module, folder: Path, dtype: torch.dtype, adapt: Adapt | None = None
) -> Module:
    """Fill a module (made on the meta device or not) from the safetensors of a folder.

    Stored int8 weights are dequantised, unless the module computes in int8: then those stored
    otherwise are quantised. Tied parameters need to be there only once; whoever called ties them
    again.

    Args:
        module: its parameters' names and shapes are what the files must hold.
        folder: the part's subfolder.
        dtype: of the loaded parameters that are not in int8.
        adapt: makes of each tensor, by its name and before it becomes ``dtype``, what is loaded.

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
            problem = misfit(stored_name, tensor, expected.get(name))
            if stored_name in stored:
                problem = f"tensor {stored_name} is there twice"
            if problem:
                raise StreamError("bad_model", f"{folder}: {problem}", REFETCH)
            stored.add(stored_name)
            whole = adapt(name, tensor) if adapt else tensor
            if name + SCALE_SUFFIX in expected:
                found |= quantize({name: whole})
            else:
                found[name] = whole.to(dtype)
    except ValueError as error:
        raise StreamError("bad_model", f"{folder}: {error}", REFETCH) from None
    if problem := lack(expected, found):
        raise StreamError("bad_model", f"{folder} {problem}", REFETCH)
    module.load_state_dict(found, strict=False, assign=True)
    return module.eval().requires_grad_(requires_grad=False)


def misfit(name: str, tensor: Tensor, expected: Tensor | None) -> str | None:
    """Why a stored tensor cannot become a parameter, or None; ``expected`` is the parameter."""
    if expected is None:
        return f"tensor {name} is unknown"
    if tensor.shape != expected.shape:
        return f"tensor {name} is {list(tensor.shape)}, the config makes it {list(expected.shape)}"
    if not tensor.is_floating_point():
        return f"tensor {name} is {tensor.dtype} and has no scale"
    return None


def lack(expected: Mapping[str, Tensor], found: Container[str]) -> str | None:
    """Which parameters were not found, or None."""
    missing = [name for name in expected if name not in found]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"lacks tensor {missing[0]}{more}" if missing else None


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of every safetensors file of a folder, file by file, as stored.

    Raises:
        StreamError: ``bad_model``: no file, or one that is truncated or not safetensors.
    """
    for path in _weight_files(folder):
        yield from read_file(path)


def read_headers(folder: Path) -> Iterator[tuple[str, Header]]:
    """Name and header of each tensor that :func:`read_tensors` gives; no weights are read.

    Raises:
        StreamError: as there.
    """
    for path in _weight_files(folder):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                stored = file.get_slice(name)
                yield name, Header(tuple(stored.get_shape()), stored.get_dtype())


def read_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a safetensors file, mapped: its bytes are read when they are used.

    Raises:
        StreamError: ``bad_model``: the file is truncated or not safetensors.
    """
    with _opened(path) as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            yield name, file.get_tensor(name)


def _weight_files(folder: Path) -> list[Path]:
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
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        problem = f"{path} is not a whole safetensors file ({error})"
        raise StreamError("bad_model", problem, REFETCH) from None


def stored_parameters(module: nn.Module) -> dict[str, Tensor]:
    """What is stored of a module, on the CPU: tied parameters once, packed ones as they were."""
    state = module.state_dict()
    return {name: state[name].cpu() for name, _ in module.named_parameters()}


def save_weights(tensors: Mapping[str, Tensor], folder: Path, stem: str) -> None:
    """Write tensors as safetensors, in shards under 15 MB with an index where one is not enough.

    A quantised weight and its scale land in the same shard.

    Args:
        tensors: names to contiguous CPU tensors.
        folder: made if need be; earlier files of that stem are removed.
        stem: ``"diffusion_pytorch_model"`` or ``"model"``, as the libraries name their files.
    """
    write_shards(sorted(tensors.items()), folder, stem, SHARD_BYTES)


def write_shards(
    tensors: Iterable[tuple[str, Tensor]], folder: Path, stem: str, shard_bytes: int
) -> None:
    """As :func:`save_weights`, but of tensors as they come: one shard at a time is in memory.

    Args:
        tensors: names and contiguous CPU tensors; a scale directly follows its weight.
        folder: as there.
        stem: as there.
        shard_bytes: of tensors in a shard, unless a single one is larger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob(f"{stem}[.-]*safetensors*"):
        earlier.unlink()
    shards: list[list[str]] = []
    held: dict[str, Tensor] = {}
    size = total = 0

    def flush() -> None:
        shards.append(list(held))
        save_file(held, folder / f"{stem}-{len(shards):05}.safetensors", {"format": "pt"})
        held.clear()

    for name, tensor in tensors:
        if size and size + tensor.nbytes > shard_bytes and not name.endswith(SCALE_SUFFIX):
            flush()
            size = 0
        held[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    if len(shards) == 1:
        (folder / f"{stem}-00001.safetensors").rename(folder / f"{stem}.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        (folder / f"{stem}-{number:05}.safetensors").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
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
