"""The hot operations: one pure-torch reference for each, and faster ones bound once at load."""

from __future__ import annotations

from longtake.kernels.byte_conv import (
    ByteConv,
    Steps,
    byte_conv,
    byte_conv_add,
    multiplies_bytes,
    pack_byte_conv,
)
from longtake.kernels.choice import AttentionShape, fastest_attention
from longtake.kernels.cpu import has_bfloat16, pack, packed_linear
from longtake.kernels.reference import FP8, BlockMap, Quantized, as_kept
from longtake.kernels.registry import Implementation, Kernels, bind, implementations

__all__ = [
    "FP8",
    "AttentionShape",
    "BlockMap",
    "ByteConv",
    "Implementation",
    "Kernels",
    "Quantized",
    "Steps",
    "as_kept",
    "bind",
    "byte_conv",
    "byte_conv_add",
    "fastest_attention",
    "has_bfloat16",
    "implementations",
    "multiplies_bytes",
    "pack",
    "pack_byte_conv",
    "packed_linear",
]
