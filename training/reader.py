"""The text encoder learns to read: from captions back to the attributes that they name.

Which of two things is meant by a colour is hard to learn from pictures alone, and a model that has
not learned it swaps them. From attributes it is learned in a minute, after a plateau: a small
encoder left it after 600 steps of Muon at 1e-3, 800 of AdamW, and not in 3,300 of Muon at 5e-3. So
is which of a film's prompts still holds: a generator whose encoder had not learned it went back to
the oldest ones.

The heads that read the encoder's output are thrown away; the generator goes on from the encoder.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import UMT5EncoderModel

from longtake.models.video.text import encode_tokens
from longtake.training.dataset import CHANGE, PAST, SCENE, STYLE_CHANGES
from longtake.training.judge import UNASKED, accuracy, likeliest
from longtake.training.loop import (
    SEED_STRIDE,
    Loop,
    add_arguments,
    add_muon,
    half_precision,
    load_parameters,
    loop_config,
    step_batches,
)
from longtake.training.prompts import (
    build_text_encoder,
    build_tokenizer,
    mention,
    prompt,
    story,
    tokens,
)
from longtake.training.valley.world import COUNTS, NAMES, draw_change, sample_scenes

CHANGES = PAST + 1
"""At most, in a film: as in the dataset's."""
OVERRULED_WEIGHT = 8.0
"""What an attribute weighs whose value has changed since a film began.

One in ten has. Weighed like the others, it was read wrongly in one of three films and the mean was
0.96 all the same.
"""


class Reader(nn.Module):
    """A text encoder, and one query and one head for each attribute.

    The heads are linear, so what holds and what does not has to be told apart by the encoder.
    """

    def __init__(self, text: UMT5EncoderModel) -> None:
        super().__init__()
        self.text = text
        width = text.config.d_model
        self.queries = nn.Parameter(torch.randn(len(COUNTS), width) / width**0.5)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in COUNTS)

    def forward(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """Logits [B, values] for each attribute, from token ids and mask, int64 [B, length]."""
        embeddings = encode_tokens(self.text, ids, mask)
        scores = embeddings @ self.queries.T
        shares = scores.masked_fill(mask[..., None] == 0, -torch.inf).softmax(1)
        pooled = shares.mT @ embeddings
        return [head(pooled[:, index]) for index, head in enumerate(self.heads)]


@dataclass(frozen=True)
class Captions:
    """Prompts as tokens, and what they name.

    `targets`: int64 [B, 11], `UNASKED` where they do not; `overruled`: bool [B, 11], where it was
    something else earlier in the film.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    overruled: Tensor


def draw_captions(
    n: int, length: int, forget: float, seed: int, *, held_out: bool = False
) -> Captions:
    """Half films with changes, a quarter scenes, a quarter changes alone.

    `held_out`: of pairs and in words kept from training.
    """
    draw, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    chain = [sample_scenes(n, draw, held_out)]
    for _ in range(CHANGES):
        chain.append(draw_change(chain[-1], STYLE_CHANGES[CHANGE], draw))
    stories, targets, overruled = [], [], []
    for index, rows in enumerate(torch.stack([x.attributes for x in chain], 1).tolist()):
        style = rng.choice((SCENE, CHANGE))
        scenes = rows[: 2 + rng.randrange(CHANGES) * (index % 2)]
        if index % 2:
            texts, said = story(scenes, style, rng, held_out=held_out)
        else:
            old, new = scenes
            said = mention(old, new, style, rng)
            texts = [prompt(old, new, style, said, rng, held_out=held_out)]
        stories.append(texts)
        told = zip(NAMES, scenes[-1], strict=True)
        targets.append([value if name in said else UNASKED for name, value in told])
        values = list(zip(*scenes, strict=True))
        overruled.append([len(texts) > 1 and len(set(each)) > 1 for each in values])
    ids, mask = tokens(build_tokenizer(), stories, length, forget, rng)
    wanted = torch.tensor(targets)
    return Captions(ids, mask, wanted, torch.tensor(overruled) & (wanted != UNASKED))


class _Batches(Dataset[Captions]):
    """The batch of every step, from its number alone."""

    def __init__(self, options: argparse.Namespace, length: int) -> None:
        self.options, self.length = options, length

    def __getitem__(self, step: int) -> Captions:
        options = self.options
        seed = options.seed * SEED_STRIDE + step
        return draw_captions(options.batch, self.length, options.forget, seed)


def train(options: argparse.Namespace) -> Reader | None:
    """Train within the budget, write the encoder and its metrics; None where it paused."""
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    described: dict[str, Any] = json.loads(options.config.read_text())
    length = described["streaming"]["text_length"]
    text = build_text_encoder(described["text_encoder"], build_tokenizer())
    if options.init:
        load_parameters(text, options.init)
    reader = Reader(text).to(device)
    loop = Loop(loop_config(options, average=0.99, muon=options.muon), reader)
    loader = step_batches(_Batches(options, length), loop.step, device, workers=8)

    def step_loss(step: int) -> dict[str, Tensor]:  # noqa: ARG001
        batch = next(loader)
        ids, mask, targets, overruled = (each.to(device) for each in vars(batch).values())
        with half_precision(device):
            logits = reader(ids, mask)
        losses = [
            F.cross_entropy(x.float(), targets[:, i], reduction="none")
            for i, x in enumerate(logits)
        ]
        weight = torch.where(overruled, OVERRULED_WEIGHT, 1.0) * (targets != UNASKED)
        # Over all at once: no attribute need be named in a small batch.
        return {"loss": (torch.stack(losses, 1) * weight).sum() / weight.sum()}

    if not loop.run(step_loss):
        return None
    save_text_encoder(loop.ema.text, options.out)
    metrics = {
        side: measure(loop.ema, options.test, length, options.seed + 1, held_out=held_out)
        for side, held_out in (("seen", False), ("held_out", True))
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    print(json.dumps(metrics))
    return loop.ema


def save_text_encoder(text: UMT5EncoderModel, folder: Path) -> None:
    """Write the weights of a text encoder, those that are tied once."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu() for name, value in text.named_parameters()}
    save_file(weights, folder / "model.safetensors")


@torch.no_grad()
def measure(reader: Reader, n: int, length: int, seed: int, *, held_out: bool) -> dict[str, float]:
    """Share of what `n` captions name that is read right, by attribute, and the mean of those.

    And of what is `overruled` the share, over all attributes.
    """
    captions = draw_captions(n, length, 0.0, seed * SEED_STRIDE, held_out=held_out)
    device = reader.queries.device
    read = likeliest(reader(captions.ids.to(device), captions.mask.to(device))).cpu()
    metrics = accuracy(read, captions.targets, captions.targets != UNASKED)
    newest = (read == captions.targets)[captions.overruled].float().mean()
    return metrics | {"overruled": float(newest)}


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=60, batch=1024)
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    result.add_argument("--forget", type=float, default=0.02, help="chance of a word lost")
    add_muon(result, 1e-3)
    result.add_argument("--test", type=int, default=4096, help="captions in each test")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
