"""Stage 4: the causal video transformer and its text encoder, trained together by flow matching."""

from __future__ import annotations

import argparse
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import UMT5EncoderModel

from longtake.models.video import sampler
from longtake.models.video.settings import StreamingConfig
from longtake.models.video.text import encode_tokens
from longtake.models.video.transformer import TransformerConfig, WanTransformer
from longtake.training.attention import ChunkCausalAttention, training_kernels
from longtake.training.dataset import Clips, clips_path
from longtake.training.loop import (
    MAX_STEPS,
    Loop,
    StepLoss,
    add_arguments,
    join_ranks,
    load_parameters,
    loop_config,
    rank,
    step_generator,
)
from longtake.training.prompts import Batches, build_text_encoder, build_tokenizer, tokens

THING_WEIGHT = 5.0


class Denoiser(nn.Module):
    """The transformer with its text encoder: what is trained, averaged and saved."""

    def __init__(self, transformer: WanTransformer, text: UMT5EncoderModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.text = text

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings [B, length, d_model] of token ids and mask, int64 [B, length]."""
        return encode_tokens(self.text, ids, mask)


class Flow(nn.Module):
    """One forward from embeddings to flow."""

    def __init__(self, transformer: WanTransformer) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        clean: Tensor,
        noisy: Tensor,
        timesteps: Tensor,
        embeddings: Tensor,
        attention: ChunkCausalAttention,
    ) -> Tensor:
        """The predicted flow, shaped as `noisy` [B, C, F, h, w], seen after `clean` latents.

        `timesteps`: of `noisy`, [B, F]; `attention` says which chunks they are. `clean` has the
        dtype of the residual stream.
        """
        text = self.transformer.encode_text(embeddings)
        latents = torch.cat((clean, noisy.to(clean.dtype)), 2)
        timesteps = F.pad(timesteps, (clean.shape[2], 0))
        flow: Tensor = self.transformer(latents, timesteps, text, attention)
        return flow[:, :, clean.shape[2] :]


def initialise(transformer: WanTransformer) -> None:
    """Xavier for the matrices, a silent head.

    Wan starts its embedders at a fiftieth of that; here words have minutes to be heard, not weeks.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches = transformer.patch_embedding
    nn.init.xavier_uniform_(patches.weight.flatten(1))
    nn.init.zeros_(transformer.proj_out.weight)


class Teacher:
    """A trained model, whose many steps to clean latents a student learns to go in one.

    From noisy latents the flow's ODE leads to one place; a student that aims there is sharp where
    one that aims at the data can only be an average. `guide`: how much further than from no prompt
    to the prompt the teacher goes (classifier-free guidance; 1 is none); `steps`: Euler steps.
    """

    def __init__(self, denoiser: Denoiser, length: int, guide: float, steps: int) -> None:
        self.denoiser = denoiser
        self.flow = Flow(denoiser.transformer)
        self.guide = guide
        self.shares = (*sampler.sigmas(steps, 2.0), 0.0)
        silence = tokens(build_tokenizer(), [""], length, 0.0, random.Random(0))
        self.silence = [each.to(denoiser.transformer.proj_out.weight.device) for each in silence]

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

        `words`: token ids and mask, int64 [B, length].
        """
        prompts = [words]
        if self.guide != 1:
            ids, mask = (each.expand_as(words[0]) for each in self.silence)
            prompts.append((ids, mask))
        embeddings = [self.denoiser.embed(*each) for each in prompts]
        latents, level = noisy.float(), sigma[:, None, :, None, None]
        for now, then in pairwise(self.shares):
            flows = [
                self.flow(clean, latents, 1000 * now * sigma, each, attention).float()
                for each in embeddings
            ]
            # Where there is but one, this is it.
            flow = torch.lerp(flows[-1], flows[0], self.guide)
            latents = latents + (then - now) * level * flow
        return latents


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


def jitter(context: Tensor, most: float, draw: torch.Generator) -> Tensor:
    """Latents [B, C, F, h, w] a little noisy, as those are that the model makes itself."""
    amount = most * torch.rand(len(context), 1, 1, 1, 1, generator=draw, device=draw.device)
    noise = torch.randn(context.shape, generator=draw, device=draw.device)
    return torch.lerp(context, noise, amount)


def flow_loss(flow: Tensor, aim: Tensor, asked: Tensor, thing: Tensor) -> dict[str, Tensor]:
    """Weighted mean square error of the flow over the frames that are asked for.

    The thing covers a few cells of many, and most of the prompt is about it: its cells weigh
    `THING_WEIGHT` times as much as the rest.

    `flow`, `aim`: [B, C, F, h, w]; `asked`: bool [B, F]; `thing`: bool [B, F, h, w].
    """
    error = (flow.float() - aim).square().mean(1)
    asked = asked.float()[:, :, None, None].expand_as(error)
    weight = asked * torch.where(thing, THING_WEIGHT, 1.0)
    shown = asked * thing
    return {
        "loss": (error * weight).sum() / weight.sum(),
        "loss_plain": ((error * asked).sum() / asked.sum()).detach(),
        "loss_thing": ((error * shown).sum() / shown.sum().clamp(min=1)).detach(),
    }


def transformer_config(described: dict[str, Any]) -> TransformerConfig:
    """The sizes in a JSON description; lists there are tuples here."""
    sizes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in described["transformer"].items()
    }
    return TransformerConfig(**sizes)


def build_denoiser(described: dict[str, Any], device: torch.device) -> Denoiser:
    """An untrained model from a JSON description (see `bundled.json`)."""
    transformer = WanTransformer(transformer_config(described), training_kernels(device))
    initialise(transformer)
    text = build_text_encoder(described["text_encoder"], build_tokenizer())
    return Denoiser(transformer, text).to(device)


def chunk_attention(
    transformer: WanTransformer,
    streaming: StreamingConfig,
    latent: tuple[int, int],
    *,
    clean: int,
    noisy: int,
    first: int,
) -> ChunkCausalAttention:
    """The training attention over latents of `latent` rows and columns."""
    config = transformer.config
    grid = (latent[0] // config.patch_size[1], latent[1] // config.patch_size[2])
    device = transformer.proj_out.weight.device
    return ChunkCausalAttention(
        transformer.kernels,
        streaming.chunk,
        grid,
        config.attention_head_dim,
        device,
        clean=clean,
        noisy=noisy,
        first=first,
    )


def save_denoiser(denoiser: Denoiser, described: dict[str, Any], folder: Path) -> None:
    """Write `model.safetensors` (bfloat16) and the description as `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")
    weights = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in denoiser.named_parameters()
    }
    save_file(weights, folder / "model.safetensors")


def load_denoiser(folder: Path, device: torch.device) -> tuple[Denoiser, dict[str, Any]]:
    """A trained model in float32, ready to use, and its description."""
    described: dict[str, Any] = json.loads((folder / "config.json").read_text())
    denoiser = build_denoiser(described, device)
    load_parameters(denoiser, folder)
    return denoiser.eval(), described


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
    models = [denoiser]
    if options.teacher:
        models.append(load_denoiser(options.teacher, device)[0])
        teacher = Teacher(models[1], streaming["text_length"], options.guide, options.solver)
    if not options.no_compile:
        # Block by block: all blocks share one compilation, a fifth of the whole model's time.
        for block in (block for model in models for block in model.transformer.blocks):
            block.compile(dynamic=False)
    return denoiser, described, teacher


def train(options: argparse.Namespace) -> Denoiser | None:
    """Train within the budget and write the model folder; None where it paused."""
    device = join_ranks(options)
    described = json.loads(options.config.read_text())
    streaming = StreamingConfig(**described["streaming"])
    both = [Clips.load(clips_path(options.data, name), device) for name in ("films", "openings")]
    batches = Batches(both, options, streaming.text_length)
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
    loop = Loop(loop_config(options, average=options.average, muon=options.muon), denoiser)
    on_gpu = device.type == "cuda"
    loader = iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(loop.step, MAX_STEPS),
            num_workers=4 if on_gpu else 0,
            pin_memory=on_gpu,
        )
    )
    own = torch.tensor(sampler.sigmas(streaming.steps, streaming.shift), device=device)
    # A student learns the sampler's own levels and no others.
    share = 1.0 if teacher else 0.5

    def step_loss(step: int) -> dict[str, Tensor]:
        draw = step_generator(options.seed, step, device)
        batch, clips = next(loader), both[step % 2]
        index, ids, mask = (each.to(device, non_blocking=True) for each in vars(batch).values())
        latents, first = clips.latents[index].float(), firsts[step % 2]
        places = torch.arange(first, latents.shape[2] // streaming.chunk, device=device)
        clean = latents[:, :, first * streaming.chunk :]
        sigma = draw_levels(len(clean), len(places), draw, own, streaming.shift, share)
        asked = places >= clips.border[index, None]
        sigma, asked = (x.repeat_interleave(streaming.chunk, 1) for x in (sigma, asked))
        noise = torch.randn(clean.shape, generator=draw, device=device)
        noisy = torch.lerp(clean, noise, sigma[:, None, :, None, None])
        # The residual stream is as precise as the latents: here as it will be in use.
        context = jitter(latents[:, :, : -streaming.chunk], options.jitter, draw).bfloat16()
        attention, aim = attentions[step % 2], noise - clean
        with torch.autocast(device.type, torch.bfloat16):
            if teacher:
                end = teacher.endpoint(context, noisy, sigma, (ids, mask), attention)
                aim = (noisy - end) / sigma[:, None, :, None, None]
            embeddings = denoiser.embed(ids, mask)
            predicted = flow(context, noisy, 1000 * sigma, embeddings, attention)
        thing = clips.thing[index, first * streaming.chunk :]
        losses = flow_loss(predicted, aim, asked, thing)
        return losses | {"opening": torch.tensor(step % 2)}

    return run_and_save(loop, step_loss, described)


def add_student_arguments(parser: argparse.ArgumentParser, muon: float, average: float) -> None:
    """The options of whoever may learn from a teacher."""
    parser.add_argument("--guide", type=float, default=2.0, help="the teacher's guidance")
    parser.add_argument("--solver", type=int, default=8, help="the teacher's steps")
    parser.add_argument("--muon", type=float, default=muon, help="peak rate of Muon; 0: AdamW")
    parser.add_argument("--average", type=float, default=average, help="decay of the average")


def parser() -> argparse.ArgumentParser:
    """The command line of this stage."""
    result = argparse.ArgumentParser(description=__doc__)
    add_arguments(result, seconds=600, batch=64, rate=1e-3)
    result.add_argument("--config", type=Path, default=Path(__file__).with_name("bundled.json"))
    result.add_argument("--data", type=Path, required=True, help="folder of the dataset stage")
    result.add_argument("--reader", type=Path, help="folder of the reader stage to begin from")
    result.add_argument("--teacher", type=Path, help="a folder of this stage to distil")
    result.add_argument("--jitter", type=float, default=0.1, help="most noise on what came before")
    result.add_argument("--forget", type=float, default=0.02, help="chance of a word lost")
    result.add_argument("--mute", type=float, default=0.1, help="chance of no prompt at all")
    add_student_arguments(result, muon=5e-3, average=0.998)
    return result


if __name__ == "__main__":
    train(parser().parse_args())
