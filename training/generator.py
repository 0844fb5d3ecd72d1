"""Stage 4: the causal video transformer, by flow matching; or as a student of one that was."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.training.attention import ChunkCausalAttention
from longtake.training.dataset import Clips, clips_path, streaming_config
from longtake.training.denoiser import (
    Denoiser,
    Flow,
    build_denoiser,
    chunk_attention,
    compile_blocks,
    load_denoiser,
    save_denoiser,
)
from longtake.training.graphs import GraphedLoss, Loss
from longtake.training.loop import (
    Loop,
    StepLoss,
    add_arguments,
    join_ranks,
    load_parameters,
    rank,
    step_batches,
    step_generator,
)
from longtake.training.prompts import Batches
from longtake.training.teacher import Teacher, add_student_arguments, load_teacher, student_loop

THING_WEIGHT = 5.0
CHANGE_WEIGHT, CHANGE_CHUNKS = 3.0, 2
"""What the first chunks of a change weigh: after them the frames tell how it goes on."""


def draw_levels(
    clips: int, chunks: int, draw: torch.Generator, own: Tensor, shift: float, share: float
) -> Tensor:
    """Noise levels sigma of the chunks of each clip, float32 [clips, chunks] in (0, 1].

    A `share` of them are the sampler's `own` [steps], the others uniform, then moved towards noise
    by the sampler's `shift`.
    """

    def uniform() -> Tensor:
        return torch.rand(clips, chunks, generator=draw, device=draw.device)

    u = uniform()
    anywhere = (shift * u / (1 + (shift - 1) * u)).clamp(min=1e-3)
    taken = own[(uniform() * len(own)).long().clamp(max=len(own) - 1)]
    return torch.where(uniform() < share, taken, anywhere)


def how_much(places: Tensor, border: Tensor, switch: Tensor) -> Tensor:
    """How much each of the chunks is asked for, float [B, chunks]: those from the border on.

    `places`: their numbers, int64 [chunks]; `border`: int64 [B]; `switch`: bool [B], whether the
    scene changes there.
    """
    after = places - border[:, None]
    fresh = (after < CHANGE_CHUNKS) & switch[:, None]
    return torch.where(fresh, CHANGE_WEIGHT, 1.0) * (after >= 0)


def jitter(context: Tensor, most: float, draw: torch.Generator) -> Tensor:
    """Latents [B, C, F, h, w] a little noisy, as those are that the model makes itself."""
    amount = most * torch.rand(len(context), 1, 1, 1, 1, generator=draw, device=draw.device)
    noise = torch.randn(context.shape, generator=draw, device=draw.device)
    return torch.lerp(context, noise, amount)


def flow_loss(flow: Tensor, aim: Tensor, asked: Tensor, thing: Tensor) -> dict[str, Tensor]:
    """Weighted mean square error of the flow over the frames, as much as each is asked for.

    The thing covers a few cells of many, and most of the prompt is about it: its cells weigh
    `THING_WEIGHT` times as much as the rest.

    `flow`, `aim`: [B, C, F, h, w]; `asked`: float [B, F]; `thing`: bool [B, F, h, w].
    """
    error = (flow.float() - aim).square().mean(1)
    asked = asked[:, :, None, None].expand_as(error)
    weight = asked * torch.where(thing, THING_WEIGHT, 1.0)
    shown = asked * thing
    return {
        "loss": (error * weight).sum() / weight.sum(),
        "loss_plain": ((error * asked).sum() / asked.sum()).detach(),
        "loss_thing": ((error * shown).sum() / shown.sum().clamp(min=1)).detach(),
    }


def run_and_save(
    loop: Loop[Denoiser], step_loss: StepLoss, described: dict[str, Any]
) -> Denoiser | None:
    """Train, and write the average as it is then; None where the run paused."""
    finished = loop.run(step_loss)
    if not rank():
        save_denoiser(loop.ema, described, loop.config.out)
    return loop.ema if finished else None


def _begin(
    options: argparse.Namespace, described: dict[str, Any], device: torch.device
) -> tuple[Denoiser, dict[str, Any], Teacher | None]:
    """The model to train, its description, and its teacher if there is one."""
    streaming = described["streaming"]
    teacher = None
    if options.init or options.teacher:
        denoiser, begun = load_denoiser(options.init or options.teacher, device)
        described = begun | {"streaming": streaming}
    else:
        denoiser = build_denoiser(described, device)
    if options.reader:
        load_parameters(denoiser.text, options.reader)
    if options.teacher:
        teacher = load_teacher(options, device)
    if not options.no_compile:
        compile_blocks(denoiser)
    return denoiser, described, teacher


def train(options: argparse.Namespace) -> Denoiser | None:
    """Train within the budget and write the model folder; None where it paused."""
    device = join_ranks(options)
    described = json.loads(options.config.read_text())
    streaming = streaming_config(described)
    both = [Clips.load(clips_path(options.data, name), device) for name in ("films", "openings")]
    batches = Batches(both, options, streaming)
    denoiser, described, teacher = _begin(options, described, device)
    flow = Flow(denoiser.transformer)
    latent = (both[0].latents.shape[-2], both[0].latents.shape[-1])
    # The openings' noisy chunks are enough of a beginning; the films' are those after it.
    firsts = (streaming.sink // streaming.chunk, 0)
    attentions = []
    for clips, first in zip(both, firsts, strict=True):
        chunks = clips.latents.shape[2] // streaming.chunk
        counts = {"clean": chunks - 1, "noisy": chunks - first, "first": first}
        attentions.append(chunk_attention(denoiser.transformer, streaming, latent, **counts))
    loop = Loop(student_loop(options), denoiser)
    loader = step_batches(batches, loop.step, device, workers=4)
    schedules = [streaming.schedule(streaming.steps, opening=opening) for opening in (False, True)]
    owns = [torch.tensor(schedule.levels, device=device) for schedule in schedules]
    # A student learns the sampler's own levels and no others.
    share = 1.0 if teacher else 0.5

    def draw_inputs(step: int) -> tuple[Tensor, ...]:
        """What `loss` takes but for the attention, made at random."""
        draw = step_generator(options.seed, step, device)
        batch, clips = next(loader), both[step % 2]
        index, ids, mask = (each.to(device, non_blocking=True) for each in vars(batch).values())
        latents, first = clips.latents[index].float(), firsts[step % 2]
        places = torch.arange(first, latents.shape[2] // streaming.chunk, device=device)
        clean = latents[:, :, first * streaming.chunk :]
        own = owns[step % 2]
        sigma = draw_levels(len(clean), len(places), draw, own, streaming.shift, share)
        asked = how_much(places, clips.border[index], clips.switch[index])
        sigma, asked = (x.repeat_interleave(streaming.chunk, 1) for x in (sigma, asked))
        noise = torch.randn(clean.shape, generator=draw, device=device)
        # The residual stream is as precise as the latents: here as it will be in use.
        context = jitter(latents[:, :, : -streaming.chunk], options.jitter, draw).bfloat16()
        thing = clips.thing[index, first * streaming.chunk :]
        return context, clean, noise, sigma, asked, thing, ids, mask

    def loss(
        attention: ChunkCausalAttention,
        context: Tensor,
        clean: Tensor,
        noise: Tensor,
        sigma: Tensor,
        asked: Tensor,
        thing: Tensor,
        ids: Tensor,
        mask: Tensor,
    ) -> dict[str, Tensor]:
        level = sigma[:, None, :, None, None]
        noisy, aim = torch.lerp(clean, noise, level), noise - clean
        with torch.autocast(device.type, torch.bfloat16):
            if teacher:
                end = teacher.endpoint(context, noisy, sigma, (ids, mask), attention)
                aim = (noisy - end) / level
            embeddings = denoiser.embed(ids[0], mask[0])
            predicted = flow(context, noisy, 1000 * sigma, embeddings, attention)
        return flow_loss(predicted, aim, asked, thing)

    losses: list[Loss] = [partial(loss, attention) for attention in attentions]
    if device.type == "cuda" and not options.no_compile:
        losses = [GraphedLoss(each, denoiser.parameters()) for each in losses]

    def step_loss(step: int) -> dict[str, Tensor]:
        scalars = losses[step % 2](*draw_inputs(step))
        return scalars | {"opening": torch.tensor(step % 2)}

    return run_and_save(loop, step_loss, described)


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=600, batch=64, rate=1e-3)
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    result.add_argument("--data", type=Path, required=True, help="folder of the dataset stage")
    result.add_argument("--reader", type=Path, help="folder of the reader stage, for the text")
    result.add_argument("--teacher", type=Path, help="a folder of this stage to distil")
    result.add_argument("--jitter", type=float, default=0.1, help="most noise on what came before")
    result.add_argument("--forget", type=float, default=0.02, help="chance of a word lost")
    result.add_argument("--mute", type=float, default=0.1, help="chance of no prompt at all")
    add_student_arguments(result, muon=2e-3, average=0.998)
    return result


if __name__ == "__main__":
    train(parser().parse_args())
