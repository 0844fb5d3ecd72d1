"""Published checkpoints to a model folder, tensor by tensor: never half, never over another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from longtake.kernels import bind
from longtake.models.checkpoints import REFETCH
from longtake.models.folder import lack, misfit, write_json, write_shards
from longtake.models.quantization import quantize
from longtake.models.video.load import INT8, empty_codec, empty_transformer
from longtake.models.video.lora import LoRA
from longtake.models.video.parts import PARTS, Part, find_parts
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text_load import empty_text_encoder
from longtake.models.video.wan_codec import WanCodec
from longtake.streaming import StreamError

SHARD_BYTES = 200_000_000
QUANTIZED = {"transformer", "text_encoder"}
"""What is stored in 8 bits if asked for; a codec's error would be seen in every pixel."""

LONGLIVE = StreamingConfig(
    width=832,
    height=480,
    rate=16,
    chunk=3,
    sink=3,
    window=9,
    steps=4,
    shift=5.0,
    text_length=512,
    positions="absolute",
)
# Trained without sinks, on films as long as what it sees.
SELF_FORCING = {"sink": 0, "window": 21}


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        parts: by name.
        tokenizer: its file; None where no source has one.
        streaming: the content of ``streaming.json``; None without a transformer.
        lora: merged into the transformer; None without one.
        remarks: what of the sources is not used, and what to expect, a sentence each.
    """

    parts: dict[str, Part]
    tokenizer: Path | None
    streaming: dict[str, Any] | None
    lora: LoRA | None
    remarks: list[str]

    @property
    def missing(self) -> list[str]:
        """What a model folder needs and no source has."""
        missing = [name for name in PARTS if name not in self.parts]
        return missing if self.tokenizer else [*missing, "tokenizer"]


def plan_conversion(
    sources: Sequence[Path], lora: LoRA | None = None, head_dim: int | None = None
) -> Plan:
    """Look into the sources; of two that hold the same part, the later one gives it.

    Args:
        sources: files and folders, see :func:`.find_parts`.
        lora: to merge into the transformer.
        head_dim: channels of an attention head, where a source does not say.

    Raises:
        StreamError: ``bad_checkpoint``, ``bad_model``, ``bad_lora``: a source does not serve.
    """
    parts: dict[str, Part] = {}
    tokenizer: Path | None = None
    streaming: dict[str, Any] | None = None
    remarks: list[str] = []
    for source in sources:
        found = find_parts(source, head_dim)
        remarks += [
            f"{found.parts[name].source} takes the place of {parts[name].source}"
            for name in sorted(parts.keys() & found.parts.keys())
        ]
        parts |= found.parts
        tokenizer = found.tokenizer or tokenizer
        remarks += found.left_out
        if "transformer" in found.parts:
            streaming = found.streaming
    transformer = parts.get("transformer")
    if lora and not transformer:
        problem = f"{lora.path} changes a transformer, and no source holds one"
        raise StreamError("bad_lora", problem, "give the weights that it was trained on too")
    if lora and lora.left_out:
        remarks.append(f"{lora.path}: left out are {', '.join(lora.left_out)}")
    if transformer and not streaming:
        is_self_forcing = transformer.entry == "generator_ema" and not lora
        streaming = asdict(LONGLIVE) | (SELF_FORCING if is_self_forcing else {})
        if not transformer.entry and not lora:
            source = transformer.source
            remarks.append(
                f"if {source} is Wan's own transformer, it makes no film chunk by chunk; "
                "Self-Forcing's and LongLive's weights do"
            )
    return Plan(parts, tokenizer, streaming, lora, remarks)


def write_model(
    plan: Plan,
    out: Path,
    dtype: torch.dtype | None = None,
    *,
    int8: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Write a model folder; it appears under its name when it is whole.

    Args:
        plan: from :func:`plan_conversion`.
        out: does not exist yet.
        dtype: of the stored weights; None leaves each as it is.
        int8: store the transformer and the text encoder in 8 bits.
        progress: told the bytes of each source tensor when it is done.

    Raises:
        StreamError: ``bad_output``: there is something at ``out``, or it cannot be written;
            ``disk_full``; ``bad_checkpoint``: a tensor is missing, unknown or misshapen, named;
            ``bad_lora``: it was trained for another model.
    """
    partial = out.with_name(f".{out.name}.part")
    with _whole(partial, out):
        for part in plan.parts.values():
            quantized = {"quantization_config": INT8} if int8 and part.name in QUANTIZED else {}
            (partial / part.name).mkdir()
            write_json(partial / part.name / "config.json", part.config | quantized)
        index = {name: list(part.kind) for name, part in plan.parts.items()}
        if plan.tokenizer:
            (partial / "tokenizer").mkdir()
            shutil.copyfile(plan.tokenizer, partial / "tokenizer" / "tokenizer.json")
            index["tokenizer"] = ["tokenizers", "Tokenizer"]
        write_json(partial / "model_index.json", {"_class_name": "WanPipeline", **index})
        if plan.streaming:
            write_json(partial / "streaming.json", plan.streaming)
        for part in plan.parts.values():
            _check(part, _empty(part, partial), plan.lora)
        _check_space(partial, plan, dtype, int8)
        for part in plan.parts.values():
            tensors = _stored(part, plan.lora, dtype, int8 and part.name in QUANTIZED, progress)
            write_shards(tensors, partial / part.name, part.stem, SHARD_BYTES)


@contextmanager
def _whole(partial: Path, out: Path) -> Iterator[None]:
    """A new folder that takes its name at the end; whatever goes wrong, nothing is left of it."""
    if out.exists():
        raise StreamError("bad_output", f"{out} exists already", "choose another name")
    if not out.parent.is_dir():
        problem = f"there is no folder {out.parent}"
        raise StreamError("bad_output", problem, "make it, or choose another place")
    try:
        # One may be left of a conversion that was killed.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        problem = f"{out} cannot be written ({error})"
        raise StreamError("bad_output", problem, "choose another place") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _empty(part: Part, model: Path) -> nn.Module:
    """The part as it will be loaded from the new model folder, on the meta device."""
    folder = model / part.name
    empty: nn.Module
    try:
        if part.name == "transformer":
            empty = empty_transformer(folder, bind(torch.device("cpu"), torch.float32))
        elif part.name == "text_encoder":
            empty = empty_text_encoder(folder)
        else:
            codec = empty_codec(folder, list(part.kind))
            empty = codec.vae if isinstance(codec, WanCodec) else codec
    except StreamError as error:
        # Nobody knows the unfinished folder; the config is the source's.
        problem = error.message.replace(str(model), str(part.source.parent))
        raise StreamError("bad_checkpoint", problem, _UNKNOWN) from None
    return empty


def _check(part: Part, empty: nn.Module, lora: LoRA | None) -> None:
    """Every tensor of the source has its place, and every place its tensor."""
    expected = dict(empty.named_parameters())
    aliases = dict(empty.named_parameters(remove_duplicate=False))
    for name, tensor in part.tensors.items():
        if problem := misfit(part.origin[name], tensor, aliases.get(name)):
            raise StreamError("bad_checkpoint", f"{part.source}: {problem}", _UNKNOWN)
    own = {id(aliases[name]) for name in part.tensors}
    found = {name for name, parameter in expected.items() if id(parameter) in own}
    if problem := lack(expected, found):
        raise StreamError("bad_checkpoint", f"{part.source} {problem}", REFETCH)
    if lora and part.name == "transformer":
        lora.check(expected)


def _check_space(folder: Path, plan: Plan, dtype: torch.dtype | None, int8: bool) -> None:
    need = 0
    for part in plan.parts.values():
        for tensor in part.tensors.values():
            size = dtype.itemsize if dtype else tensor.element_size()
            need += tensor.numel() * (1 if int8 and part.name in QUANTIZED else size)
    free = shutil.disk_usage(folder).free
    if need > free:
        problem = f"the model takes {need / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free"
        raise StreamError("disk_full", problem, "make room, or choose another place")


def _stored(
    part: Part,
    lora: LoRA | None,
    dtype: torch.dtype | None,
    int8: bool,
    progress: Callable[[int], object],
) -> Iterator[tuple[str, Tensor]]:
    """The tensors as they are to be written, made one by one."""
    for name, tensor in sorted(part.tensors.items()):
        merged = lora.merge(name, tensor) if lora and part.name == "transformer" else tensor
        stored = merged.to(dtype or tensor.dtype).contiguous()
        if int8:
            yield from quantize({name: stored}).items()
        else:
            yield name, stored
        progress(tensor.nbytes)


_UNKNOWN = "only weights of Wan 2.1's text-to-video models are converted"
