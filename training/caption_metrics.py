"""What is measured on a captioner: what it says of renders and other clips, against the truth.

It watches through the very model that streams, `models/vlm/captioner.py`, round by round. What it
says is read by a `Listener`, and what that believes is marked, second by second.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from longtake.models.vlm.captioner import Captioner, WatchState
from longtake.streaming import Event, InputFrame
from longtake.training import elsewhere
from longtake.training.elsewhere import draw_elsewhere
from longtake.training.pictures import Bank
from longtake.training.valley.hearing import Listener, clauses, marks
from longtake.training.valley.narration import Telling, telling
from longtake.training.valley.questions import Asked, Past, draw_question
from longtake.training.valley.script import Scripts, shoot
from longtake.training.valley.world import NAMES, attribute_index, shown_changes

SETTLED = 2
"""Seconds that a change is given, and the first words of all, before they count."""
STEADY = 3
"""Rounds at the beginning that tell the scene, its motion and the camera."""
RENDERED = 8
"""Seconds rendered at a time."""


@dataclass
class Shares:
    """Right and all of several things by name."""

    right: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, right: bool) -> None:
        """Count one."""
        self.right[name] = self.right.get(name, 0) + right
        self.total[name] = self.total.get(name, 0) + 1

    def share(self, names: Iterable[str] | None = None) -> float:
        """Share of right ones among those named, or among all; no number where there are none."""
        wanted = self.total.keys() if names is None else set(names) & self.total.keys()
        total = sum(self.total[name] for name in wanted)
        return sum(self.right[name] for name in wanted) / total if total else float("nan")


def watch(
    captioner: Captioner, rounds: Iterable[Tensor], asked: Mapping[int, str], seed: int = 0
) -> Iterator[str]:
    """What it says in each round, "" for silence.

    `rounds`: the frames of each, uint8 [frames, 3, H, W]; `asked`: round -> a question that it is
    asked in it.
    """
    state = captioner.open("", seed)
    try:
        for number, frames in enumerate(rounds):
            if number in asked:
                captioner.apply(state, Event("ask", asked[number]))
            show(captioner, state, number, frames)
            yield speak(captioner, state)
    finally:
        captioner.close(state)


def show(captioner: Captioner, state: WatchState, number: int, frames: Tensor) -> None:
    """Give it the frames of a round, uint8 [frames, 3, H, W]."""
    settings = captioner.settings
    for index, frame in enumerate(frames):
        time = number * settings.round_seconds + index / settings.fps
        captioner.apply(state, InputFrame(time, frame.permute(1, 2, 0)))


def speak(captioner: Captioner, state: WatchState, spent: list[float] | None = None) -> str:
    """What it says to the frames that it was given, a round's.

    `spent`: gets the seconds that each step took.
    """
    text, boundary = "", False
    while not boundary:
        began = perf_counter()
        step = captioner.step(state)
        if spent is not None:
            spent.append(perf_counter() - began)
        text += "".join(words.text for words, _ in step.media)
        boundary = step.boundary
    return text


def rendered_rounds(script: Scripts, seconds: int, fps: float) -> Iterator[Tensor]:
    """The frames of every second of one script, uint8 [fps, 3, H, W] each."""
    clock = torch.arange(round(seconds * fps), dtype=torch.float64, device=script.rows.device) / fps
    for part in clock.split(round(RENDERED * fps)):
        yield from shoot(script, part[None])[0].cpu().split(round(fps))


@dataclass(frozen=True)
class Marked:
    """What is measured on renders.

    `attributes`: of the beliefs after each second; `noticed`: of the attributes that change, those
    named within `SETTLED` seconds, `late`: within one more; `answers`: by the kind of question;
    `clauses`: those that mean something.
    """

    attributes: Shares = field(default_factory=Shares)
    noticed: Shares = field(default_factory=Shares)
    late: Shares = field(default_factory=Shares)
    answers: Shares = field(default_factory=Shares)
    clauses: Shares = field(default_factory=Shares)


def mark_renders(
    captioner: Captioner, scripts: Scripts, seconds: int, seed: int, *, asking: float = 0.05
) -> Marked:
    """Watch each script for so many seconds, with questions in wordings that training never had."""
    marked = Marked()
    for index in range(len(scripts)):
        rng = random.Random(f"{seed}/{index}")
        story = story_of(scripts, index)
        # What should be said is drawn only for the questions and the words of the past.
        truth = [story.round(k, rng, asking=asking, held_out=True) for k in range(seconds)]
        asked = {k: said.asked for k, said in enumerate(truth) if said.asked}
        rounds = rendered_rounds(scripts[index : index + 1], seconds, captioner.settings.fps)
        heard = watch(captioner, rounds, {k: each.question for k, each in asked.items()}, seed)
        _mark(marked, story, heard, asked)
    return marked


def story_of(scripts: Scripts, index: int) -> Telling:
    """The telling of one of the scripts."""
    return telling(scripts.rows[index].tolist(), scripts.changes[index].tolist())


def _mark(marked: Marked, story: Telling, heard: Iterator[str], asked: Mapping[int, Asked]) -> None:
    listener = Listener()
    stated: list[Mapping[str, str]] = []
    for second, words in enumerate(heard):
        if second in asked:
            right = same(words, asked[second].answer)
            marked.answers.add(asked[second].kind, right)
            stated.append({})
        else:
            lost = listener.lost
            stated.append(listener.hear(words))
            for number, _ in enumerate(clauses(words)):
                marked.clauses.add("all", number >= listener.lost - lost)
        if second >= STEADY:
            for name, right in mark_now(story, listener, second).items():
                marked.attributes.add(name, right)
    for number, change in enumerate(story.changes):
        if change + SETTLED + 1 > len(stated):
            break
        old, new = story.scenes[number], story.scenes[number + 1]
        for name in changed_names(old, new):
            for shares, patience in ((marked.noticed, SETTLED), (marked.late, SETTLED + 1)):
                within = [k for k in range(len(stated)) if change < k + 1 <= change + patience]
                shares.add(name, any(stated[k].get(name) == new[name] for k in within))


def mark_now(story: Telling, listener: Listener, second: int) -> dict[str, bool]:
    """Marks of what is believed after a round, but for what has changed only just now."""
    end = second + 1
    begun = [number for number, change in enumerate(story.changes) if change <= end]
    fresh: set[str] = set()
    for number in begun:
        if story.changes[number] > end - SETTLED:
            pair = story.scenes[number], story.scenes[number + 1]
            fresh |= {name for name in NAMES if pair[0][name] != pair[1][name]}
            # What begins to show with it is as new as it is.
            fresh |= changed_names(*pair)
    now = marks(listener.beliefs, story.scenes[len(begun)])
    return {name: right for name, right in now.items() if name not in fresh}


def changed_names(old: Mapping[str, str], new: Mapping[str, str]) -> set[str]:
    """The attributes that change in a way that can be seen."""
    rows = (torch.tensor([attribute_index(**scene)]) for scene in (old, new))
    return {name for name, shows in zip(NAMES, shown_changes(*rows)[0], strict=True) if shows}


def same(words: str, answer: str) -> bool:
    """Whether an answer means the right one: the same words, or the same to a listener."""
    said, wanted = clauses(words), clauses(answer)
    if said == wanted:
        return True
    one, other = Listener(), Listener()
    return bool(one.hear(words)) and one.hear(words) == other.hear(answer) and not one.lost


def mark_recall(
    captioner: Captioner, scripts: Scripts, seconds: int, kinds: Sequence[str], seed: int
) -> Shares:
    """Ask of what changed, in the last of so many seconds; scripts are to change but long before.

    A script for which no question of `kinds` has a plain answer is passed over.
    """
    shares = Shares()
    for index in range(len(scripts)):
        rng, story = random.Random(f"{seed}/{index}"), story_of(scripts, index)
        for second in range(seconds):
            story.round(second, rng)
        now = sum(change < seconds for change in story.changes)
        past = Past(story.scenes[: now + 1], story.changes[:now], story.told, seconds - 1)
        asked = draw_question(past, rng, held_out=True, kinds=kinds)
        if not now or asked is None:
            continue
        rounds = rendered_rounds(scripts[index : index + 1], seconds, captioner.settings.fps)
        heard = list(watch(captioner, rounds, {seconds - 1: asked.question}, seed))
        shares.add(asked.kind, same(heard[-1], asked.answer))
    return shares


def mark_elsewhere(captioner: Captioner, bank: Bank, n: int, seconds: int, seed: int) -> float:
    """Share of `n` clips of other worlds that are recognised as such."""
    draw = torch.Generator().manual_seed(seed)
    clips, fps = draw_elsewhere(n, seconds, len(bank), draw), captioner.settings.fps
    clock = torch.arange(round(seconds * fps), dtype=torch.float64)[None] / fps
    known = 0
    for index in range(n):
        frames = elsewhere.shoot(clips[index : index + 1], bank.pictures, clock)[0]
        known += recognised(captioner, frames.split(round(fps)), seed)
    return known / n


def recognised(captioner: Captioner, rounds: Iterable[Tensor], seed: int) -> bool:
    """Whether the last that it says is that it does not know this world."""
    listener = Listener()
    for words in watch(captioner, rounds, {}, seed):
        listener.hear(words)
    return listener.strange
