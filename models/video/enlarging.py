"""A picture made larger, and the convolution over it, in one step."""

from __future__ import annotations

import torch
from torch import Tensor


def enlarging_kernel(weight: Tensor, scale: int) -> Tensor:
    """A convolution over a picture whose pixels became ``scale * scale`` each, as a transposed one.

    Where a weight meets the same pixel twice it is added first (at 2, of nine products four are
    left), and the larger picture is never there without its convolution.

    Args:
        weight: of a 3x3 convolution with padding 1, [outputs, inputs, 3, 3].
        scale: pixels for each, along a side.

    Returns:
        For ``F.conv_transpose2d`` with stride ``scale`` and padding 1: float32, [inputs, outputs,
        scale + 2, scale + 2].
    """
    # Which of the three weights meet a pixel, from each place that sees it.
    places = torch.arange(-1, scale + 1, device=weight.device)[:, None]
    shifted = places + torch.arange(-1, 2, device=weight.device)
    meet = ((shifted >= 0) & (shifted < scale)).float()
    return torch.einsum("ocyx,ky,lx->cokl", weight.float(), meet, meet)
