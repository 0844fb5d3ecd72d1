"""The judge: a small network that reads a clip and names all eleven attributes.

It is trained on renders of every combination, the held-out ones included, and never sees a
generated frame, so that it can say whether a generated clip shows what its prompt asked for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.models.quantization import dequantize, quantize
from longtake.training.loop import (
    Loop,
    add_arguments,
    half_precision,
    loop_config,
    step_generator,
)
from longtake.training.pool import as_float, clip_pool
from longtake.training.valley.film import CELL
from longtake.training.valley.world import COUNTS, NAMES, is_meaningful

SHIFTS = {1: range(-6, 7), 4: range(-18, 19, 3), 8: range(-12, 13, 2)}
"""How many frames earlier each one is compared with, and by how many pixels that one is shifted."""
UNASKED = -100
"""In place of a value that nobody can be asked for; cross entropy passes it over."""


@dataclass(frozen=True)
class JudgeConfig:
    """`window`: frames that a reading spans at best; every `stride`-th of them is looked at;
    `widths`, `motion`, `temporal`: channels of what looks at colours, at movement and over time.
    """

    window: int = 32
    stride: int = 2
    widths: tuple[int, ...] = (32, 64, 96, 128, 192)
    motion: int = 96
    temporal: int = 192

    @property
    def frames(self) -> int:
        """How many frames are looked at."""
        return self.window // self.stride


class _Stage(nn.Module):
    """Halves the picture, then one residual block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, outputs)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.second = nn.GroupNorm(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.down(x)))
        return F.relu(x + self.second(self.conv(x)))


def matching_costs(frames: Tensor) -> Tensor:
    """How badly each cell matches earlier frames shifted to the side, which tells how it moved.

    A cell's costs are relative to their mean over the shifts, so that they mean the same in strong
    and in faint texture; that mean comes after them.

    Frames [B, T, 3, H, W] in [0, 1] to [B, T, costs, H / CELL, W / CELL].
    """
    # Nothing moves so slowly up and down that every row were needed.
    grey = F.avg_pool2d(frames.mean(2), (2, 1))
    parts = []
    for gap, shifts in SHIFTS.items():
        first = grey[:, :1].expand(-1, min(gap, grey.shape[1]), -1, -1)
        earlier = torch.cat((first, grey[:, :-gap]), 1)
        costs = [(grey - earlier.roll(shift, -1)).abs() for shift in shifts]
        pooled = torch.stack([F.avg_pool2d(cost, (CELL // 2, CELL)) for cost in costs], 2)
        mean = pooled.mean(2, keepdim=True)
        parts += [pooled / (mean + 1 / 255) - 1, (20 * mean).clamp(max=2)]
    return torch.cat(parts, 2)


def _places(like: Tensor) -> Tensor:
    """Column and row in [-1, 1] of each place of pictures [..., H, W]: [2, H, W]."""
    height, width = like.shape[-2:]
    across, down = (
        torch.linspace(-1, 1, size, device=like.device, dtype=like.dtype)
        for size in (width, height)
    )
    return torch.stack((across.expand(height, -1), down[:, None].expand(-1, width)))


def _pooled(x: Tensor) -> Tensor:
    """Mean and maximum over the places of [N, C, H, W]: [N, 2 C]."""
    return torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)


class Judge(nn.Module):
    """Frames to one row of logits for each attribute."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        # Colours and each pixel's place; beside them what moved, and where.
        pairs = zip((3 + 2, *widths[:-1]), widths, strict=True)
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in pairs))
        costs = sum(len(shifts) + 1 for shifts in SHIFTS.values())
        self.motion = nn.Sequential(
            nn.Conv2d(costs + 2, config.motion, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.motion, config.motion, 3, padding=1),
            nn.ReLU(),
        )
        seen = 2 * (widths[-1] + config.motion)
        self.first = nn.Conv1d(seen, config.temporal, 3, padding=1)
        self.second = nn.Conv1d(config.temporal, config.temporal, 3, padding=1)
        features = seen + 2 * config.temporal
        self.heads = nn.ModuleList(nn.Linear(features, count) for count in COUNTS)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Logits [B, values] for each of the eleven attributes.

        `frames`: float [B, T, 3, H, W] in [0, 1], `stride` apart.
        """
        batch, steps = frames.shape[:2]
        costs = matching_costs(frames)
        colours, moved = (
            torch.cat((x, _places(x).expand(batch, steps, -1, -1, -1)), 2).flatten(0, 1)
            for x in (frames * 2 - 1, costs)
        )
        colours = colours.to(memory_format=torch.channels_last)
        parts = (_pooled(self.stages(colours)), _pooled(self.motion(moved)))
        pooled = torch.cat(parts, 1).view(batch, steps, -1)
        over_time = F.relu(self.first(pooled.transpose(1, 2)))
        over_time = F.relu(self.second(over_time))
        features = torch.cat((pooled.mean(1), over_time.mean(2), over_time.amax(2)), 1)
        return [head(features) for head in self.heads]

    @torch.no_grad()
    def read(self, clips: Tensor, batch: int = 64) -> Tensor:
        """Attribute rows int64 [B, 11] of clips, uint8 [B, T, 3, H, W].

        T is `window`, or half of it where less will have to do; raises `ValueError` otherwise.
        """
        if clips.shape[1] not in {self.config.window, self.config.window // 2}:
            raise ValueError(f"a clip has {clips.shape[1]} frames, not {self.config.window}")
        device = next(self.parameters()).device
        rows = []
        seen = clips[:, :: self.config.stride]
        for start in range(0, len(seen), batch):
            logits = self(as_float(seen[start : start + batch].to(device)))
            rows.append(likeliest(logits))
        return torch.cat(rows)


def likeliest(logits: Sequence[Tensor]) -> Tensor:
    """The row int64 [B, attributes] that logits [B, values] for each attribute speak for."""
    return torch.stack([each.argmax(1) for each in logits], 1)


def accuracy(read: Tensor, wanted: Tensor, counted: Tensor | None = None) -> dict[str, float]:
    """Share of right readings for each attribute and the mean of those, from rows [B, 11].

    `counted`: bool [B, 11]; where it is not given, all that shows (see `is_meaningful`). An
    attribute that counts nowhere is left out.
    """
    wanted = wanted.to(read.device)
    counted = is_meaningful(wanted) if counted is None else counted.to(read.device)
    right = ((read == wanted) & counted).sum(0) / counted.sum(0)
    result = {
        name: float(value) for name, value in zip(NAMES, right, strict=True) if value.isfinite()
    }
    return result | {"mean": sum(result.values()) / len(result)}


def load_judge(folder: Path, device: torch.device | str = "cpu") -> Judge:
    """The judge of a folder, ready to read."""
    values = json.loads((folder / "config.json").read_text())
    judge = Judge(JudgeConfig(**values | {"widths": tuple(values["widths"])}))
    judge.load_state_dict(dict(dequantize(load_file(folder / "model.safetensors").items())))
    return judge.to(device).eval()


def save_judge(judge: Judge, folder: Path) -> None:
    """Write `config.json` and `model.safetensors`, in int8."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(judge.config), indent=1) + "\n")
    weights = {name: value.cpu() for name, value in judge.state_dict().items()}
    save_file(quantize(weights), folder / "model.safetensors")


def degrade(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Float frames [B, T, 3, H, W] made worse as a codec would: softer, noisier, off in light."""
    clips = len(frames)
    device = frames.device

    def uniform(low: float, high: float) -> Tensor:
        u = torch.rand(clips, 1, 1, 1, 1, generator=generator, device=device)
        return low + (high - low) * u

    flat = frames.flatten(0, 1)
    soft = F.interpolate(F.avg_pool2d(flat, 2), scale_factor=2.0, mode="bilinear").view_as(frames)
    frames = torch.lerp(frames, soft, uniform(-0.3, 1.0).clamp(min=0))
    noise = torch.randn(frames.shape, generator=generator, device=device)
    frames = frames * uniform(0.94, 1.06) + uniform(0, 0.05) * noise
    return frames.clamp(0, 1)


def train(options: argparse.Namespace) -> Judge | None:
    """Train within the budget, write the folder and its metrics; None where it paused."""
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    config = JudgeConfig()
    judge = (load_judge(options.init) if options.init else Judge(config)).to(device)
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = step_generator(options.seed, -1, device)
    clips, rows, _ = clip_pool(
        options.pool, config.frames, generator, stride=config.stride, held_out=None
    )
    # What does not show is no fault.
    targets = torch.where(is_meaningful(rows), rows, UNASKED)
    loop = Loop(loop_config(options), judge)
    if not options.no_compile:
        # By turns clips are whole and half, but the frames of a batch are as many.
        judge.stages.compile(dynamic=False)
        judge.motion.compile(dynamic=False)

    def step_loss(step: int) -> dict[str, Tensor]:
        draw = step_generator(options.seed, step, device)
        # By turns over whole windows and over halves from anywhere in them.
        size = options.batch * (1 + step % 2)
        index = torch.randint(len(clips), (size,), generator=draw, device=device)
        some = clips[index]
        if step % 2:
            half = config.frames // 2
            begin = torch.randint(half + 1, (size, 1), generator=draw, device=device)
            picked = begin + torch.arange(half, device=device)
            some = some[torch.arange(size, device=device)[:, None], picked]
        frames = degrade(as_float(some), draw)
        with half_precision(device):
            logits = judge(frames)
        losses = [F.cross_entropy(x.float(), targets[index, i]) for i, x in enumerate(logits)]
        return {"loss": torch.stack(losses).sum(), "motion": losses[NAMES.index("motion")]}

    if not loop.run(step_loss):
        return None
    save_judge(loop.ema, options.out)
    metrics = {}
    for side, held_out in (("seen", False), ("held_out", True)):
        fresh = step_generator(options.seed + 1, int(held_out), device)
        clips, rows, _ = clip_pool(options.test, config.window, fresh, held_out=held_out)
        metrics[side] = accuracy(loop.ema.read(clips), rows)
        metrics[f"{side}_half"] = accuracy(loop.ema.read(clips[:, : config.window // 2]), rows)
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(json.dumps(metrics))
    return loop.ema


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=300, batch=96)
    result.add_argument("--pool", type=int, default=16_000, help="clips rendered to train on")
    result.add_argument("--test", type=int, default=1024, help="clips in each test")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
