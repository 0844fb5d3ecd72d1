"""Muon for many matrices at once: momentum, made orthogonal (Jordan et al., 2024).

``torch.optim.Muon`` is the same step, one matrix after the other; a small transformer has a hundred
of them, and starting their kernels one by one costs a third of its training time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration; they drive singular values to about 1 in five steps."""


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrices with singular values of about 1: [n, rows, columns] in bfloat16."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """The optimiser of hidden matrices; everything else is AdamW's.

    Its updates have AdamW's usual size at the same rate (Moonlight, section 2.2).

    `parameters`: matrices, [rows, columns] each; `momentum`: in Nesterov's form; `decay`: of the
    weights, decoupled.
    """

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, decay: float, momentum: float = 0.95
    ) -> None:
        defaults = {"lr": rate, "peak": rate, "weight_decay": decay, "momentum": momentum}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step, with a batch of products for each shape of matrix."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for parameters in shapes.values():
                self._step_shape(parameters, group)

    def _step_shape(self, parameters: list[Tensor], group: dict[str, float]) -> None:
        gradients: list[Tensor] = [parameter.grad for parameter in parameters]  # type: ignore[misc]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        rows, columns = parameters[0].shape
        updates = orthogonalise(torch.stack(list(ahead))).to(parameters[0].dtype)
        size = 0.2 * max(rows, columns) ** 0.5
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind(0)), alpha=-group["lr"] * size)
