"""The hot operations: one pure-torch reference for each, and faster ones bound once at load."""

from __future__ import annotations

from longtake.kernels.choice import AttentionShape, fastest_attention
from longtake.kernels.cpu import pack, packed_linear
from longtake.kernels.reference import BlockMap, Quantized
from longtake.kernels.registry import Implementation, Kernels, bind, implementations

__all__ = [
    "AttentionShape",
    "BlockMap",
    "Implementation",
    "Kernels",
    "Quantized",
    "bind",
    "fastest_attention",
    "implementations",
    "pack",
    "packed_linear",
]
