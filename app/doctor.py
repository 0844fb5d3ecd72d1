"""``doctor``: what this machine is, what it can do, and which models fit on it."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import av
import torch

from longtake.app.camera import cameras
from longtake.app.catalogue import known_models
from longtake.app.devices import choose_device, choose_dtype, hardware
from longtake.app.expected import expected_fps
from longtake.app.sizes import changes_of, sizes_in, sizes_of_known
from longtake.kernels import bind, implementations
from longtake.kernels.registry import OPERATIONS
from longtake.models.memory import Sizes, advice, in_words, memory_of
from longtake.models.video.load import check_fp8, check_int8
from longtake.models.video.memory import FilmSizes
from longtake.models.video.text_setting import TextSetting
from longtake.models.vlm.memory import WatchSizes
from longtake.streaming import StreamError

_PACKAGES = ("longtake", "torch", "transformers", "diffusers", "av", "opencv-python", "gradio")
_OPTIONAL = ("bitsandbytes", "accelerate")
# What films are written as, and what most videos to be watched are.
_WRITTEN = ("libx264",)
_READ = ("h264", "hevc", "vp9", "av1", "mjpeg")
# Options that make a model another than the one that was measured under its name.
_CHANGES = ("quantize", "kv_cache", "size", "chunk", "window", "sink", "text_encoder", "offload")


def doctor(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0.

    Raises:
        StreamError: there is no such device or model folder, or a setting does not fit.
    """
    text = TextSetting(options.text_encoder, options.offload)
    text.check()
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    if options.quantize:
        check_int8(device, dtype)
    if options.kv_cache:
        check_fp8(device, dtype)
    for title, lines in (
        ("machine", _machine(device, dtype)),
        ("kernels", _kernels(device, dtype)),
        ("video", _video()),
        ("models", _models(options, text, device, dtype)),
    ):
        print(title)
        for line in lines:
            print(f"  {line}")
    return 0


def _machine(device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    memory = memory_of(device)
    yield f"{device.type}: {hardware(device)}, computes in {_name(dtype)}"
    yield f"memory: {in_words(memory.free)} of {in_words(memory.total)} are free"
    if device.type == "mps":
        yield "a Mac's GPU is served, and untested"
    found = [f"python {platform.python_version()}"]
    found += [f"{package} {version(package)}" for package in _PACKAGES]
    absent = []
    for package in _OPTIONAL:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            absent.append(package)
    yield ", ".join(found)
    if absent:
        yield f"without {' and '.join(absent)}, so without 8 and 4 bit quantization"


def _kernels(device: torch.device, dtype: torch.dtype) -> Iterator[str]:
    bound = bind(device, dtype).names
    for operation in OPERATIONS:
        refusals = [
            f"{each.name} {reason}"
            for each in implementations(operation)
            if (reason := each.refusal(device, dtype))
        ]
        yield "; ".join([f"{operation}: {bound[operation]}", *refusals])


def _video() -> Iterator[str]:
    for verb, names, mode in (("writes", _WRITTEN, "w"), ("reads", _READ, "r")):
        served = {name: _has_codec(name, mode) for name in names}
        yield f"{verb} {', '.join(name for name in names if served[name]) or 'nothing'}"
        if lacking := [name for name in names if not served[name]]:
            yield f"cannot: {', '.join(lacking)}; reinstall av for them"
    found = [f"webcam:{number} ({name})" for number, name in cameras()]
    yield f"cameras: {', '.join(found) or 'none that the system lists'}"


def _models(
    options: argparse.Namespace, text: TextSetting, device: torch.device, dtype: torch.dtype
) -> Iterator[str]:
    int8 = options.quantize == "int8"
    own = options.dtype == "auto" and not any(getattr(options, name) for name in _CHANGES)
    if options.model is not None:
        sizes = _changed(sizes_in(options.model, device, dtype, text, int8=int8), options)
        name = str(options.model)
        yield from _report(name if own else None, name, sizes, device)
        return
    for model in known_models():
        try:
            known = sizes_of_known(model, device, dtype, text, int8=int8)
            if known is None:
                continue
            sizes = _changed(known, options)
        except StreamError as error:  # a broken folder, or a size that is not for it
            yield f"{model.name}: {error}"
            continue
        where = " (not here)" if model.missing() else ""
        yield from _report(model.name if own else None, model.name + where, sizes, device)


def _report(name: str | None, title: str, sizes: Sizes, device: torch.device) -> Iterator[str]:
    """Lines on one model; ``name`` is None where more than its own settings is asked for."""
    free, need = memory_of(device).free, sizes.need
    yield f"{title}: {_settings(sizes)}"
    yield f"  {need}"
    if isinstance(sizes, FilmSizes) and (text := sizes.beside):
        words = f"  and of the machine's memory {text.need}, for prompts that are not known yet"
        left = memory_of(text.setting.device(device)).free
        tight = text.need.total > left
        yield words + (f"; only {in_words(left)} are free: {advice(text, left)}" if tight else "")
    if need.total > free:
        yield f"  does not fit in {in_words(free)}: {advice(sizes, free)}"
        return
    measured = ", ".join(expected_fps(name, sizes, hardware(device)))
    yield f"  fits; frames a second: {measured or 'not measured on this machine'}"


def _changed(sizes: Sizes, options: argparse.Namespace) -> Sizes:
    """With the settings that were asked for, where they are for this kind of model."""
    if not isinstance(sizes, FilmSizes):
        return sizes
    shape = {name: getattr(options, name) for name in ("size", "chunk", "window", "sink")}
    return replace(sizes.changed(changes_of(**shape)), fp8_cache=options.kv_cache == "fp8")


def _settings(sizes: Sizes) -> str:
    if isinstance(sizes, FilmSizes):
        config = sizes.config
        picture = f"{config.width}x{config.height}, window {config.window}, sink {config.sink}"
        setting = sizes.setting
        text = ", transformer in int8" if sizes.int8 else ""
        text += ", decoder in int8" if sizes.int8_decoder else ""
        text += ", keys and values in fp8" if sizes.fp8_cache else ""
        text += f", text encoder in {setting.precision}" if setting.precision else ""
        text += ", text encoder offloaded" if setting.offload else ""
        return f"{picture}, {_name(sizes.dtype)}{text}"
    assert isinstance(sizes, WatchSizes)
    return f"{sizes.settings.vision_seconds:g} s of memory, {_name(sizes.dtype)}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _has_codec(name: str, mode: str) -> bool:
    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True
