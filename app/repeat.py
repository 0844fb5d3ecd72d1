"""The command that makes a recorded film again."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import Any

from longtake.app.cues import Cue, from_arguments
from longtake.app.start import SENT, remark_on
from longtake.app.stored import StoredTake
from longtake.streaming import StreamError
from longtake.weights import GENERATOR

_SETTINGS = ("steps", "window", "sink", "switch")
_DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
_DEVICES = ("cpu", "cuda")


def command_line(take: StoredTake) -> tuple[str, list[str]]:
    """The ``python launch.py generate ...`` line that makes the same film, for a shell.

    Under the same conditions (machine, versions, threads) it is the same byte for byte, from the
    film's first frame to the take's last one.

    Args:
        take: from its journal come seed, model, prompts with their times, and settings.

    Returns:
        The line, and a remark for each thing in which the take is not what the line makes.

    Raises:
        StreamError: ``nothing_recorded``; ``bad_take``: the journal has no seed or no prompt.
    """
    if not take.segments:
        raise StreamError("nothing_recorded", "nothing has been recorded", "make some film first")
    if not {"seed", "prompt"} <= take.about.keys():
        problem = f"the take in {take.folder} does not say its seed and its first prompt"
        raise StreamError("bad_take", problem, "choose another take")
    remarks = _remarks_on_frames(take)
    cues = _cues(take)
    prompts = [_argument(cue) for cue in cues]
    if from_arguments(prompts) != cues:
        remarks.append("spaces around a prompt, and NUL characters, are left out")
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    words += ["--seconds", _number(take.stop / take.rate, 6), "--seed", str(take.about["seed"])]
    if take.model != GENERATOR:
        words += ["--model", str(take.model)]
    settings, changes = _settings(take)
    shape = dict(take.about.get("changes", {}))
    if "width" in shape:
        words += ["--size", f"{shape.pop('width')}x{shape.pop('height')}"]
    # What the film set itself from its first chunk on goes before what its model was opened with.
    settings = shape | settings
    words += [word for field, value in settings.items() for word in (f"--{field}", str(value))]
    remarks += changes
    if start := take.about.get("start"):
        words += ["--start", start["file"] or SENT]
        if remark := remark_on(start):
            remarks.append(remark)
    if lora := take.about.get("lora"):
        remarks.append(f"it was made with the LoRA {lora}, which --lora has to give")
    told, differences = _conditions(take)
    words, remarks = words + told, remarks + differences
    return shlex.join(["python", "launch.py", "generate", *words]), remarks


def _conditions(take: StoredTake) -> tuple[list[str], list[str]]:
    """What of the conditions can be asked for, and a remark on what cannot."""
    words: list[str] = []
    remarks = []
    conditions = take.about.get("conditions", {})
    device = conditions.get("device", "").partition(":")[0]
    if device in _DEVICES:
        words += ["--device", device]
    elif device:
        remarks.append(f"it was made on {device}, which generate does not offer")
    if conditions.get("dtype") in _DTYPES:
        words += ["--dtype", _DTYPES[conditions["dtype"]]]
    for field in ("quantize", "kv_cache", "text_encoder", "offload"):
        if value := conditions.get(field):
            words += [f"--{field.replace('_', '-')}", value]
    return words, remarks


def _remarks_on_frames(take: StoredTake) -> list[str]:
    remarks = []
    if first := take.segments[0].first:
        remarks.append(f"the take begins at {first / take.rate:g} s of that film")
    if take.missing:
        remarks.append(f"the take lacks {take.missing} frames on the way")
    return remarks


def _cues(take: StoredTake) -> list[Cue]:
    """The prompts in order; those of one chunk have one time."""
    # One at the beginning has nothing to take over from, and what is said twice counts once.
    cues = [
        Cue(_at(each.time), each.event.value, each.event.transition if each.time else 0)
        for each in take.prompts
    ]
    return [cues[0], *(cue for before, cue in pairwise(cues) if cue != before)]


def _at(time: float) -> float:
    """In whole milliseconds, and not later: a cue a little too late would miss its chunk."""
    at = round(time, 3)
    return at if at <= time else round(at - 0.001, 3)


def _argument(cue: Cue) -> str:
    prompt = cue.prompt.replace("\0", "")
    # The time of the first one is left out where that cannot be taken for something else.
    if cue.at == 0 and not prompt.lstrip().startswith(("@", "-")):
        return prompt
    transition = f"~{cue.transition}" if cue.transition else ""
    return f"@{_number(cue.at, 3)}s{transition} {prompt}"


def _settings(take: StoredTake) -> tuple[dict[str, Any], list[str]]:
    """Those that the whole film was made with, and remarks on those that changed on the way."""
    settings: dict[str, Any] = {}
    changes = []
    in_force: dict[str, Any] = {}
    for each in take.applied:
        field, value = each.event.field, each.event.value
        if field == "prompt":
            continue
        if each.time == 0 and field in _SETTINGS:
            settings[field] = value
        elif in_force.get(field) != value:
            changes.append(f"{field} became {value} at {each.time:g} s, which generate cannot do")
        in_force[field] = value
    return settings, changes


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")
