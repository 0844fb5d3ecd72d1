"""Trains the bundled captioner: narrations of the valley, second by second, and questions about it.

Clips are rendered on the device as it goes (`clips.py`), their texts are written beside it in
processes of their own (`chunks.py`), and one step learns all that is said in a batch of clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from longtake.models.vlm.frames import FrameProcessor
from longtake.training.chunks import ChunkBatch, Chunks, Writer
from longtake.training.clips import Ring
from longtake.training.judge import degrade
from longtake.training.loop import (
    Loop,
    add_arguments,
    add_muon,
    half_precision,
    join_ranks,
    loop_config,
    rank,
    step_batches,
    step_generator,
)
from longtake.training.pictures import Bank, draw_bank
from longtake.training.pool import as_float
from longtake.training.vision import see
from longtake.training.witness import (
    Described,
    build_captioner,
    frame_processor,
    load_captioner,
    make_tokenizer,
    read_description,
    save_captioner,
    settings_of,
)

PICTURES_SEED = 77
QUIET = 0.35
"""What silence weighs: most of what is said is none, and who misses a change says nothing."""
NO_MUON = "lm_head|merger"
"""Which matrices are no hidden ones."""


def prepare(frames: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Frames as streaming would show them to the model, after a camera and a codec: uint8.

    `frames`: uint8 [B, T, 3, H, W]; `size`: height and width wanted. Returns [B * T, height, width,
    3].
    """
    flat = as_float(frames.flatten(0, 1))
    fitted = F.interpolate(flat, size, mode="bicubic", antialias=True).clamp(0, 1)
    worse = degrade(fitted.unflatten(0, frames.shape[:2]), generator)
    return (255 * worse).round().to(torch.uint8).flatten(0, 1).permute(0, 2, 3, 1)


def logits_of_said(model: Any, batch: ChunkBatch, patches: Tensor) -> Tensor:  # noqa: ANN401
    """What the model expects at each place where something is said: [places, vocabulary].

    `patches`: see `FrameProcessor.patches`.
    """
    visual, language = model.model.visual, model.model.language_model
    side = visual.patch_size
    height, width = batch.size
    features = see(visual, patches, height // side, width // side)
    hidden = language.embed_tokens(batch.ids)
    shape = hidden.shape
    placed = hidden.flatten(0, 1).index_copy(0, batch.vision, features.to(hidden.dtype))
    output = language(
        inputs_embeds=placed.view(shape), position_ids=batch.positions, use_cache=False
    )
    seen = output.last_hidden_state.flatten(0, 1)[batch.said - 1]
    logits: Tensor = model.lm_head(seen)
    return logits


def said_loss(logits: Tensor, batch: ChunkBatch, silence: int) -> dict[str, Tensor]:
    """Cross entropy of all that is said, and of that part of it that is no mere silence."""
    targets = batch.ids.flatten()[batch.said]
    each = F.cross_entropy(logits.float(), targets, reduction="none")
    right = (logits.argmax(-1) == targets).float()
    # A round's first token decides whether something is said at all.
    head = torch.ones_like(batch.said, dtype=torch.bool)
    head[1:] = batch.said[1:] != batch.said[:-1] + 1
    spoken = targets != silence
    weight = torch.where(spoken, 1.0, QUIET)
    return {
        "loss": (each * weight).sum() / weight.sum(),
        "right": right.mean(),
        "right_first": right[head].mean(),
        "right_first_spoken": right[head & spoken].sum() / (head & spoken).sum().clamp(min=1),
    }


def make_batches(
    options: argparse.Namespace,
    described: Described,
    tokenizer: Tokenizer,
    bank: Bank,
    processor: FrameProcessor,
) -> Chunks:
    """The batches of all steps."""
    settings = settings_of(described)
    group = processor.temporal_patch_size
    step = described["vision"]["tokens_per_second"] * group / settings.fps
    return Chunks(
        Writer(tokenizer, settings, step),
        bank,
        batch=options.batch,
        seed=options.seed + 101 * rank(),
        sizes=[tuple(size) for size in described["sizes"]],
        unit=processor.patch_size * processor.merge_size,
        groups=settings.round_frames // group,
        sets=options.sets,
        set_size=options.set_size,
        period=max(1, round(options.set_size * options.reuse / options.batch)),
    )


def train(options: argparse.Namespace) -> Any | None:  # noqa: ANN401
    """Train within the budget, write the folder; None where it paused."""
    device = join_ranks(options)
    described = read_description(options.config)
    if options.init:
        model, tokenizer = load_captioner(options.init)
    else:
        tokenizer = make_tokenizer(described)
        model = build_captioner(described, tokenizer)
    model = model.to(device)
    processor = frame_processor(described)
    bank = draw_bank(options.pictures, torch.Generator().manual_seed(PICTURES_SEED))
    batches = make_batches(options, described, tokenizer, bank, processor)
    pictures = bank.pictures.to(device)
    fps = settings_of(described).fps
    ring = Ring(options.sets, options.set_size, batches.seed, pictures, fps)
    config = loop_config(options, average=0.999, muon=options.muon, adam=NO_MUON)
    loop = Loop(config, model)
    if not options.no_compile:
        for layer in (*model.model.visual.blocks, *model.model.language_model.layers):
            layer.mlp.compile(dynamic=True)
    loader = step_batches(batches, loop.step, device, workers=options.workers)
    silence = batches.writer.template.silence

    def step_loss(step: int) -> dict[str, Tensor]:
        batch = next(loader).to(device)
        ring.advance(batches.newest(step))
        draw = step_generator(options.seed, step, device)
        shown = ring.take(batch.numbers, batch.places, batch.firsts, batch.seconds)
        frames = prepare(shown, batch.size, draw)
        patches = processor.patches(frames)
        with half_precision(device):
            logits = logits_of_said(model, batch, patches)
        return said_loss(logits, batch, silence)

    if not loop.run(step_loss):
        return None
    if rank() == 0:
        save_captioner(loop.ema, tokenizer, described, options.out)
        (options.out / "parameters.json").write_text(json.dumps(count(loop.ema)) + "\n")
    return loop.ema


def count(model: Any) -> dict[str, int]:  # noqa: ANN401
    """Parameters in all, and of its two halves."""
    parts = {"all": model, "vision": model.model.visual, "text": model.model.language_model}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=1200, batch=32)
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("captioner.json"))
    add_muon(result, 1e-3)
    result.add_argument("--sets", type=int, default=32, help="sets of clips in memory at a time")
    result.add_argument("--set-size", type=int, default=64, help="clips in a set")
    result.add_argument("--reuse", type=float, default=4, help="how often a clip is seen")
    result.add_argument("--pictures", type=int, default=1500, help="pictures of other worlds")
    result.add_argument("--workers", type=int, default=12, help="processes that write batches")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
