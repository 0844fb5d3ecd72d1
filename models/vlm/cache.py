"""Keys and values of what a captioner remembers, behind transformers' cache interface.

Preallocated, one buffer a layer. transformers' attention hands over keys that are already rotated
to their positions; tokens are only ever appended, and once a round :meth:`StreamingCache.compact`
drops, reorders and re-rotates them: a rotation by the difference of the two positions, so raw
keys need not be kept. Words are turned by a round's shift once a round at most, and sinks, which
never move, not at all; so in float32 rounding stays far below what can be seen (tested over 40
rounds).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from longtake.models.vlm.rotation import Rotation


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, [1, heads, capacity, head_dim]; the first ``length`` count."""

    is_sliding = False
    is_croppable = False
    is_compileable = False

    def __init__(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.keys: Tensor = torch.zeros(*shape, device=device, dtype=dtype)
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
        self.keys[:, :, self.length : stop] = key_states
        self.values[:, :, self.length : stop] = value_states
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
        self._positions = torch.zeros(0, 3, dtype=torch.float64)

    @property
    def length(self) -> int:
        """Tokens held."""
        length: int = self.layers[0].length
        return length

    @property
    def bytes(self) -> int:
        """Memory taken, whatever is held."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    def reserve(self, capacity: int) -> None:
        """Make room for so many tokens in all; what is held is kept. Never shrinks."""
        if capacity <= self.get_max_length():
            return
        for layer in self.layers:
            for name in ("keys", "values"):
                old = getattr(layer, name)
                new = old.new_zeros(*old.shape[:2], capacity, old.shape[-1])
                new[:, :, : layer.length] = old[:, :, : layer.length]
                setattr(layer, name, new)
        positions = torch.zeros(capacity, 3, dtype=torch.float64)
        positions[: self.length] = self._positions[: self.length]
        self._positions = positions

    def place(self, positions: Tensor) -> None:
        """Say where the tokens stand that the next forward appends.

        Args:
            positions: float64, [tokens, 3].
        """
        self._positions[self.length : self.length + len(positions)] = positions

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
        shift = positions - self._positions[index]
        moving = (index != torch.arange(len(index))) | shift.any(dim=1)
        # The first tokens mostly stay as they are.
        first = int(moving.nonzero()[0]) if moving.any() else len(index)
        device = self.layers[0].keys.device
        taken, place = index[first:].to(device), slice(first, len(index))
        turn = self._rotation.turn(shift[first:], device)
        for layer in self.layers:
            layer.keys[:, :, place] = turn(layer.keys[:, :, taken])
            layer.values[:, :, place] = layer.values[:, :, taken]
            layer.length = len(index)
        self._positions[: len(index)] = positions

    def save(self) -> dict[str, Tensor]:
        """Copies on the CPU of what is held: keys and values, [layers, heads, length, head_dim]."""
        held = slice(self.length)
        return {
            "keys": torch.cat([layer.keys[:, :, held] for layer in self.layers]).cpu(),
            "values": torch.cat([layer.values[:, :, held] for layer in self.layers]).cpu(),
            "positions": self._positions[held].clone(),
        }

    def load(self, tensors: dict[str, Tensor], capacity: int) -> None:
        """Take over what :meth:`save` gave.

        Args:
            tensors: of that cache.
            capacity: tokens to make room for.
        """
        length = len(tensors["positions"])
        self.truncate(0)
        self.reserve(max(length, capacity))
        for index, layer in enumerate(self.layers):
            layer.keys[0, :, :length] = tensors["keys"][index]
            layer.values[0, :, :length] = tensors["values"][index]
            layer.length = length
        self._positions[:length] = tensors["positions"]

    def release(self) -> None:
        """Let go of the buffers."""
        for layer in self.layers:
            layer.keys = layer.values = layer.keys.new_zeros(0)
            layer.length = 0
