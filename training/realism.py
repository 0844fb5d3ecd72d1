"""How well generated clips can be told from renders: by a small network trained on nothing else.

The judge says whether a clip shows what was asked for; whether it also looks right is asked here.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.training.pool import as_float
from longtake.training.valley.world import HEIGHT, WIDTH

FRAMES, STRIDE = 4, 4
"""Frames of a clip that is looked at, and how far apart they are: three quarters of a second."""
FOLDS = 5
PASSES = 50
"""Times that a training batch is drawn for every so many clips as it holds."""
PAIRS = 16
"""Pairs of a generated and a rendered clip of the same attributes in a training batch."""
CROP = (72, 128)
"""Rows and columns of a training crop: many small looks teach more than few large ones."""


class _Classifier(nn.Module):
    """Clips to one logit each, high for generated ones."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3 * FRAMES, 16, 32, 48, 64)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)]
            # Over the batch: normalising each clip by itself would hide how strong its edges are.
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[-1], 1))

    def forward(self, clips: Tensor) -> Tensor:
        """Logits [B] of float clips [B, FRAMES, 3, H, W] in [0, 1]."""
        x = self.stages((2 * clips - 1).flatten(1, 2).to(memory_format=torch.channels_last))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits[:, 0]


def auc(positive: Tensor, negative: Tensor) -> float:
    """Area under the ROC curve: how often a positive's score [P] is above a negative's [N]."""
    above = (positive[:, None] > negative).float() + 0.5 * (positive[:, None] == negative).float()
    return float(above.mean())


def realism_auc(generated: Tensor, rendered: Tensor, seed: int, device: torch.device) -> float:
    """How well the network tells generated clips from rendered ones that it never saw.

    Both are films uint8 [N, T, 3, HEIGHT, WIDTH] on the CPU, the i-th of both of the same
    attributes, and cut into clips. In each of five folds the network learns on four fifths of the
    films and is tried on the others, so that a film's clips, and what is of its attributes, are
    never on both sides. Returns the mean area under the ROC curve: 0.5 where there is nothing to
    tell them by, 1 where every clip gives itself away.

    Raises `ValueError` for fewer films than folds, or films shorter than a clip.
    """
    if len(generated) < FOLDS:
        raise ValueError(f"{len(generated)} films cannot be divided into {FOLDS} folds")
    sides = torch.stack((rendered[:, ::STRIDE], generated[:, ::STRIDE]))
    clips = sides[:, :, : sides.shape[2] // FRAMES * FRAMES].unflatten(2, (-1, FRAMES))
    if not clips.shape[2]:
        raise ValueError(f"{rendered.shape[1]} frames are fewer than a clip spans")
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(generated), generator=draw)
    areas = []
    for fold in range(FOLDS):
        mine = torch.zeros(len(order), dtype=torch.bool)
        mine[order[fold::FOLDS]] = True
        network = _trained(clips[:, ~mine].flatten(1, 2), draw, device)
        negative, positive = (_scores(network, side) for side in clips[:, mine].flatten(1, 2))
        areas.append(auc(positive, negative))
    return sum(areas) / FOLDS


def _trained(clips: Tensor, draw: torch.Generator, device: torch.device) -> _Classifier:
    """A network trained on clips [2, N, FRAMES, 3, H, W], the renders first."""
    steps = PASSES * -(-clips.shape[1] // PAIRS)
    labels = torch.arange(2.0, device=device).repeat_interleave(min(PAIRS, clips.shape[1]))
    # Its own random numbers, and the caller's left as they were.
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=draw)))
        network = _Classifier()
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in range(steps):
            chosen = torch.randperm(clips.shape[1], generator=draw)[:PAIRS]
            some = as_float(_augmented(clips[:, chosen].flatten(0, 1), draw).to(device))
            loss = F.binary_cross_entropy_with_logits(network(some), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def _augmented(clips: Tensor, draw: torch.Generator) -> Tensor:
    """A crop of the clips, mirrored in half of the cases."""
    height, width = CROP
    down, across, mirrored = (
        int(torch.randint(most, (1,), generator=draw))
        for most in (HEIGHT - height + 1, WIDTH - width + 1, 2)
    )
    clips = clips[..., down : down + height, across : across + width]
    return clips.flip(-1) if mirrored else clips


@torch.no_grad()
def _scores(network: _Classifier, clips: Tensor) -> Tensor:
    device = next(network.parameters()).device
    return torch.cat([network(as_float(part.to(device))).cpu() for part in clips.split(32)])
