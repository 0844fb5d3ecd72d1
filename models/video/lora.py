"""Low-rank changes of a transformer's linear layers (LoRA): read, checked, merged.

Names may be PEFT's (``base_model.model.<layer>.lora_A.weight``), diffusers'
(``transformer.<layer>.lora_A.weight``) or those of other trainers (``lora_down``, ``lora_up``), the
layers' names Wan's or diffusers'.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from longtake.models.checkpoints import Checkpoint, bare_name, read_checkpoint
from longtake.models.folder import read_json, taking
from longtake.models.video.originals import rename_transformer
from longtake.streaming import StreamError

ENTRIES = ("generator_lora", "state_dict")
FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
# What PEFT writes into its config, or diffusers into the file's header, that changes the sum.
VARIANTS = ("use_dora", "use_rslora", "alpha_pattern", "rank_pattern", "lora_bias")


@dataclass
class _Layer:
    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class LoRA:
    """What is added to weights: ``scale * alpha / rank * up @ down``.

    Attributes:
        path: of the file.
        scale: how much of it is added; 1 is all.
        down: weight's name in diffusers' layout -> [rank, inputs].
        up: as ``down``, [outputs, rank].
        alpha: as ``down``; the rank where the file says nothing.
        left_out: entries of the file that are not used.
    """

    path: Path
    scale: float
    down: Mapping[str, Tensor]
    up: Mapping[str, Tensor]
    alpha: Mapping[str, float]
    left_out: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.path.name} at {self.scale:g}"

    def merge(self, name: str, weight: Tensor) -> Tensor:
        """A weight with its change, in float32; one that is not changed is given back."""
        if name not in self.down:
            return weight
        factor = self.scale * self.alpha[name] / len(self.down[name])
        change = self.up[name].float() @ self.down[name].float()
        return weight.float() + factor * change

    def digest(self) -> str:
        """What it makes of a model: the SHA-256 of its file, and the scale."""
        with self.path.open("rb") as file:
            return f"{hashlib.file_digest(file, 'sha256').hexdigest()} at {self.scale:g}"

    def check(self, parameters: Mapping[str, Tensor]) -> None:
        """Refuse a transformer that lacks a layer or has another shape.

        Args:
            parameters: its own, by diffusers' names; only shapes are looked at.

        Raises:
            StreamError: ``bad_lora``, naming the layer.
        """
        for name, down in self.down.items():
            if name not in parameters:
                raise _unfit(f"{self.path} changes {name}, which the transformer lacks")
            change = [self.up[name].shape[0], down.shape[1]]
            if change != list(parameters[name].shape):
                wanted = list(parameters[name].shape)
                raise _unfit(f"{self.path} changes {name} as {change}, the transformer's {wanted}")


def read_lora(path: Path, scale: float = 1.0) -> LoRA:
    """Map a LoRA.

    Args:
        path: of its file, or of the folder that PEFT or diffusers saved.
        scale: how much of it is added.

    Raises:
        StreamError: ``bad_lora``: a tensor is no part of a LoRA, or misses its other half, the
            file says that it is of a kind that is not served, or the scale is no number;
            ``bad_checkpoint``: the file cannot be read.
    """
    if not math.isfinite(scale):
        raise StreamError("bad_lora", f"a LoRA's scale is {scale}", "use a number, 1 for all of it")
    file = _file(path)
    checkpoint = read_checkpoint(file, ENTRIES)
    default = _alpha(file)
    layers = _layers(checkpoint)
    sources = rename_transformer(f"{layer}.weight" for layer in layers)
    if len(sources) < len(layers):
        problem = f"{file} changes a layer under Wan's and under diffusers' name"
        raise StreamError("bad_lora", problem, "download it again")
    down, up, alpha = {}, {}, {}
    for name, source in sources.items():
        layer = layers[source.removesuffix(".weight")]
        if layer.down is None or layer.up is None:
            problem = f"{file} holds one half of the change of {source}"
            raise StreamError("bad_lora", problem, "download it again")
        if layer.down.ndim != 2 or layer.up.ndim != 2 or len(layer.down) != layer.up.shape[1]:
            shapes = f"{list(layer.up.shape)} and {list(layer.down.shape)}"
            raise StreamError("bad_lora", f"{file} changes {source} by {shapes}", _KINDS)
        down[name], up[name] = layer.down, layer.up
        alpha[name] = layer.alpha or default or len(layer.down)
    return LoRA(file, scale, down, up, alpha, checkpoint.left_out)


def is_lora(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a LoRA's."""
    return any(".lora_" in name for name in names)


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise StreamError("bad_lora", f"there is no LoRA {path}", "give its file or its folder")
    files = [path / name for name in FILES if (path / name).exists()]
    files = files or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        problem = f"the folder {path} holds {len(files)} files that may be the LoRA"
        raise StreamError("bad_lora", problem, "give the file")
    return files[0]


def _layers(checkpoint: Checkpoint) -> dict[str, _Layer]:
    """The layers that are changed, by their names in the file without prefixes."""
    layers: dict[str, _Layer] = {}
    for name, tensor in checkpoint.tensors.items():
        # PEFT in memory puts the adapter's name behind the matrix's: lora_A.default.weight.
        layer, _, matrix = bare_name(name).replace(".default.", ".").rpartition(".lora_")
        if matrix in {"A.weight", "down.weight"}:
            layers.setdefault(layer, _Layer()).down = tensor
        elif matrix in {"B.weight", "up.weight"}:
            layers.setdefault(layer, _Layer()).up = tensor
        elif name.endswith(".alpha") and tensor.numel() == 1:
            layer = bare_name(name).removesuffix(".alpha")
            layers.setdefault(layer, _Layer()).alpha = float(tensor)
        else:
            raise StreamError("bad_lora", f"{checkpoint.path} holds {name}", _KINDS)
    return layers


def _alpha(file: Path) -> float | None:
    """What PEFT's config beside the file or diffusers' note in it says of all layers."""
    note: dict[str, Any] = {}
    config = file.with_name("adapter_config.json")
    if config.exists():
        note = read_json(config)
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            written = (opened.metadata() or {}).get("lora_adapter_metadata", "{}")
        with taking(file):
            note = {name.rpartition(".")[2]: value for name, value in json.loads(written).items()}
    for variant in VARIANTS:
        if note.get(variant):
            problem = f"{file} is a LoRA with {variant}, which is not served"
            raise StreamError("bad_lora", problem, "merge it with PEFT")
    with taking(config if config.exists() else file):
        return float(note["lora_alpha"]) if note.get("lora_alpha") else None


def _unfit(problem: str) -> StreamError:
    return StreamError("bad_lora", problem, "it was trained for another model")


_KINDS = "only pairs of lora_A and lora_B (or lora_down and lora_up) with an alpha are served"
