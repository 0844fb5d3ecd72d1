"""Trains the bundled captioner: narrations of the valley, second by second, and questions about it.

Clips are rendered on the device as it goes (`clips.py`), their texts are written beside it in
processes of their own (`chunks.py`), and one step learns all that is said in a batch of clips.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from longtake.models.vlm.frames import FrameProcessor
from longtake.training.chunks import KINDS, ChunkBatch, Chunks, Writer
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
from longtake.training.probe import Probe
from longtake.training.vision import Block, run_block, see
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
TOLD = 0.5
"""What foreseeing the previous text weighs beside what is to be said."""
CHANGED = 0.1
"""What reading off what has changed weighs beside reading off what is there."""
NO_MUON = "lm_head|merger|probe"
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


class Learner(nn.Module):
    """A captioner, and the probe that is learned along with it.

    `compiled`: its blocks and layers, each kind once for all lengths.
    """

    def __init__(self, captioner: Any, *, compiled: bool = False) -> None:  # noqa: ANN401
        super().__init__()
        self.captioner = captioner
        self.probe = Probe(captioner.config.text_config.hidden_size)
        self.block: Block = run_block
        if compiled:
            self.block = torch.compile(run_block, dynamic=True)
            for layer in captioner.model.language_model.layers:
                layer.compile(dynamic=True)


def read(learner: Learner, batch: ChunkBatch, patches: Tensor | None) -> tuple[Tensor, Tensor]:
    """The text model's last hidden states in a batch, and those after two thirds of its layers.

    `patches`: see `FrameProcessor.patches`, None where nothing is shown. Both are [B * L, width].
    """
    model = learner.captioner.model
    visual, language = model.visual, model.language_model
    side = visual.patch_size
    height, width = batch.size
    hidden = language.embed_tokens(batch.ids)
    if patches is not None:
        shape = hidden.shape
        features = see(visual, patches, height // side, width // side, learner.block)
        hidden = hidden.flatten(0, 1).index_copy(0, batch.vision, features.to(hidden.dtype))
        hidden = hidden.view(shape)
    angles = language.rotary_emb(hidden, batch.positions)
    states = [hidden]
    for layer in language.layers:
        states.append(layer(states[-1], position_embeddings=angles))
    between = states[math.ceil(len(language.layers) * 2 / 3)]
    return language.norm(states[-1]).flatten(0, 1), between.flatten(0, 1)


def losses(
    learner: Learner, batch: ChunkBatch, patches: Tensor | None, silence: int, probing: float
) -> dict[str, Tensor]:
    """Cross entropy of what is said, was told and is read off, and how much of it is right.

    `probing`: what the last of these weighs beside the first.
    """
    last, between = read(learner, batch, patches)
    places = torch.cat((batch.said, batch.told))
    logits = learner.captioner.lm_head(last[places - 1])
    read_off = learner.probe(between[batch.starts - 1], batch.scenes)
    targets = batch.ids.flatten()[places]
    every = F.cross_entropy(logits.float(), targets, reduction="none")
    each, told = every.tensor_split([len(batch.said)])
    targets = targets[: len(each)]
    right = (logits[: len(each)].argmax(-1) == targets).float()
    # A round's first token decides whether something is said at all.
    head = torch.ones_like(batch.said, dtype=torch.bool)
    head[1:] = batch.said[1:] != batch.said[:-1] + 1
    spoken = targets != silence
    weight = torch.where(spoken, 1.0, QUIET)
    said = (each * weight).sum() / weight.sum().clamp(min=1)
    foreseen = told.sum() / max(1, len(told))
    return {
        # In an echo there is nothing else.
        "loss": said
        + (TOLD if len(each) else 1) * foreseen
        + probing * (read_off["seen"] + CHANGED * read_off["changed"]),
        "said": said,
        "told": foreseen,
        **read_off,
        "right": right.sum() / max(1, len(right)),
        "right_first": right[head].sum() / head.sum().clamp(min=1),
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
    settings, turns = settings_of(described), len(options.kinds)
    group = processor.temporal_patch_size
    step = described["vision"]["tokens_per_second"] * group / settings.fps
    return Chunks(
        Writer(tokenizer, settings, step),
        bank,
        batch=options.batch,
        seed=options.seed + 101 * rank(),
        kinds=options.kinds,
        sizes=[tuple(size) for size in described["sizes"]],
        unit=processor.patch_size * processor.merge_size,
        groups=settings.round_frames // group,
        sets=options.sets,
        set_size=options.set_size,
        period=max(1, round(turns * options.set_size * options.reuse / options.batch)),
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
    processor = frame_processor(described)
    bank = draw_bank(options.pictures, torch.Generator().manual_seed(PICTURES_SEED))
    batches = make_batches(options, described, tokenizer, bank, processor)
    pictures = bank.pictures.to(device)
    fps = settings_of(described).fps
    ring = Ring(options.sets, options.set_size, batches.seed, pictures, fps)
    config = loop_config(options, average=0.999, muon=options.muon, adam=NO_MUON)
    loop = Loop(config, Learner(model, compiled=not options.no_compile).to(device))
    loader = step_batches(batches, loop.step, device, workers=options.workers)
    silence = batches.writer.template.silence

    def step_loss(step: int) -> dict[str, Tensor]:
        batch = next(loader).to(device)
        ring.advance(batches.newest(step))
        patches = None
        if batch.seconds:
            shown = ring.take(batch.numbers, batch.places, batch.firsts, batch.seconds)
            draw = step_generator(options.seed, step, device)
            patches = processor.patches(prepare(shown, batch.size, draw))
        with half_precision(device):
            return losses(loop.module, batch, patches, silence, options.probing)

    if not loop.run(step_loss):
        return None
    if rank() == 0:
        save_captioner(loop.ema.captioner, tokenizer, described, options.out)
        (options.out / "parameters.json").write_text(json.dumps(count(loop.ema.captioner)) + "\n")
    return loop.ema.captioner


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
    result.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what steps are of, by turns"
    )
    probing = "what the probe's reading weighs; little where it is new and the steps are few"
    result.add_argument("--probing", type=float, default=1.0, help=probing)
    result.add_argument("--sets", type=int, default=32, help="sets of clips in memory at a time")
    result.add_argument("--set-size", type=int, default=64, help="clips in a set")
    result.add_argument("--reuse", type=float, default=4, help="how often a whole clip is seen")
    result.add_argument("--pictures", type=int, default=1500, help="pictures of other worlds")
    result.add_argument("--workers", type=int, default=12, help="processes that write batches")
    return result


if __name__ == "__main__":
    train(parser().parse_args())
