"""Forwards that run over a full cache again and again: recorded once, as CUDA graphs, and replayed.

A replay starts a forward's thousand kernels as one, and gives the very bytes that they gave. What
changes from chunk to chunk is copied into the memory that was recorded; the cache and the prompt's
keys and values stay where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longtake.models.video.conditions import Modulation
from longtake.models.video.kv_cache import KVCache
from longtake.models.video.transformer import TextKV

WARM_UP = 1
"""Calls that run as they are: what is compiled or tuned at first use cannot be recorded."""

Forward = Callable[[Tensor, Modulation], Tensor | None]
"""A method of the transformer, under a prompt and with a cache."""
Run = Callable[[], Tensor | None]
Replay = Callable[[], object]
Recorder = Callable[[Run], tuple[Tensor | None, Replay]]
"""Takes a forward down: gives the tensor that it returns, filled by each replay, and the replay."""


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing can."""
    return GraphRecorder() if device.type == "cuda" else None


class GraphRecorder:
    """Records CUDA graphs; those of one film share their memory, as one runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Run) -> tuple[Tensor | None, Replay]:
        """Record; nothing is computed until the replay."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may call CUDA meanwhile.
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            out = run()
        return out, graph.replay


class RecordedForwards:
    """One film's forwards, replayed where that is possible.

    Args:
        record: None runs everything as it comes.
    """

    def __init__(self, record: Recorder | None) -> None:
        self._record = record
        self._cache: KVCache | None = None
        self._places: tuple[int, ...] = ()
        self._calls: dict[str, int] = {}
        self._recorded: dict[str, tuple[list[Tensor], Tensor | None, Replay]] = {}

    def __call__(
        self,
        name: str,
        forward: Forward,
        latents: Tensor,
        modulation: Modulation,
        text: TextKV,
        cache: KVCache,
    ) -> Tensor | None:
        """Run a forward over the staged frames.

        Args:
            name: of what it is for; all forwards of a name are the same function.
            forward: the function.
            latents: of the staged frames.
            modulation: of the staged frames.
            text: the prompt's keys and values that it reads; in the same memory from call to call,
                or all is recorded anew.
            cache: that it reads and writes; the same from call to call, or all is recorded anew.

        Returns:
            What the forward returns; the next one of its name may overwrite it.
        """
        if self._record is None or not cache.is_steady:
            return forward(latents, modulation)
        places = tuple(each.data_ptr() for pair in text for each in pair)
        if cache is not self._cache or places != self._places:
            self._cache, self._places = cache, places
            self._calls.clear()
            self._recorded.clear()
        inputs = [latents, modulation.head, *modulation.blocks]
        if name not in self._recorded:
            calls = self._calls[name] = self._calls.get(name, 0) + 1
            if calls <= WARM_UP or not self._take_down(name, forward, inputs):
                return forward(latents, modulation)
        kept, out, replay = self._recorded[name]
        torch._foreach_copy_(kept, inputs)
        replay()
        return out

    def _take_down(self, name: str, forward: Forward, inputs: Sequence[Tensor]) -> bool:
        """Record a forward; False where it cannot be, and then nothing is any more."""
        assert self._record is not None
        latents, head, *blocks = kept = [each.clone() for each in inputs]

        def run() -> Tensor | None:
            return forward(latents, Modulation(blocks, head))

        try:
            self._recorded[name] = (kept, *self._record(run))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            logging.getLogger(__name__).warning(
                "a forward cannot be recorded (%s): kernels are started one by one", reason
            )
            self._record = None
            self._recorded.clear()
        return name in self._recorded


def describe(record: Recorder | None) -> str:
    """How forwards run, in words."""
    if record is None:
        return "one kernel after the other: CUDA graphs need an NVIDIA GPU"
    return "CUDA graphs, once the cache is full"
