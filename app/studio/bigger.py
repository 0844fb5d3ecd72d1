"""A card for whoever has a GPU: which real model fits on it, and how to get it."""

from __future__ import annotations

from html import escape
from itertools import product

import torch

from longtake.app.catalogue import Known, find_model
from longtake.app.devices import hardware
from longtake.app.sizes import sizes_of_known
from longtake.models.memory import memory_of
from longtake.models.video.memory import FilmSizes
from longtake.models.video.text_setting import TextSetting

PREFERRED = ("longlive", "self-forcing")
"""Names of models for films; the first is for minutes and many prompts, as the studio is."""
SETTINGS = (TextSetting(), TextSetting(offload="text"))
"""The second is for cards on which the text encoder has no room."""


def bigger_model(device: torch.device, dtype: torch.dtype) -> str:
    """HTML of the card; empty where there is no NVIDIA GPU, or nothing fits on it."""
    if device.type != "cuda":
        return ""
    for name, text in product(PREFERRED, SETTINGS):
        model = find_model(name)
        sizes = sizes_of_known(model, device, dtype, text)
        if isinstance(sizes, FilmSizes) and _fits(sizes, device):
            return _card(model, sizes, hardware(device))
    return ""


def _card(model: Known, sizes: FilmSizes, machine: str) -> str:
    offload = f" --offload {sizes.setting.offload}" if sizes.setting.offload else ""
    commands = (
        f"python launch.py models pull wan-1.3b\n"
        f"python launch.py models pull {model.name}\n"
        f"python launch.py convert wan-1.3b {model.name} wan\n"
        f"python launch.py serve --model wan{offload}"
    )
    size = f"{sizes.config.width}x{sizes.config.height}"
    said = f"This machine's {machine} has room for {model.what}, at {size}."
    return (
        '<section class="lt-wide lt-bigger"><h2>A real model</h2>'
        f'<p>{escape(said)}</p><pre tabindex="0">{escape(commands)}</pre>'
        f'<p class="lt-note">{escape(model.terms())}</p></section>'
    )


def _fits(sizes: FilmSizes, device: torch.device) -> bool:
    if sizes.need.total > memory_of(device).free:
        return False
    text = sizes.beside
    return text is None or text.need.total <= memory_of(text.setting.device(device)).free
