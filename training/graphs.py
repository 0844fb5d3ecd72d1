"""A loss and its gradients as one CUDA graph: starting a small model's kernels one by one takes
longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Calls that run as they are: what is compiled or tuned at first use cannot be recorded."""

Loss = Callable[..., dict[str, Tensor]]
"""Tensors -> scalars; the one named "loss" is minimised."""


class GraphedLoss:
    """A loss on the GPU whose forward and backward are recorded once and then replayed.

    `loss`: draws no random numbers, waits for nothing, and gets tensors of the same shapes at every
    call; `parameters`: what it has gradients for.
    """

    def __init__(self, loss: Loss, parameters: Iterable[nn.Parameter]) -> None:
        self.loss = loss
        self.parameters = list(parameters)
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.scalars: dict[str, Tensor] = {}
        self.gradients: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The scalars, detached: the parameters have their gradients already."""
        self.calls += 1
        if self.calls <= WARM_UP:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                scalars = self._backward(inputs)
            torch.cuda.current_stream().wait_stream(side)
            return scalars
        if self.graph is None:
            self._record(inputs)
        assert self.graph is not None
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return dict(self.scalars)

    def _backward(self, inputs: Iterable[Tensor]) -> dict[str, Tensor]:
        scalars = self.loss(*inputs)
        scalars["loss"].backward()
        return {name: value.detach() for name, value in scalars.items()}

    def _record(self, inputs: Iterable[Tensor]) -> None:
        self.inputs = [each.clone() for each in inputs]
        # So that the backward makes gradients of the graph's own, not adds to some that are there.
        for parameter in self.parameters:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, which load batches and watch over NCCL, may call CUDA meanwhile.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.scalars = self._backward(self.inputs)
        self.gradients = [parameter.grad for parameter in self.parameters]
