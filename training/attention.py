"""Self-attention of a whole training window at once, chunk by chunk as the cache would give it."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.kernels import Kernels, bind
from longtake.kernels.cpu import fused_attention
from longtake.kernels.reference import seen_tokens
from longtake.kernels.registry import OPERATIONS
from longtake.models.video.radial import RadialSettings, radial_map
from longtake.models.video.rope import RotaryEmbedding
from longtake.models.video.self_attention import Norms


def training_kernels(device: torch.device) -> Kernels:
    """The references, which have gradients and are fused by the compiler; fast attention."""
    overrides = dict.fromkeys(OPERATIONS, "reference")
    overrides["attention"] = "cpu" if device.type == "cpu" else "sdpa"
    return bind(device, torch.bfloat16, overrides)


class ChunkCausalAttention:
    """The `SelfAttention` of training, without a cache.

    A forward's frames are the first `clean` chunks of a film, and after them noisy versions of
    `noisy` chunks in a row, from number `first` on. A chunk sees itself and the clean ones before
    it: just what the cache holds when it is made. One call a chunk, its queries over its keys, is
    exact, needs no mask, and so runs on the flash kernels.

    `grid`: rows and columns of tokens in a latent frame; `sink`: frames that `radial` attention
    never thins out. Raises `ValueError` where a noisy chunk would have to see one that is not
    there, or where some layers or steps are to be dense, which here are all alike.
    """

    def __init__(
        self,
        kernels: Kernels,
        chunk: int,
        grid: tuple[int, int],
        head_dim: int,
        device: torch.device | str,
        *,
        clean: int,
        noisy: int,
        first: int,
        sink: int = 0,
        radial: RadialSettings | None = None,
    ) -> None:
        if first + noisy > clean + 1:
            raise ValueError(f"chunk {first + noisy - 1} cannot follow {clean} clean ones")
        if radial and (radial.dense_layers or radial.dense_steps):
            raise ValueError("radial attention is trained in all layers and steps, or in none")
        self.kernels = kernels
        self.tokens = chunk * grid[0] * grid[1]
        self.clean, self.first = clean, first
        places = [*range(clean), *range(first, first + noisy)]
        frames = [place * chunk + frame for place in places for frame in range(chunk)]
        self.rotation = RotaryEmbedding(head_dim)(frames, *grid).to(device)
        self.masks: list[Tensor] = []
        if radial:
            # Of a chunk by its place in the film: clean or noisy, it sees the same.
            for end in range(chunk, (max(places) + 1) * chunk + 1, chunk):
                held, size = range(end), grid[0] * grid[1]
                blocks = radial_map(held[-chunk:], held, range(sink), chunk, size, radial)
                self.masks.append(seen_tokens(blocks, end, size).to(device))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:  # noqa: ARG002
        """See `longtake.models.video.self_attention.SelfAttention`."""
        return self.attend(*self.rotate(q, k, norms, 0), v, 0)

    def rotate(self, q: Tensor, k: Tensor, norms: Norms, start: int) -> tuple[Tensor, Tensor]:
        """Queries and keys of the chunks from index `start` on, normed, rotated to their places."""
        ops, rotation = self.kernels, self.rotation[start * self.tokens :]
        q, k = (
            ops.rms_norm(x.flatten(-2), weight, norms.eps).view_as(x)
            for x, weight in ((q, norms.q), (k, norms.k))
        )
        return ops.rope(q, rotation), ops.rope(k, rotation)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Rotated queries of the chunks from index `start` on, over keys and values of all."""
        # Of a long memory's chunks there are too many to be compiled one by one.
        each = self._each_as_it_is if self.masks else self._each
        attended: Tensor = each(q, k, v, start)
        return attended

    def _each(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        parts = []
        for index in range(start, k.shape[1] // self.tokens):
            own = slice(index * self.tokens, (index + 1) * self.tokens)
            before = index if index < self.clean else self.first + index - self.clean
            keys, values = (_seen(x, before * self.tokens, own) for x in (k, v))
            queries = q[:, own.start - start * self.tokens :][:, : self.tokens]
            if self.masks:
                parts.append(fused_attention(queries, keys, values, self.masks[before]))
            else:
                parts.append(self.kernels.attention(queries, keys, values))
        return torch.cat(parts, 1)

    _each_as_it_is = torch.compiler.disable(_each)


class RememberingAttention:
    """The attention of several forwards after the same clean chunks, which only the first one gets.

    It keeps their keys and values, as the cache does in use. `layers`: calls in a forward.
    """

    def __init__(self, attention: ChunkCausalAttention, layers: int) -> None:
        self.attention = attention
        self.layers = layers
        self.calls = 0
        self.memory: list[tuple[Tensor, Tensor]] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:  # noqa: ARG002
        """See `longtake.models.video.self_attention.SelfAttention`."""
        attended: Tensor = self._remember(q, k, v, norms)
        return attended

    # What it keeps is for each layer another; a compiler that looked inside, or at the layer's
    # number, would compile each anew. So layers are counted here.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _remember(self, q: Tensor, k: Tensor, v: Tensor, norms: Norms) -> Tensor:
        every, layer = self.attention, self.calls % self.layers
        self.calls += 1
        start = every.clean if layer < len(self.memory) else 0
        q, k = every.rotate(q, k, norms, start)
        if start:
            keys, values = self.memory[layer]
            k, v = torch.cat((keys, k), 1), torch.cat((values, v), 1)
        elif every.clean:
            kept = every.clean * every.tokens
            self.memory.append((k[:, :kept], v[:, :kept]))
        return every.attend(q, k, v, start)


def _seen(x: Tensor, before: int, own: slice) -> Tensor:
    """The first `before` tokens of x, [B, tokens, ...], and a chunk's own."""
    if before == own.start:
        return x[:, : own.stop]
    return torch.cat((x[:, :before], x[:, own]), 1)
