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
from longtake.training.generator import Denoiser, Flow, chunk_attention
from longtake.training.metrics import Script
from longtake.training.prompts import build_tokenizer, tokens


class BatchCamera:
    """Makes films with a model that is still being trained; see `metrics.Camera`."""

    def __init__(
        self, denoiser: Denoiser, codec: TinyCodec, streaming: StreamingConfig, batch: int = 96
    ) -> None:
        self.denoiser = denoiser
        self.flow = Flow(denoiser.transformer)
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
        config = self.streaming
        draw = torch.Generator(self.device).manual_seed(seed)
        film: list[Tensor] = []
        frames = []
        decoder = self.codec.start()
        for chunk in range(chunks):
            embeddings = self._embed([_in_force(script, chunk) for script in scripts])
            keep = config.window - config.chunk
            context = film[: config.sink] + film[config.sink :][-keep:]
            latents = self._chunk(context, embeddings, draw)
            film += latents.split(1, dim=2)
            pictures, decoder = self.codec.decode(latents, decoder)
            frames.append((pictures.clamp(0, 1) * 255 + 0.5).to("cpu", torch.uint8))
        return torch.cat(frames, 1)

    def _chunk(self, context: list[Tensor], embeddings: Tensor, draw: torch.Generator) -> Tensor:
        config = self.streaming
        latent = (config.height // self.codec.spatial, config.width // self.codec.spatial)
        shape = (len(embeddings), self.codec.channels, config.chunk, *latent)
        transformer, clean = self.denoiser.transformer, len(context) // config.chunk
        attention = chunk_attention(transformer, config, latent, clean=clean, noisy=1, first=clean)

        def noise() -> Tensor:
            return torch.randn(shape, generator=draw, device=self.device)

        before = torch.cat(context, 2) if context else noise()[:, :, :0]
        levels = sampler.sigmas(config.steps, config.shift)
        latents = noise()
        for index, sigma in enumerate(levels):
            timesteps = latents.new_full((shape[0], config.chunk), 1000 * sigma)
            with torch.autocast(self.device.type, torch.bfloat16):
                flow = self.flow(before, latents, timesteps, embeddings, attention).float()
            latents = sampler.clean(latents, flow, sigma)
            if index + 1 < len(levels):
                latents = sampler.renoise(latents, noise(), levels[index + 1])
        return latents

    def _embed(self, texts: list[str]) -> Tensor:
        length = self.streaming.text_length
        ids, mask = tokens(self.tokenizer, texts, length, 0.0, random.Random(0))
        return self.denoiser.embed(ids.to(self.device), mask.to(self.device))


def _in_force(script: Script, chunk: int) -> str:
    """The prompt that a script has for a chunk."""
    return script[max(start for start in script if start <= chunk)]
