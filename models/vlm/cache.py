"""Keys and values of what a captioner remembers, behind transformers' cache interface.

Preallocated, buffers for each layer. transformers' attention hands over keys that are already
rotated to their positions; tokens are only ever appended, and once a round
:meth:`StreamingCache.compact` drops, reorders and re-rotates them, by the difference of the two
positions. Keys as they were handed over are kept as well, so that every rotation starts from
them: half as much memory again, but no rounding adds up. In bfloat16, turning a key by 15
positions 70 times would put it off by 2 %, 1000 times by 20 %: small angles are rounded away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from longtake.models.vlm.rotation import Rotation

BUFFERS = ("keys", "written", "values")


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, [1, heads, capacity, head_dim]; the first ``length`` count.

    ``keys`` are turned to where they stand, ``written`` are as they were handed over.
    """

    is_sliding = False
    is_croppable = False
    is_compileable = False

    def __init__(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.keys: Tensor = torch.zeros(*shape, device=device, dtype=dtype)
        self.written: Tensor = torch.zeros_like(self.keys)
        self.values: Tensor = torch.zeros_like(self.keys)
        self.is_initialized = True
        self.first = 0
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: buffers are there from the start."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: object,  # noqa: ARG002 (transformers' signature)
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Append; returns all that the new tokens may look at, themselves included."""
        stop = self.length + key_states.shape[-2]
        if stop > self.keys.shape[-2]:
            raise ValueError(f"{stop} tokens do not fit in {self.keys.shape[-2]}")
        place = slice(self.length, stop)
        self.keys[:, :, place] = self.written[:, :, place] = key_states
        self.values[:, :, place] = value_states
        self.length = stop
        return self.keys[:, :, self.first : stop], self.values[:, :, self.first : stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that a forward of so many tokens attends to."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens that a forward looks back on."""
        return self.length - self.first

    def get_max_length(self) -> int:
        """Tokens there is room for."""
        return self.keys.shape[-2]


class StreamingCache(Cache):  # type: ignore[misc]
    """One stream's cache.

    Args:
        layers: of the language model.
        heads: key-value heads.
        rotation: of its keys.
        device: of the tensors.
        dtype: of the tensors.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        rotation: Rotation,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (1, heads, 0, rotation.head_dim)
        super().__init__(layers=[_Layer(shape, device, dtype) for _ in range(layers)])
        self._rotation = rotation
        # Where tokens were when they were written, and where they stand now.
        self._origins = self._places = torch.zeros(0, 3, dtype=torch.float64)

    @property
    def length(self) -> int:
        """Tokens held."""
        length: int = self.layers[0].length
        return length

    @property
    def bytes(self) -> int:
        """Memory taken, whatever is held."""
        buffers = (getattr(layer, name) for layer in self.layers for name in BUFFERS)
        return sum(buffer.nbytes for buffer in buffers)

    def reserve(self, capacity: int) -> None:
        """Make room for so many tokens in all; what is held is kept. Never shrinks."""
        if capacity <= self.get_max_length():
            return
        for layer in self.layers:
            for name in BUFFERS:
                old = getattr(layer, name)
                new = old.new_zeros(*old.shape[:2], capacity, old.shape[-1])
                new[:, :, : layer.length] = old[:, :, : layer.length]
                setattr(layer, name, new)
        held = self.length
        room = torch.zeros(capacity - held, 3, dtype=torch.float64)
        self._origins = torch.cat((self._origins[:held], room))
        self._places = torch.cat((self._places[:held], room))

    def place(self, positions: Tensor) -> None:
        """Say where the tokens stand that the next forward appends.

        Args:
            positions: float64, [tokens, 3].
        """
        fresh = slice(self.length, self.length + len(positions))
        self._origins[fresh] = self._places[fresh] = positions

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Forwards within append tokens that see only each other, as at the start of a chat."""
        for layer in self.layers:
            layer.first = layer.length
        try:
            yield
        finally:
            for layer in self.layers:
                layer.first = 0

    @contextmanager
    def rewriting(self, first: int) -> Iterator[None]:
        """Forwards within write the tokens from ``first`` on anew; those behind them stay."""
        held = self.length
        self.truncate(first)
        try:
            yield
        finally:
            self.truncate(held)

    def truncate(self, length: int) -> None:
        """Forget what was appended behind so many tokens."""
        for layer in self.layers:
            layer.length = length

    def compact(self, rows: Sequence[int], positions: Tensor) -> None:
        """Keep some tokens, in a new order, at new positions.

        Args:
            rows: for every token to keep, in the new order, its index so far.
            positions: float64, [len(rows), 3].
        """
        index = torch.tensor(rows, dtype=torch.long)
        origins = self._origins[index]
        moved = (index != torch.arange(len(index))) | (positions != self._places[index]).any(1)
        # The first tokens mostly stay as they are.
        first = int(moved.nonzero()[0]) if moved.any() else len(index)
        device = self.layers[0].keys.device
        taken, place = index[first:].to(device), slice(first, len(index))
        turn = self._rotation.turn((positions - origins)[first:], device)
        for layer in self.layers:
            layer.written[:, :, place] = layer.written[:, :, taken]
            layer.keys[:, :, place] = turn(layer.written[:, :, place])
            layer.values[:, :, place] = layer.values[:, :, taken]
            layer.length = len(index)
        self._origins[: len(index)] = origins
        self._places[: len(index)] = positions

    def save(self) -> dict[str, Tensor]:
        """Copies on the CPU of what is held.

        Returns:
            ``written`` and ``values``, [layers, heads, tokens, head_dim] in the cache's dtype;
            ``origins`` and ``places``, float64, [tokens, 3].
        """
        held = slice(self.length)
        written = torch.cat([layer.written[:, :, held] for layer in self.layers])
        values = torch.cat([layer.values[:, :, held] for layer in self.layers])
        return {
            "written": written.cpu(),
            "values": values.cpu(),
            "origins": self._origins[held].clone(),
            "places": self._places[held].clone(),
        }

    def load(self, tensors: Mapping[str, Tensor], capacity: int) -> None:
        """Take over what :meth:`save` gave; the keys come out bit for bit.

        Args:
            tensors: of that cache.
            capacity: tokens to make room for.
        """
        origins, places = tensors["origins"], tensors["places"]
        held = len(origins)
        self.truncate(0)
        self.reserve(max(held, capacity))
        turn = self._rotation.turn(places - origins, self.layers[0].keys.device)
        for index, layer in enumerate(self.layers):
            layer.written[0, :, :held] = tensors["written"][index]
            layer.values[0, :, :held] = tensors["values"][index]
            layer.keys[:, :, :held] = turn(layer.written[:, :, :held])
            layer.length = held
        self._origins[:held], self._places[:held] = origins, places

    def release(self) -> None:
        """Let go of the buffers."""
        for layer in self.layers:
            layer.keys = layer.written = layer.values = layer.keys.new_zeros(0)
            layer.length = 0
