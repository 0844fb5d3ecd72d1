"""The training loop that every stage shares: a budget, a schedule, an average, a log, a checkpoint.

The schedule follows the share of the budget that is spent, so that a run ends with its learning
rate at zero wherever it runs. With a budget in steps a run is repeatable to the bit on a CPU.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import gc
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from longtake.kernels.cpu import has_bfloat16
from longtake.training.muon import Muon

Module = TypeVar("Module", bound=nn.Module)
Batch = TypeVar("Batch")
SEED_STRIDE = 1_000_003
WARM_STEPS = 50
"""In which the rate rises at the least, where the budget is one of seconds."""
MAX_STEPS = 1 << 40
"""Where the numbers of steps end; a budget ends a run long before."""
StepLoss = Callable[[int], dict[str, Tensor]]
"""Step number -> scalars; the one named "loss" is minimised, the others are logged. Where it needs
no gradient any more, the parameters have theirs already (see `GraphedLoss`)."""


@dataclass(frozen=True)
class LoopConfig:
    """How one stage is trained.

    `seconds`: the budget; `steps`: a budget in steps that replaces it; `pause`: leave after that
    much of the same unit in this process, to go on later with `resume`. `warmup`: share of the
    budget in which the rate rises to `rate`. `muon`: peak rate of the hidden matrices under Muon;
    at 0 they are AdamW's like the rest; `adam`: a pattern of the names of those that always are.
    `average`: decay of the averaged weights.
    """

    out: Path
    seconds: float
    steps: int | None = None
    pause: float | None = None
    resume: bool = False
    rate: float = 1e-3
    warmup: float = 0.04
    decay: float = 0.01
    clip: float = 1.0
    muon: float = 0.0
    adam: str = "proj_out"
    average: float = 0.999
    log_every: int = 53  # a prime, to show all where a stage takes kinds of batches by turns
    save_every: float = 150.0


def add_arguments(
    parser: argparse.ArgumentParser, seconds: float, batch: int, rate: float = 1e-3
) -> None:
    """The command-line options that every stage has."""
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seconds", type=float, default=seconds, help="training time")
    parser.add_argument("--steps", type=int, help="train this many steps instead")
    parser.add_argument(
        "--pause", type=float, help="stop after this many seconds (or steps), to --resume later"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--init", type=Path, help="a folder of this stage to begin from")
    parser.add_argument("--batch", type=int, default=batch, help="clips a step")
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true", help="run the models eagerly")


def add_muon(parser: argparse.ArgumentParser, peak: float) -> None:
    """The option of the stages whose hidden matrices are Muon's."""
    parser.add_argument("--muon", type=float, default=peak, help="peak rate of Muon; 0: AdamW")


def loop_config(options: argparse.Namespace, **changes: float | str) -> LoopConfig:
    """The loop's settings from parsed options."""
    return LoopConfig(
        out=options.out,
        seconds=options.seconds,
        steps=options.steps,
        pause=options.pause,
        resume=options.resume,
        rate=options.rate,
        **changes,  # type: ignore[arg-type]
    )


def step_batches(
    batches: Dataset[Batch], first: int, device: torch.device, workers: int
) -> Iterator[Batch]:
    """The batches of the steps from `first` on, made from their numbers.

    Beside a GPU, so many processes of their own make them ahead; on a CPU this one does.
    """
    on_gpu = device.type == "cuda"
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, MAX_STEPS),
            num_workers=workers if on_gpu else 0,
            pin_memory=on_gpu,
        )
    )


def load_parameters(module: nn.Module, folder: Path) -> None:
    """Fill a module's parameters from a folder's `model.safetensors`; those that are tied, once.

    Raises `ValueError` where the two do not have the same ones.
    """
    stored = load_file(folder / "model.safetensors")
    parameters = dict(module.named_parameters())
    if parameters.keys() != stored.keys():
        raise ValueError(f"{folder}: wrong tensors {sorted(parameters.keys() ^ stored.keys())}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])


def step_generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """The random numbers of one step, whatever happened before it; each rank has its own."""
    return torch.Generator(device).manual_seed((seed + 101 * rank()) * SEED_STRIDE + step)


def half_precision(device: torch.device) -> torch.autocast:
    """Arithmetic in bfloat16 where the processor has it; others take ten times as long with it."""
    fast = device.type == "cuda" or (device.type == "cpu" and has_bfloat16())
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def join_ranks(options: argparse.Namespace) -> torch.device:
    """The device of this process; under ``torchrun``, after meeting the other processes.

    Each of them draws its own clips, gradients are averaged, and the first one writes.
    """
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    if "LOCAL_RANK" not in os.environ:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # NCCL averages gradients; gloo hands round the few numbers that stay on the CPU.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave_ranks)
    return device


def _leave_ranks() -> None:
    """End the group's threads: alive when the interpreter ends, they abort the process at times."""
    dist.destroy_process_group()
    # The group is kept by a cycle of objects that torch.optim brings along.
    gc.collect()


def rank() -> int:
    """This process's number among those that train together; 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def _ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak learning rate: up in a line, then down a cosine to 0 at progress 1."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))


class Loop(Generic[Module]):
    """Trains `module` in place and keeps an averaged copy of it in `ema`."""

    def __init__(self, config: LoopConfig, module: Module) -> None:
        self.config = config
        self.module = module
        self.ema: Module = copy.deepcopy(module)
        self.ema.requires_grad_(requires_grad=False).eval()
        self.optimizers = _optimizers(module, config)
        self.step = 0
        self.spent = 0.0
        config.out.mkdir(parents=True, exist_ok=True)
        if config.resume:
            self._load()

    def run(self, step_loss: StepLoss) -> bool:
        """Train until the budget is spent (True) or the pause is reached (False)."""
        config = self.config
        began, spent_before, first = time.perf_counter(), self.spent, self.step
        saved = began
        self.module.train()
        while (progress := self._progress()) < 1:
            spent = self._agree(self.spent)
            here = spent - spent_before if config.steps is None else self.step - first
            if config.pause is not None and here >= config.pause:
                self._save()
                return False
            scalars = self._one(step_loss, self._rate(progress))
            if self.step % config.log_every == 0 or self.step <= 3:
                self._log(scalars, progress)
            now = time.perf_counter()
            self.spent = spent_before + now - began
            if now - saved > config.save_every:
                saved = now
                self._save()
        self._save()
        return True

    def _progress(self) -> float:
        if self.config.steps is not None:
            return self.step / self.config.steps
        return self._agree(self.spent) / self.config.seconds

    def _rate(self, progress: float) -> float:
        """Share of the peak learning rate of the next step."""
        share = schedule(progress, self.config.warmup)
        # The first step compiles, which may take all the seconds of the warm-up.
        return min(share, (self.step + 1) / WARM_STEPS) if self.config.steps is None else share

    def _agree(self, number: float) -> float:
        """The first rank's value of a number, so that all stop at the same step."""
        if _ranks() == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def _average_gradients(self) -> None:
        """The mean over ranks, in one message."""
        if _ranks() == 1:
            return
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(joined)
        parts = (joined / _ranks()).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _one(self, step_loss: StepLoss, share: float) -> dict[str, Tensor]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
        scalars = step_loss(self.step)
        if scalars["loss"].requires_grad:
            scalars["loss"].backward()
        self._average_gradients()
        scalars["gradient"] = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # The average follows closely at first, or it would remember the random start.
        share = 1 - min(self.config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.module.parameters()), share)
        return scalars

    def _log(self, scalars: dict[str, Tensor], progress: float) -> None:
        line: dict[str, float] = {name: float(value.detach()) for name, value in scalars.items()}
        line |= {"step": self.step, "seconds": round(self.spent, 2), "progress": progress}
        if rank():
            return
        text = json.dumps({name: round(value, 6) for name, value in line.items()})
        with (self.config.out / "log.jsonl").open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)

    def _save(self) -> None:
        if rank():
            return
        state = {
            "module": self.module.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "spent": self.spent,
        }
        path = self.config.out / "checkpoint.pt"
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def _load(self) -> None:
        state = torch.load(self.config.out / "checkpoint.pt", weights_only=True, map_location="cpu")
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.spent = state["step"], state["spent"]


def _optimizers(module: nn.Module, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """AdamW, with weight decay for matrices only; and Muon for the hidden matrices if wanted."""
    hidden: list[Tensor] = []
    if config.muon:
        linear = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}
        kept = re.compile(config.adam)
        hidden = [layer.weight for name, layer in linear.items() if not kept.search(name)]
    taken = {id(parameter) for parameter in hidden}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in taken]
    groups: list[dict[str, object]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # `peak` is what the schedule takes its share of.
    for group in groups:
        group["peak"] = config.rate
    fused = rest[0].device.type == "cuda"
    adam = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.95), fused=fused)
    return [adam, Muon(hidden, config.muon, config.decay)] if hidden else [adam]
