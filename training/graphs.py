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
"""Tensors -> named tensors; of those "loss", a scalar, is minimised."""


class GraphedLoss:
    """A loss on the GPU whose forward and backward are recorded once and then replayed.

    `loss`: draws no random numbers, waits for nothing, and gets tensors of the same shapes at every
    call; `parameters`: what it has gradients for; `pool`: memory that is shared with other such
    losses, of which one is called at a time.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Iterable[nn.Parameter],
        pool: torch.cuda._POOL_HANDLE | None = None,
    ) -> None:
        self.loss = loss
        self.parameters = list(parameters)
        self.pool = pool
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.gradients: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the loss gives, detached: the parameters have their gradients already.

        The next call writes into the same memory.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                outputs = self._backward(inputs)
            torch.cuda.current_stream().wait_stream(side)
            return outputs
        if self.graph is None:
            self._record(inputs)
        assert self.graph is not None
        for kept, given in zip(self.inputs, inputs, strict=True):
            kept.copy_(given)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return dict(self.outputs)

    def _backward(self, inputs: Iterable[Tensor]) -> dict[str, Tensor]:
        outputs = self.loss(*inputs)
        outputs["loss"].backward()
        return {name: value.detach() for name, value in outputs.items()}

    def _record(self, inputs: Iterable[Tensor]) -> None:
        self.inputs = [each.clone() for each in inputs]
        # So that the backward makes gradients of the graph's own, not adds to some that are there.
        for parameter in self.parameters:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        # Other threads, which load batches and watch over NCCL, may call CUDA meanwhile.
        with torch.cuda.graph(self.graph, self.pool, capture_error_mode="thread_local"):
            self.outputs = self._backward(self.inputs)
        self.gradients = [parameter.grad for parameter in self.parameters]
