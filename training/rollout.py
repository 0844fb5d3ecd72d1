"""Films in batches, without a cache: a quick look at a model while it is being trained.

The last latent frames are run again with every chunk, so a switch is always as after a recache
that rewrites the sinks. The application's own path is measured by `benchmarks/bundled.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from longtake.models.video import sampler
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.tiny_codec import TinyCodec
from longtake.models.video.transformer import WanTransformer
from longtake.training.attention import ChunkCausalAttention
from longtake.training.denoiser import Denoiser, Flow, chunk_attention
from longtake.training.metrics import Script
from longtake.training.prompts import build_tokenizer, tokens


class Rollout:
    """Films in the making: what of them the next chunk is seen after, and how it is sampled.

    `latent`: channels, rows and columns of a latent frame; `films`: how many side by side.
    """

    def __init__(
        self,
        transformer: WanTransformer,
        streaming: StreamingConfig,
        latent: tuple[int, int, int],
        films: int,
        draw: torch.Generator,
    ) -> None:
        self.flow = Flow(transformer)
        self.streaming = streaming
        channels, rows, columns = latent
        self.shape = (films, channels, streaming.chunk, rows, columns)
        self.draw = draw
        self.context = torch.zeros(self.shape, device=draw.device)[:, :, :0]

    @property
    def schedule(self) -> sampler.Schedule:
        """Of the next chunk."""
        size = self.streaming
        return size.schedule(size.steps, opening=self.context.shape[2] == 0)

    @property
    def attention(self) -> ChunkCausalAttention:
        """Of the next chunk, after the context."""
        clean = self.context.shape[2] // self.streaming.chunk
        latent = (self.shape[3], self.shape[4])
        counts = {"clean": clean, "noisy": 1, "first": clean}
        return chunk_attention(self.flow.transformer, self.streaming, latent, **counts)

    def noises(self) -> Tensor:
        """For each level of the next chunk: [levels, films, C, chunk, h, w]."""
        shape = (len(self.schedule.levels), *self.shape)
        return torch.randn(shape, generator=self.draw, device=self.draw.device)

    def sample(self, embeddings: Tensor) -> Tensor:
        """The next chunk, [films, C, chunk, h, w]."""
        given = (self.context.bfloat16(), self.noises(), embeddings, self.attention)
        return sample_chunk(self.flow, self.schedule, *given)[0]

    def append(self, latents: Tensor) -> None:
        """Make a chunk part of the films; what is neither sink nor window is forgotten."""
        sink = self.streaming.sink
        film = torch.cat((self.context, latents), 2)
        newest = film[:, :, sink:][:, :, -(self.streaming.window - self.streaming.chunk) :]
        self.context = torch.cat((film[:, :, :sink], newest), 2)


@torch.no_grad()
def sample_chunk(
    flow: Flow,
    schedule: sampler.Schedule,
    context: Tensor,
    noises: Tensor,
    embeddings: Tensor,
    attention: ChunkCausalAttention,
) -> tuple[Tensor, Tensor]:
    """The chunk after a `context`, and what it was at each level, as the sampler goes.

    `context`: bfloat16, the precision that films will be made in; `noises`: see `Rollout`. Returns
    [films, C, chunk, h, w] and, shaped as `noises`, the inputs.
    """
    noisy, inputs = noises[0], []
    for index, sigma in enumerate(schedule.levels):
        inputs.append(noisy)
        timesteps = noisy.new_full((noisy.shape[0], noisy.shape[2]), 1000 * sigma)
        with torch.autocast(noisy.device.type, torch.bfloat16):
            predicted = flow(context, noisy, timesteps, embeddings, attention).float()
        noisy = schedule.after(index, noisy, predicted, noises.__getitem__)
    return noisy, torch.stack(inputs)


class BatchCamera:
    """Makes films with a model that is still being trained; see `metrics.Camera`."""

    def __init__(
        self, denoiser: Denoiser, codec: TinyCodec, streaming: StreamingConfig, batch: int = 96
    ) -> None:
        self.denoiser = denoiser
        self.codec = codec
        self.streaming = streaming
        self.batch = batch
        self.chunk_frames = streaming.chunk * codec.temporal
        self.device = next(denoiser.parameters()).device
        self.tokenizer = build_tokenizer()

    def shoot(self, scripts: Sequence[Script], chunks: int, seed: int) -> Iterator[Tensor]:
        """See `metrics.Camera.shoot`."""
        for first in range(0, len(scripts), self.batch):
            yield self._films(scripts[first : first + self.batch], chunks, seed + first)

    @torch.no_grad()
    def _films(self, scripts: Sequence[Script], chunks: int, seed: int) -> Tensor:
        size, spatial = self.streaming, self.codec.spatial
        latent = (self.codec.channels, size.height // spatial, size.width // spatial)
        draw = torch.Generator(self.device).manual_seed(seed)
        films = Rollout(self.denoiser.transformer, size, latent, len(scripts), draw)
        frames = []
        decoder = self.codec.start()
        for chunk in range(chunks):
            embeddings = self._embed([self._told(script, chunk) for script in scripts])
            latents = films.sample(embeddings)
            films.append(latents)
            pictures, decoder = self.codec.decode(latents, decoder)
            frames.append((pictures.clamp(0, 1) * 255 + 0.5).to("cpu", torch.uint8))
        return torch.cat(frames, 1)

    def _told(self, script: Script, chunk: int) -> list[str]:
        """The prompts of a script that are read at a chunk."""
        told = [script[start] for start in sorted(script) if start <= chunk]
        return told[-self.streaming.prompts :]

    def _embed(self, stories: list[list[str]]) -> Tensor:
        length = self.streaming.text_length
        ids, mask = tokens(self.tokenizer, stories, length, 0.0, random.Random(0))
        return self.denoiser.embed(ids.to(self.device), mask.to(self.device))
