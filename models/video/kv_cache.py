"""Self-attention's keys and values of the frames a film may look back on.

Preallocated: a frame goes into a free slot, and a table says which frame each slot holds. Softmax
does not care for order, so nothing is ever moved. Keys are stored rotated; by default positions
are relative to the cache (StreamingLLM, section 3.2), so a film has no last frame. The window's
frames keep their distances as it slides, and with them their rotations; only the sinks come
closer, and are rotated anew, from raw copies, once a chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longtake.kernels import FP8, BlockMap, Kernels, as_kept
from longtake.models.video.radial import RadialSettings, radial_map
from longtake.models.video.rope import RotaryEmbedding
from longtake.models.video.self_attention import Norms, SelfAttention
from longtake.models.video.transfer import to_device
from longtake.models.video.transformer import TransformerConfig
from longtake.streaming import Budget, Rule, Span

Positions = Literal["relative", "absolute"]


@dataclass(frozen=True)
class CacheSettings:
    """How far a film looks back.

    Attributes:
        sink: latent frames from the start, kept for good.
        window: newest latent frames, the chunk being made included.
        chunk: latent frames made at a time.
        positions: ``relative`` to the cache, or ``absolute`` in the film.
        radial: the bands that are seen of far frames; all of what is held is seen without.
    """

    sink: int
    window: int
    chunk: int
    positions: Positions = "relative"
    radial: RadialSettings | None = None

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk is {self.chunk}; at least 1 latent frame is needed")
        if self.window < self.chunk:
            raise ValueError(f"window is {self.window}; a chunk of {self.chunk} has to fit in it")
        if self.sink < 0:
            raise ValueError(f"sink is {self.sink}; it cannot be negative")

    @property
    def slots(self) -> int:
        """Latent frames the cache has room for."""
        return self.sink + self.window


class KVCache:
    """One film's cache, and the :class:`.SelfAttention` of its forwards.

    ``stage`` frames, run forwards over them as often as needed (each overwrites the same slots),
    then ``commit`` the last one or ``roll back``. What was committed before stays untouched.

    Args:
        config: of the transformer.
        settings: sizes.
        grid: rows and columns of tokens in a latent frame.
        kernels: the bound operations.
        device: of the tensors.
        dtype: of the forwards' tensors.
        fp8: whether keys and values are kept in 8-bit floating point, without any scale: keys are
            normed, and what is left of values is far from where it ends.
    """

    def __init__(
        self,
        config: TransformerConfig,
        settings: CacheSettings,
        grid: tuple[int, int],
        kernels: Kernels,
        device: torch.device,
        dtype: torch.dtype,
        *,
        fp8: bool = False,
    ) -> None:
        self.settings = settings
        self.budget = Budget({"frame": Rule(settings.sink, settings.window)})
        self._kernels = kernels
        self._attention = kernels.attention_fp8 if fp8 else kernels.attention
        self._dtype = dtype
        self._grid = grid
        # On the device, as to be made on the host and copied takes longer than a denoising step's
        # kernels take to be started; a Mac's has no float64.
        where = torch.device("cpu") if device.type == "mps" else device
        self._rope = RotaryEmbedding(config.attention_head_dim, where)
        self._frame_tokens = grid[0] * grid[1]
        head = (config.num_attention_heads, config.attention_head_dim)

        def room(frames: int, dtype: torch.dtype) -> Tensor:
            shape = (config.num_layers, 1, frames, self._frame_tokens, *head)
            return torch.zeros(shape, device=device, dtype=dtype)

        kept = FP8 if fp8 else dtype
        self._keys, self._values = room(settings.slots, kept), room(settings.slots, kept)
        self._raw_sinks = room(settings.sink, dtype)
        self._table: list[int | None] = [None] * settings.slots
        self._sink_positions: list[int] = []
        self._staged: list[int] = []
        self._staged_slots: list[int] = []
        # Of the staged frames, from the start: recorded forwards read them where they were.
        self._written_all = torch.zeros(settings.slots, dtype=torch.int64, device=device)
        pairs = (settings.slots * self._frame_tokens, config.attention_head_dim // 2, 2)
        self._rotation_all = torch.zeros(pairs, device=device)
        self._written, self._rotation = self._written_all[:0], self._rotation_all[:0]
        self._read: slice | Tensor = slice(0)
        self._blocks: BlockMap | None = None
        self._map_all: BlockMap | None = None

    @property
    def frames(self) -> list[int]:
        """The committed frames' numbers in the film, ascending; the sinks come first."""
        return sorted(frame for frame in self._table if frame is not None)

    @property
    def bytes(self) -> int:
        """Memory taken, whatever is held."""
        return self._keys.nbytes + self._values.nbytes + self._raw_sinks.nbytes

    @property
    def is_steady(self) -> bool:
        """Whether a chunk is staged that fills the cache.

        Then every forward runs the same operations on the same memory, whatever the chunk.
        """
        full = isinstance(self._read, slice) and self._read.stop == self.settings.slots
        filled = len(self.frames) >= self.settings.sink
        return full and filled and len(self._staged) == self.settings.chunk

    def stage(self, frames: Iterable[int]) -> None:
        """Choose slots and positions for frames to come; what was staged before is forgotten.

        Args:
            frames: consecutive numbers in the film, newer than all that is held.

        Raises:
            ValueError: there is no room.
        """
        self.roll_back()
        staged = list(frames)
        free = [slot for slot, held in enumerate(self._table) if held is None]
        if len(free) < len(staged):
            raise ValueError(f"{len(staged)} frames do not fit in {len(free)} free slots")
        self._staged, self._staged_slots = staged, free[: len(staged)]
        self._written = self._written_all[: len(staged)]
        self._written.copy_(self._indices(self._staged_slots))
        taken = sorted(set(range(len(self._table))) - set(free[len(self._staged) :]))
        # In the common case a slice, which reads without a copy.
        first = taken == list(range(len(taken)))
        self._read = slice(len(taken)) if first else self._indices(taken)
        held = self.frames
        positions = self._positions(held + self._staged)
        self._rotate_sinks(held[: self.settings.sink], positions)
        self._rotation = self._rotation_all[: len(staged) * self._frame_tokens]
        self._rotation.copy_(self._rotations(positions[len(held) :]))
        self._blocks = self._map(held)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        """Overwrite the staged slots of one layer and attend to what is to be seen."""
        radial = self.settings.radial
        blocks = self._blocks if radial and layer >= radial.dense_layers else None
        return self._attend(layer, q, k, v, norms, blocks)

    def dense(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        """Overwrite the staged slots of one layer and attend to all that is held."""
        return self._attend(layer, q, k, v, norms, None)

    def at_step(self, step: int) -> SelfAttention:
        """What attends in a denoising step, by its index: the first ones may be dense."""
        radial = self.settings.radial
        return self.dense if radial and step < radial.dense_steps else self

    def write(self, layer: int, k: Tensor, v: Tensor, norms: Norms) -> None:
        """Overwrite the staged slots of one layer; what is attended to is of no interest."""
        # Keys in the place of queries: rotated in vain, which no one notices.
        self._put(layer, k, k, v, norms._replace(q=norms.k))

    def _attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms, blocks: BlockMap | None
    ) -> Tensor:
        turned = self._put(layer, q, k, v, norms)
        keys, values = self._keys[layer], self._values[layer]
        if blocks is not None:
            return self._kernels.block_attention(turned, keys, values, blocks).to(self._dtype)
        seen = (each[:, self._read].flatten(1, 2) for each in (keys, values))
        return self._attention(turned, *seen).to(self._dtype)

    def _put(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        """Write keys and values; gives the rotated queries."""
        ops = self._kernels
        first = len(self.frames)
        if first < self.settings.sink:
            raw = k.unflatten(1, (len(self._staged), -1))[:, : self.settings.sink - first]
            sinks = self._raw_sinks[layer][:, first : first + raw.shape[1]]
            sinks.copy_(ops.rms_norm(raw.flatten(-2), norms.k, norms.eps).view_as(sinks))
        keys, values = self._keys[layer], self._values[layer]
        return ops.norm_rope_write(q, k, v, *norms, self._rotation, keys, values, self._written)

    def commit(self, upcoming: int | None = None) -> None:
        """Make the staged frames part of the cache and free what the budget lets go.

        Args:
            upcoming: frames that will be staged next; a chunk where it is not given.
        """
        first = len(self.frames)
        sinks = self._positions(self.frames + self._staged)[: self.settings.sink]
        self._sink_positions = self._sink_positions[:first] + sinks[first:]
        for slot, frame in zip(self._staged_slots, self._staged, strict=True):
            self._table[slot] = frame
        self.roll_back()
        held = self.frames
        room = Span(held[-1] + 1, self.settings.chunk if upcoming is None else upcoming)
        kept = self.budget.keep([Span(frame, 1) for frame in held], [room])
        self._forget({frame for span in kept for frame in range(span.start, span.stop)})

    def roll_back(self) -> None:
        """Forget what is staged; the committed frames are as they were before ``stage``."""
        self._staged, self._staged_slots = [], []

    def clear(self) -> None:
        """Forget every frame."""
        self._forget(set())

    def keep_sinks(self) -> None:
        """Forget every frame but the sinks."""
        self._forget(set(self.frames[: self.settings.sink]))

    def save(self) -> tuple[dict[str, Tensor], dict[str, list[int | None]]]:
        """Everything a snapshot needs: tensors, and numbers for JSON. Nothing may be staged."""
        tensors = {"keys": self._keys, "values": self._values, "raw_sinks": self._raw_sinks}
        return tensors, {"table": list(self._table), "sinks": list(self._sink_positions)}

    def load(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, list[int]]) -> None:
        """Take over what :meth:`save` gave, slot for slot, so that sums keep their order."""
        self._keys.copy_(tensors["keys"])
        self._values.copy_(tensors["values"])
        self._raw_sinks.copy_(tensors["raw_sinks"])
        self._table = list(numbers["table"])
        self._sink_positions = list(numbers["sinks"])

    def _forget(self, but: set[int]) -> None:
        self._table = [frame if frame in but else None for frame in self._table]
        self._sink_positions = self._sink_positions[: len(but)]

    def _positions(self, frames: list[int]) -> list[int]:
        """Time positions of frames in cache order.

        Relative ones count back from the newest frame, which keeps its own number: the window is
        contiguous, so its frames keep theirs too, and only the sinks stand elsewhere.
        """
        if self.settings.positions == "absolute":
            return frames
        return [frames[-1] - back for back in reversed(range(len(frames)))]

    def _map(self, held: list[int]) -> BlockMap | None:
        if self.settings.radial is None:
            return None
        slots = list(self._table)
        for slot, frame in zip(self._staged_slots, self._staged, strict=True):
            slots[slot] = frame
        sinks = (held + self._staged)[: self.settings.sink]
        chunk, tokens = self.settings.chunk, self._frame_tokens
        made = radial_map(self._staged, slots, sinks, chunk, tokens, self.settings.radial)
        if self._map_all is None:
            rows = len(made.counts) // len(self._staged) * len(slots)
            keys = made.keys.new_zeros((rows, made.keys.shape[1]), device=self._keys.device)
            self._map_all = BlockMap(keys, keys.new_zeros(rows), made.size)
        rows = len(made.counts)
        kept = BlockMap(self._map_all.keys[:rows], self._map_all.counts[:rows], made.size)
        kept.keys.copy_(to_device(made.keys, self._keys.device))
        kept.counts.copy_(to_device(made.counts, self._keys.device))
        return kept

    def _indices(self, slots: list[int]) -> Tensor:
        return to_device(torch.tensor(slots), self._keys.device)

    def _rotations(self, positions: list[int]) -> Tensor:
        return self._rope(positions, *self._grid).to(self._keys.device)

    def _rotate_sinks(self, sinks: list[int], positions: list[int]) -> None:
        wanted = positions[: len(sinks)]
        if wanted == self._sink_positions:
            return
        raw = self._raw_sinks[:, 0, : len(sinks)].flatten(1, 2)
        turned = as_kept(self._kernels.rope(raw, self._rotations(wanted)), self._keys.dtype)
        turned = turned.unflatten(1, (len(sinks), self._frame_tokens))
        for index, frame in enumerate(sinks):
            self._keys[:, 0, self._table.index(frame)] = turned[:, index]
        self._sink_positions = wanted
