"""``convert``: published weights to a model folder."""

from __future__ import annotations

import argparse
import shlex
import sys

import torch
from tqdm import tqdm

from longtake.app.catalogue import find_published
from longtake.models.video.convert import Plan, plan_conversion, write_model
from longtake.models.video.lora import read_lora
from longtake.models.video.parts import Part

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, None: None}


def convert(options: argparse.Namespace) -> int:
    """Run the command.

    Args:
        options: as the command line's parser gives them.

    Returns:
        The exit code: 0.

    Raises:
        StreamError: a source does not serve, or the folder cannot be written; nothing is left
            behind.
    """
    found = [find_published(source) for source in options.sources]
    sources = [path for paths, _ in found for path in paths]
    merged = options.lora or next((lora for _, lora in found if lora), None)
    lora = read_lora(merged) if merged else None
    plan = plan_conversion(sources, lora, options.head_dim)
    for part in plan.parts.values():
        entry = f", {part.entry}" if part.entry else ""
        print(f"{part.name}: {part.source}{entry}, {len(part.tensors)} tensors")
    for remark in plan.remarks:
        print(remark, file=sys.stderr)
    total = sum(_size(part) for part in plan.parts.values())
    with tqdm(total=total, unit="B", unit_scale=True, disable=None) as bar:
        write_model(
            plan,
            options.out,
            DTYPES[options.dtype],
            int8=options.quantize == "int8",
            progress=bar.update,
        )
    print(_next(plan, options))
    return 0


def _size(part: Part) -> int:
    return sum(tensor.nbytes for tensor in part.tensors.values())


def _next(plan: Plan, options: argparse.Namespace) -> str:
    """What can be done with the folder."""
    if plan.missing:
        lacks = ", ".join(plan.missing)
        return f"{options.out} lacks {lacks}: convert it again, beside a source that has them"
    command = ["python", "launch.py", "generate", "--model", str(options.out), "--prompt", "..."]
    return f"{options.out} is made; try  {shlex.join(command)}"
