"""Prompts with their times: from the command line and from script files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from longtake.streaming import StreamError

_TIMED = re.compile(
    r"@(?P<at>\d+(?:\.\d+)?)s(?:~(?P<transition>\d{1,9}))?\s+(?P<prompt>.*)", re.DOTALL
)


@dataclass(frozen=True)
class Cue:
    """A prompt and when it is to come into force.

    Attributes:
        at: presentation time in seconds.
        prompt: the text.
        transition: chunks over which it takes over from the one before; 0 is at once.
    """

    at: float
    prompt: str
    transition: int = 0


def from_arguments(prompts: Sequence[str]) -> list[Cue]:
    """Cues from ``--prompt`` values: ``"a red ball"``, ``"@12.5s night falls"``, ``"@20s~4 snow"``.

    Raises:
        StreamError: ``bad_prompt``: an ``@`` time that cannot be read.
    """
    cues = []
    for prompt in prompts:
        timed = _TIMED.fullmatch(prompt.strip())
        if prompt.lstrip().startswith("@") and not timed:
            problem = f"the time of the prompt {_shortened(prompt)} cannot be read"
            hint = 'write it as "@12.5s the prompt", or "@12.5s~4 the prompt" to take four chunks'
            raise StreamError("bad_prompt", problem, hint)
        cue = Cue(0.0, prompt)
        if timed:
            cue = Cue(float(timed["at"]), timed["prompt"], int(timed["transition"] or 0))
        cues.append(cue)
    return cues


def from_script(path: Path, every: float) -> list[Cue]:
    """Cues from a JSONL file.

    Either one ``{"at": seconds, "prompt": "..."}`` a line, which may have the chunks of a
    ``"transition"``, or LongLive's ``{"prompts": [...]}``
    on a single line, whose prompts follow one another.

    Args:
        path: the file.
        every: seconds from one prompt of LongLive's list to the next.

    Raises:
        StreamError: ``bad_script``: the file or a line cannot be read; both are named.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"the script {path} cannot be read ({error})"
        raise StreamError("bad_script", problem, "give a JSONL file in UTF-8") from None
    cues: list[Cue] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        data = _parse(path, number, line)
        if "prompts" in data and cues:
            problem = f"{path}, line {number}: a list of prompts has to be the only line"
            raise StreamError("bad_script", problem, "put every film into a script of its own")
        cues += _cues_of(path, number, data, every)
    if not cues:
        raise StreamError("bad_script", f"the script {path} holds no prompt", _FORM)
    return cues


def check_order(cues: Sequence[Cue], seconds: float) -> None:
    """Refuse cues that are not in order or do not fit into the film.

    Args:
        cues: as given.
        seconds: the film's length.

    Raises:
        StreamError: ``bad_prompt``, naming the prompt.
    """
    if not cues:
        raise StreamError("bad_prompt", "there is no prompt", 'give one with --prompt "..."')
    if cues[0].at > 0:
        problem = f"the first prompt {_shortened(cues[0].prompt)} begins at {cues[0].at:g} s"
        raise StreamError("bad_prompt", problem, "leave its time out: a film begins at 0 s")
    if cues[0].transition:
        problem = f"there is no prompt before the first one, {_shortened(cues[0].prompt)}"
        raise StreamError("bad_prompt", problem, "leave its transition out")
    for before, cue in pairwise(cues):
        if cue.at < before.at:
            problem = f"the prompt {_shortened(cue.prompt)} at {cue.at:g} s does not come after"
            problem += f" the one before it, at {before.at:g} s"
            raise StreamError("bad_prompt", problem, "put prompts in the order of their times")
    if cues[-1].at >= seconds:
        problem = f"the prompt {_shortened(cues[-1].prompt)} at {cues[-1].at:g} s lies beyond the"
        problem += f" end of the film at {seconds:g} s"
        raise StreamError("bad_prompt", problem, "make --seconds longer or its time earlier")


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        raise StreamError("bad_script", f"{path}, line {number} is not JSON", _FORM) from None
    if not isinstance(data, dict):
        raise StreamError("bad_script", f"{path}, line {number} is not an object", _FORM)
    return data


def _cues_of(path: Path, number: int, data: dict[str, Any], every: float) -> list[Cue]:
    match data:
        case {"prompts": [*prompts], **rest} if not rest and all(
            isinstance(prompt, str) for prompt in prompts
        ):
            return [Cue(index * every, prompt) for index, prompt in enumerate(prompts)]
        case {"prompt": str(prompt), "at": int(at) | float(at), **rest} if at >= 0:
            chunks = rest.pop("transition", 0)
            if not rest and isinstance(chunks, int):
                return [Cue(float(at), prompt, chunks)]
    raise StreamError("bad_script", f"{path}, line {number} does not fit", _FORM)


def _shortened(prompt: str) -> str:
    return json.dumps(prompt if len(prompt) <= 40 else prompt[:39] + "…", ensure_ascii=False)


_FORM = 'write {"at": seconds, "prompt": "..."} on every line, or {"prompts": ["...", ...]} on one'
