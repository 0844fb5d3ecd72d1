"""Streaming long tuning: the student rolls films out and learns from its teacher on its own frames.

As in LongLive (section 3.3) films run on over many steps, and every step trains the newest chunk
alone, after sinks and window that the student made itself. What it is to learn is where the teacher
would have gone from there. The prompt is switched not once, as there, but again and again: how a
film follows is what is hard.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from longtake.models.video.sampler import Schedule
from longtake.models.video.settings import StreamingConfig
from longtake.training.attention import ChunkCausalAttention
from longtake.training.dataset import CHANGE, SCENE, STYLE_CHANGES, streaming_config
from longtake.training.denoiser import Denoiser, Flow, compile_blocks, load_denoiser
from longtake.training.generator import flow_loss, run_and_save
from longtake.training.graphs import GraphedLoss, Loss
from longtake.training.loop import (
    Loop,
    add_arguments,
    join_ranks,
    rank,
    step_generator,
)
from longtake.training.prompts import build_tokenizer, guided_tokens, mention, prompt
from longtake.training.rollout import Rollout, sample_chunk
from longtake.training.teacher import (
    Teacher,
    add_student_arguments,
    load_teacher,
    student_loop,
)
from longtake.training.valley.film import CELL
from longtake.training.valley.world import HEIGHT, WIDTH, Scenes, draw_change, sample_scenes

PAUSE = (3, 12)
"""The fewest and the most chunks between two switches of the prompt."""


class Films:
    """The films that are being rolled out, all in step: a scene each, and changes on the way.

    `longest`: chunks after which they begin anew at the latest.
    """

    def __init__(self, batch: int, longest: int, streaming: StreamingConfig, seed: int) -> None:
        self.batch, self.longest, self.streaming = batch, longest, streaming
        self.rng = random.Random(f"{seed}/{rank()}")
        self.draw = torch.Generator().manual_seed(seed + 101 * rank())
        self.tokenizer = build_tokenizer()
        self.chunk = self.length = self.switch = 0
        self.scenes: Scenes | None = None
        self.stories: list[list[str]] = []
        self.words: tuple[Tensor, Tensor] | None = None

    def advance(self) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 [2, batch, length], for the next chunk; see `guided_tokens`.

        Its number is `chunk - 1` then; the films have begun anew where that is 0.
        """
        before = self.scenes
        if before is None or self.words is None or self.chunk == self.length:
            # Long enough that the cache is full when the prompt changes, mostly.
            full = self.streaming.window // self.streaming.chunk
            self.length = self.rng.randint(full + 2, max(full + 2, self.longest))
            self.switch, self.chunk = self.rng.randint(1, PAUSE[1]), 0
            self.scenes = sample_scenes(self.batch, self.draw)
            self.stories = [[] for _ in range(self.batch)]
            self.words = self._say(self.scenes, self.scenes, SCENE)
        elif self.chunk == self.switch:
            style = self.rng.choice((SCENE, CHANGE))
            self.scenes = draw_change(before, STYLE_CHANGES[style], self.draw)
            self.words = self._say(before, self.scenes, style)
            self.switch += self.rng.randint(*PAUSE)
        self.chunk += 1
        return self.words

    def _say(self, before: Scenes, after: Scenes, style: int) -> tuple[Tensor, Tensor]:
        rows = (before.attributes.tolist(), after.attributes.tolist())
        for told, old, new in zip(self.stories, *rows, strict=True):
            said = mention(old, new, style, self.rng)
            told.append(prompt(old, new, style, said, self.rng))
        stories = [told[-self.streaming.prompts :] for told in self.stories]
        return guided_tokens(self.tokenizer, stories, self.streaming.text_length, 0.0, self.rng)


class Lesson:
    """What a student learns from one more chunk of its own: where its teacher would have gone."""

    def __init__(self, student: Denoiser, teacher: Teacher) -> None:
        self.student, self.teacher = student, teacher
        self.flow = Flow(student.transformer)

    def loss(
        self,
        schedule: Schedule,
        attention: ChunkCausalAttention,
        context: Tensor,
        noises: Tensor,
        level: Tensor,
        height: Tensor,
        ids: Tensor,
        mask: Tensor,
    ) -> dict[str, Tensor]:
        """The loss, and the chunk as `latents`.

        `schedule`, `attention`, `context`, `noises`: as in `sample_chunk`; `level`: int64 [1],
        which of its levels is learned, and `height`: float32 [1], that one; `ids`, `mask`: int64
        [2, films, length].
        """
        with torch.autocast(context.device.type, torch.bfloat16):
            embeddings = self.student.embed(ids[0], mask[0])
            given = (context, noises, embeddings.detach(), attention)
            latents, inputs = sample_chunk(self.flow, schedule, *given)
            noisy = inputs.index_select(0, level)[0]
            sigma = height.expand(len(noisy), noisy.shape[2])
            end = self.teacher.endpoint(context, noisy, sigma, (ids, mask), attention)
            predicted = self.flow(context, noisy, 1000 * sigma, embeddings, attention)
        aim = (noisy - end) / height
        nothing = torch.zeros_like(noisy[:, 0], dtype=torch.bool)
        return flow_loss(predicted, aim, torch.ones_like(sigma), nothing) | {"latents": latents}


class Lessons:
    """A lesson's loss for each length of what came before: films begin short."""

    def __init__(self, lesson: Lesson, *, graphed: bool) -> None:
        self.lesson = lesson
        self.pool = torch.cuda.graph_pool_handle() if graphed else None
        self.losses: dict[int, Loss] = {}

    def next(self, rollout: Rollout) -> Loss:
        """The loss of a rollout's next chunk."""
        frames = rollout.context.shape[2]
        if frames not in self.losses:
            loss: Loss = partial(self.lesson.loss, rollout.schedule, rollout.attention)
            if self.pool:
                loss = GraphedLoss(loss, self.lesson.student.parameters(), self.pool)
            self.losses[frames] = loss
        return self.losses[frames]


def train(options: argparse.Namespace) -> Denoiser | None:
    """Train within the budget and write the model folder; None where it paused.

    Films are not part of a checkpoint: a run that goes on begins them anew.
    """
    device = join_ranks(options)
    student, described = load_denoiser(options.init, device)
    streaming = streaming_config(described)
    teacher = load_teacher(options, device)
    loop = Loop(student_loop(options), student)
    films = Films(options.batch, options.longest, streaming, options.seed + loop.step)
    latent = (student.transformer.config.in_channels, HEIGHT // CELL, WIDTH // CELL)
    full = streaming.sink + streaming.window - streaming.chunk
    rollout: Rollout | None = None
    if not options.no_compile:
        compile_blocks(student)
    graphed = device.type == "cuda" and not options.no_compile
    lessons = Lessons(Lesson(student, teacher), graphed=graphed)

    def step_loss(step: int) -> dict[str, Tensor]:
        nonlocal rollout
        draw = step_generator(options.seed, step, device)
        ids, mask = (each.to(device) for each in films.advance())
        if rollout is None or films.chunk == 1:
            rollout = Rollout(student.transformer, streaming, latent, options.batch, draw)
        rollout.draw = draw
        heights = torch.tensor(rollout.schedule.levels, device=device)
        level = torch.randint(len(heights), (1,), generator=draw, device=device)
        loss = lessons.next(rollout)
        # Of the beginnings of films, each of its own length, none is worth a compilation.
        stance = "default" if rollout.context.shape[2] == full else "force_eager"
        with torch.compiler.set_stance(stance):
            context, noises = rollout.context.bfloat16(), rollout.noises()
            outputs = loss(context, noises, level, heights[level], ids, mask)
        rollout.append(outputs.pop("latents"))
        return outputs | {"chunk": torch.tensor(films.chunk)}

    return run_and_save(loop, step_loss, described)


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=400, batch=64, rate=3e-4)
    result.add_argument("--teacher", type=Path, required=True, help="folder of the teacher")
    result.add_argument("--longest", type=int, default=60, help="chunks of a film at most")
    add_student_arguments(result, muon=1e-3, average=0.99)
    return result


if __name__ == "__main__":
    train(parser().parse_args())
