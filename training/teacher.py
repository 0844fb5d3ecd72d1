"""A teacher: a trained model, guided, in many steps; what it reaches is what a student aims at."""

from __future__ import annotations

import argparse
from itertools import pairwise

import torch
from torch import Tensor

from longtake.models.video import sampler
from longtake.training.attention import ChunkCausalAttention, RememberingAttention
from longtake.training.denoiser import Denoiser, Flow, compile_blocks, load_denoiser
from longtake.training.loop import LoopConfig, add_muon, loop_config


class Teacher:
    """A trained model, whose many steps to clean latents a student learns to go in one.

    From noisy latents the flow's ODE leads to one place; a student that aims there is sharp where
    one that aims at the data can only be an average. `guide`: how much further than from what was
    not told to what was the teacher goes (classifier-free guidance; 1 is none); `steps`: Euler
    steps.
    """

    def __init__(self, denoiser: Denoiser, guide: float, steps: int) -> None:
        self.denoiser = denoiser
        self.flow = Flow(denoiser.transformer)
        self.guide = guide
        self.shares = (*sampler.sigmas(steps, 2.0), 0.0)

    @torch.no_grad()
    def endpoint(
        self,
        clean: Tensor,
        noisy: Tensor,
        sigma: Tensor,
        words: tuple[Tensor, Tensor],
        attention: ChunkCausalAttention,
    ) -> Tensor:
        """Where `noisy` [B, C, F, h, w] at the levels `sigma` [B, F] leads; see `Flow`.

        `words`: token ids and mask, int64 [2, B, length], see `Batch`.
        """
        sides = list(zip(*words, strict=True))
        prompts = sides if self.guide != 1 else sides[:1]
        embeddings = [self.denoiser.embed(*each) for each in prompts]
        layers = len(self.denoiser.transformer.blocks)
        memories = [RememberingAttention(attention, layers) for _ in prompts]
        latents, level = noisy.float(), sigma[:, None, :, None, None]
        for now, then in pairwise(self.shares):
            flows = [
                self.flow(clean, latents, 1000 * now * sigma, each, memory).float()
                for each, memory in zip(embeddings, memories, strict=True)
            ]
            # From here on the memories stand for it.
            clean = clean[:, :, :0]
            # Where there is but one, this is it.
            flow = torch.lerp(flows[-1], flows[0], self.guide)
            latents = latents + (then - now) * level * flow
        return latents


def add_student_arguments(parser: argparse.ArgumentParser, muon: float, average: float) -> None:
    """The options of whoever may learn from a teacher."""
    parser.add_argument("--guide", type=float, default=2.0, help="the teacher's guidance")
    parser.add_argument("--solver", type=int, default=8, help="the teacher's steps")
    add_muon(parser, muon)
    parser.add_argument("--average", type=float, default=average, help="decay of the average")


def load_teacher(options: argparse.Namespace, device: torch.device) -> Teacher:
    """The teacher that the options name."""
    denoiser, _ = load_denoiser(options.teacher, device)
    if not options.no_compile:
        compile_blocks(denoiser)
    return Teacher(denoiser, options.guide, options.solver)


def student_loop(options: argparse.Namespace) -> LoopConfig:
    """The loop's settings; a text encoder that can read already is not shaken by Muon."""
    return loop_config(
        options, average=options.average, muon=options.muon, adam=r"proj_out|^text\."
    )
