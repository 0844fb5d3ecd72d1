"""What bitsandbytes gets wrong about 4 bits on a CPU, put right."""

from __future__ import annotations

from torch import nn

# Its kernel for CPUs with bfloat16 instructions: what a layer says of it, the outputs that it
# takes at a time, and the inputs of one scale.
_SERVED, _ROWS, _BLOCK = "support_avx512bf16_for_cpu", 32, 64


def keep_unpacked(model: nn.Module) -> None:
    """Let 4-bit layers that its kernel for some CPUs cannot take be multiplied as anywhere else.

    On CPUs with bfloat16 instructions bitsandbytes 0.50 packs every 4-bit weight for a kernel that
    takes whole blocks only, and fails on all others with an error about shapes.
    """
    for layer in model.modules():
        if not isinstance(layer, nn.Linear) or _SERVED not in vars(layer):
            continue
        if layer.out_features % _ROWS or layer.in_features % _BLOCK:
            vars(layer)[_SERVED] = False
