"""Stage 2: the tiny video codec, trained to rebuild rendered clips.

With `--encoder` only a decoder is trained, of other sizes if one likes, for the latents that a
trained codec has already: whatever else was made for those goes on working.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from longtake.models.video.tiny_codec import TinyCodec, TinyCodecConfig
from longtake.training.judge import Judge, accuracy, load_judge
from longtake.training.loop import (
    Loop,
    add_arguments,
    half_precision,
    join_ranks,
    loop_config,
    rank,
    step_generator,
)
from longtake.training.pool import as_float, clip_pool

THING_WEIGHT = 3.0
TEXTURE, TEXTURE_WEIGHT = 8, 8.0
"""Pixels along each side of the patches that are to be as busy as the true ones, and its weight.

Without it grass whose blades the latents do not hold becomes a lawn: a mean of all places where
they may be.
"""
WARM = 8
"""Frames that the codec sees before those that count: it remembers the frames before."""


def codec_config(path: Path) -> TinyCodecConfig:
    """The codec's sizes from the "vae" part of a model's JSON description."""
    values = json.loads(path.read_text())["vae"]
    lists: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return TinyCodecConfig(**lists)


def load_codec(folder: Path, device: torch.device | str = "cpu") -> TinyCodec:
    """A trained codec, ready to use."""
    codec = TinyCodec(codec_config(folder / "config.json"))
    codec.load_state_dict(load_file(folder / "model.safetensors"))
    return codec.to(device).eval()


def save_codec(codec: TinyCodec, config: TinyCodecConfig, folder: Path) -> None:
    """Write `config.json` (the sizes under "vae") and `model.safetensors` (float32)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"vae": asdict(config)}, indent=1) + "\n")
    weights = {name: value.cpu().contiguous() for name, value in codec.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def recolour(frames: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the clips with their colours mixed at random.

    A codec that has only seen the world's own colours learns them by heart, and rebuilds a pair
    of sky and ground that it never met as one that it did.

    `frames`: float [B, T, 3, H, W] in [0, 1].
    """
    clips, device = len(frames), frames.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(clips, *shape, generator=draw, device=device)

    mix = torch.eye(3, device=device) + 0.6 * (uniform(3, 3) - 0.5)
    shift = 0.3 * (uniform(1, 3, 1, 1) - 0.5)
    mixed = torch.einsum("bij,btjhw->btihw", mix, frames - 0.5) + 0.5 + shift
    return torch.where(uniform(1, 1, 1, 1) < 0.5, frames, mixed.clamp(0, 1))


def importance(frames: Tensor, things: Tensor) -> Tensor:
    """Where the eye looks: weights [B, T, 1, H, W] of mean 1.

    High at edges and at what moves, and most of all where the things are: falling snow has edges
    and moves too.

    `frames`: float [B, T, 3, H, W] in [0, 1]; `things`: bool, as in `Pool`.
    """
    flat = frames.flatten(0, 1)
    down = F.pad((flat[:, :, 1:] - flat[:, :, :-1]).abs(), (0, 0, 0, 1))
    right = F.pad((flat[:, :, :, 1:] - flat[:, :, :, :-1]).abs(), (0, 1))
    edges = (down + right).mean(1, keepdim=True).view_as(frames[:, :, :1])
    moves = (frames[:, 1:] - frames[:, :-1]).abs().mean(2, keepdim=True)
    moves = torch.cat((moves[:, :1], moves), 1)
    weight = F.max_pool2d((edges + moves).flatten(0, 1), 5, stride=1, padding=2)
    weight = 0.25 + 6 * weight.view_as(edges).clamp(max=0.5)
    cells = torch.where(things, THING_WEIGHT, 1.0)
    weight = weight * F.interpolate(cells, frames.shape[-2:])[:, :, None]
    return weight / weight.mean()


def texture(frames: Tensor) -> Tensor:
    """How busy each patch of float frames [B, T, 3, H, W] is: [B * T, 3, H / 8, W / 8].

    The mean slope over two pixels, down and across. Over one, a mesh of single pixels would be the
    cheapest way to be busy, and is seen on a large screen (measured with a weight of 8).
    """
    flat = frames.flatten(0, 1)
    down = (flat[:, :, 2:] - flat[:, :, :-2]).abs()
    right = (flat[:, :, :, 2:] - flat[:, :, :, :-2]).abs()
    slopes = F.pad(down, (0, 0, 1, 1)) + F.pad(right, (1, 1))
    return F.avg_pool2d(slopes, TEXTURE) / 4


def reconstruction_loss(rebuilt: Tensor, frames: Tensor, things: Tensor) -> dict[str, Tensor]:
    """Weighted L1 and L2, and the L1 of gradients and of `texture`.

    `rebuilt`, `frames`: float [B, T, 3, H, W]; `things`: as in `importance`.
    """
    weight = importance(frames, things)
    error = rebuilt - frames
    absolute = (weight * error.abs()).mean()
    square = (weight * error.square()).mean()
    slopes = [
        (error[..., 1:, :] - error[..., :-1, :]).abs().mean(),
        (error[..., :, 1:] - error[..., :, :-1]).abs().mean(),
        (error[:, 1:] - error[:, :-1]).abs().mean(),
    ]
    gradient = torch.stack(slopes).sum()
    busy = (texture(rebuilt) - texture(frames)).abs().mean()
    plain = error.detach().square().mean()
    loss = absolute + 4 * square + 0.5 * gradient + TEXTURE_WEIGHT * busy
    return {"loss": loss, "texture": busy.detach(), "psnr": -10 * plain.log10()}


class _Autoencoder(torch.nn.Module):
    """Encodes and decodes with a little noise on the latents between."""

    def __init__(self, codec: TinyCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, frames: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.codec.encode(frames)
        # The noise is measured by the latents' own spread, so growing them is no way around it.
        spread = latents.detach().float().std((0, 2, 3, 4), keepdim=True)
        rebuilt, _ = self.codec.decode(latents + noise * spread)
        return rebuilt, latents


def latent_noise(codec: TinyCodec, frames: Tensor, draw: torch.Generator, most: float) -> Tensor:
    """Gaussian noise for the latents of `frames`, of a strength of its own for each clip."""
    batch, time, _, height, width = frames.shape
    config = codec.config
    shape = (config.latent_channels, time // config.temporal, height // config.spatial)
    strength = most * torch.rand(batch, 1, 1, 1, 1, generator=draw, device=draw.device)
    latents = (batch, *shape, width // config.spatial)
    return strength * torch.randn(latents, generator=draw, device=draw.device)


@torch.no_grad()
def latent_statistics(
    codec: TinyCodec, clips: Tensor, batch: int = 32
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the latents of uint8 clips, less the warm-up."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    device = next(codec.parameters()).device
    for start in range(0, len(clips), batch):
        frames = as_float(clips[start : start + batch].to(device))
        latents = codec.encode(frames)[:, :, WARM // codec.config.temporal :].double().cpu()
        count += latents.numel() // latents.shape[1]
        total = total + latents.sum((0, 2, 3, 4))
        squares = squares + latents.square().sum((0, 2, 3, 4))
    mean = total / count
    std = (squares / count - mean.square()).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def keep_encoder(codec: TinyCodec, trained: TinyCodec) -> TinyCodecConfig:
    """Give a codec another one's encoder, which is not trained any more, and return its sizes.

    Layers of the decoder that are as large in both begin as they are there. Raises `ValueError`
    where the encoders differ in size.
    """
    own, theirs = codec.state_dict(), trained.state_dict()
    fitting = {
        name: value
        for name, value in theirs.items()
        if name in own and own[name].shape == value.shape
    }
    encoder = {name for name in own if name.startswith("encoder.")}
    if not encoder <= fitting.keys():
        raise ValueError("the encoder to keep has other sizes than the codec to train")
    codec.load_state_dict(own | fitting)
    codec.encoder.requires_grad_(requires_grad=False)
    statistics = {name: getattr(trained.config, name) for name in ("latents_mean", "latents_std")}
    return replace(codec.config, **statistics)


@torch.no_grad()
def rebuild(codec: TinyCodec, clips: Tensor, batch: int = 32) -> Tensor:
    """Clips, uint8 [B, T, 3, H, W], through the codec and back."""
    dtype = next(codec.parameters()).dtype
    parts = []
    for start in range(0, len(clips), batch):
        frames = as_float(clips[start : start + batch]).to(dtype)
        rebuilt, _ = codec.decode(codec.encode(frames))
        parts.append((rebuilt.float().clamp(0, 1) * 255 + 0.5).to(torch.uint8))
    return torch.cat(parts)


def measure(
    codec: TinyCodec, judge: Judge | None, count: int, draw: torch.Generator
) -> dict[str, float]:
    """PSNR on `count` clips of held-out combinations, and what a judge, if any, reads there.

    All are on the generator's device. `judge_ratio` is the judge's mean accuracy on what was
    rebuilt over that on the clips themselves.
    """
    clips, rows, _ = clip_pool(count, 32 + WARM, draw, held_out=True)
    rebuilt, clips = rebuild(codec, clips)[:, WARM:], clips[:, WARM:]
    errors = [
        (as_float(a) - as_float(b)).square().mean() for a, b in zip(rebuilt, clips, strict=True)
    ]
    metrics = {"psnr": float((-10 * torch.stack(errors).log10()).mean())}
    if judge is not None:
        read = accuracy(judge.read(rebuilt), rows)
        metrics |= {f"judge_{name}": value for name, value in read.items()}
        metrics["judge_ratio"] = read["mean"] / accuracy(judge.read(clips), rows)["mean"]
    return metrics


def train(options: argparse.Namespace) -> TinyCodec | None:
    """Train within the budget and write the folder; None where it paused."""
    device = join_ranks(options)
    torch.backends.cudnn.benchmark = True
    config = codec_config(options.config)
    codec = TinyCodec(config).to(device)
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.init:
        codec.load_state_dict(load_file(options.init / "model.safetensors"))
    else:
        # Outputs are clamped to [0, 1], where a clamped pixel learns nothing: start from grey.
        torch.nn.init.constant_(codec.decoder[-1].bias, 0.5)  # type: ignore[arg-type]
    if options.encoder:
        config = keep_encoder(codec, load_codec(options.encoder, device))
    generator = step_generator(options.seed, -1, device)
    rest = options.pool // 6
    still = clip_pool(options.pool - rest, options.pool_frames, generator)
    changing = clip_pool(rest, options.pool_frames, generator, changing=True)
    loop = Loop(loop_config(options, average=0.998), codec)
    both = _Autoencoder(codec)
    forward = both if options.no_compile else torch.compile(both)
    window = torch.arange(options.frames, device=device)
    latest = options.pool_frames - options.frames + 1

    def step_loss(step: int) -> dict[str, Tensor]:
        draw = step_generator(options.seed, step, device)
        # A sixth of each batch changes scene.
        sizes = (options.batch - options.batch // 6, options.batch // 6)
        parts, cells = [], []
        for pool, size in zip((still, changing), sizes, strict=True):
            clip = torch.randint(len(pool.clips), (size, 1), generator=draw, device=device)
            start = torch.randint(latest, (size, 1), generator=draw, device=device)
            parts.append(pool.clips[clip, start + window])
            cells.append(pool.things[clip, start + window])
        frames, things = recolour(as_float(torch.cat(parts)), draw), torch.cat(cells)
        noise = latent_noise(codec, frames, draw, options.noise)
        with half_precision(device):
            rebuilt, latents = forward(frames, noise)
        losses = reconstruction_loss(rebuilt.float(), frames, things)
        losses["loss"] = losses["loss"] + 1e-4 * latents.float().square().mean()
        return losses

    if not loop.run(step_loss) or rank():
        return None
    if not options.encoder:
        seen = torch.cat((still.clips[:1000], changing.clips[:200]))
        mean, std = latent_statistics(loop.ema, seen)
        config = replace(config, latents_mean=mean, latents_std=std)
    save_codec(loop.ema, config, options.out)
    trained = load_codec(options.out, device)
    judge = load_judge(options.judge, device) if options.judge else None
    metrics = measure(trained, judge, options.test, step_generator(options.seed + 1, 0, device))
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(json.dumps(metrics))
    return trained


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=250, batch=24)
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    result.add_argument("--judge", type=Path, help="the judge's folder, to measure with")
    result.add_argument("--encoder", type=Path, help="a folder of this stage: a decoder for it")
    result.add_argument("--frames", type=int, default=16, help="frames of a training clip")
    result.add_argument("--pool", type=int, default=6000, help="clips rendered to train on")
    result.add_argument("--pool-frames", type=int, default=24, help="frames of each of them")
    result.add_argument("--noise", type=float, default=0.15, help="most noise on the latents")
    result.add_argument("--test", type=int, default=256, help="clips in the test")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
