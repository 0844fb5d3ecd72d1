"""What is said in a clip: in all of it, in a few seconds of it, or with nothing to be seen."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longtake.training.clips import SECONDS, Clips
from longtake.training.elsewhere import ElsewhereTelling, tellings
from longtake.training.pictures import Bank
from longtake.training.valley.captions import values_of
from longtake.training.valley.narration import (
    EVERY,
    Said,
    Telling,
    change_words,
    motion_words,
    scene_words,
    sentence,
    telling,
)
from longtake.training.valley.questions import ABOUT_PAST
from longtake.training.valley.wordings import KINDS

OPENING = 4
"""Seconds of a clip that are shown as a beginning: the scene, motion and camera, and one more."""
ASKING, ASKING_BEFORE, ASKING_EARLY = 0.2, 0.03, 0.5
"""Chances of a question each second: in a clip, before it, and where there is but one to be had."""
LONG_AFTER = 8
"""Seconds of a clip before it is asked about what was before it, at the least; openings are asked
sooner."""
RECALLED = 0.7
"""Share of the openings with words before them, where there are any, and a question about those in
every second that has an answer: from fewer it was learned too slowly."""
RECALLING = (*("ago",) * 3, *ABOUT_PAST)
"""What is asked there: what happened long ago has a plain answer least often."""
ABOUT_BEFORE = 0.7
"""Share of the clips that go on from something, in which only that is asked about: as far from its
words as streaming has them, which an opening is not."""
WRONG = 0.2
"""Share of the clips with other words before them than theirs: what is seen counts, not what was
said."""
LATE = 0.4
"""Share of the others that are dated hours later than they are."""
LATEST = 3 * 3600 // EVERY
BEFORE_THAT = 40
"""Seconds of some other script that such a clip's oldest words are of."""
RETOLD, MOVING = 0.25, 0.15
"""Shares of the sentences of an echo that tell a scene, and what moves in it; the rest are of
changes, which are what is asked about."""


@dataclass(frozen=True)
class Story:
    """What is said in each second from `start` on, and in each one before that was not cut out."""

    said: Sequence[Said]
    history: Sequence[str]
    start: int


def whole(clips: Clips, place: int, bank: Bank, rng: random.Random) -> Story:
    """The story of one clip of a set, with what was said before it."""
    valley = len(clips.scripts)
    if place >= valley:
        tale = _elsewhere(clips, place - valley, bank)
        return Story([tale.round(k, rng, asking=ASKING) for k in range(SECONDS)], (), 0)
    start = int(clips.starts[place])
    wrong = bool(start) and rng.random() < WRONG
    if start and not wrong and rng.random() < ABOUT_BEFORE:
        first = start + rng.randrange(LONG_AFTER, SECONDS)
        said, history = _recalled(clips, place, start, SECONDS, first, rng)
    else:
        story = _valley(clips, place, sorted(set(KINDS) - set(ABOUT_PAST)) if wrong else ())
        history = [story.round(k, rng, asking=ASKING_BEFORE).words for k in range(start)]
        said = [story.round(k, rng, asking=ASKING) for k in range(start, start + SECONDS)]
    other = _valley(clips, rng.randrange(valley))
    if wrong:
        history = [other.round(k, rng).words for k in range(start)]
    elif start and rng.random() < LATE:
        # So long after its beginning that what it remembers of that is of another scene.
        history = [other.round(k, rng).words for k in range(BEFORE_THAT)] + history
        start += EVERY * rng.randrange(2, LATEST)
    return Story(said, history, start)


def opening(clips: Clips, place: int, first: int, bank: Bank, rng: random.Random) -> Story:
    """The story of the seconds from `first` on of one clip, as the first that are seen.

    Mostly they are the first that is known of at all; see `RECALLED`.
    """
    valley = len(clips.scripts)
    tale: Telling | ElsewhereTelling
    if place >= valley:
        tale = _elsewhere(clips, place - valley, bank).from_second(first)
    elif (start := int(clips.starts[place]) + first) and rng.random() < RECALLED:
        return Story(*_recalled(clips, place, start, OPENING, start, rng), start)
    else:
        tale = _valley(clips, place).from_second(start)
    return Story([tale.round(k, rng, asking=ASKING_EARLY) for k in range(OPENING)], (), 0)


def _recalled(
    clips: Clips, place: int, start: int, seconds: int, first: int, rng: random.Random
) -> tuple[list[Said], list[str]]:
    """Seconds from `start` on, and all words before: from `first` on it is asked about those.

    In whole clips a question about the past is one in a thousand words, and to copy its answer from
    far back was not learned from so few.
    """
    story = _valley(clips, place, kinds=RECALLING)
    history = [story.round(k, rng).words for k in range(start)]
    said = [story.round(k, rng, asking=float(k >= first)) for k in range(start, start + seconds)]
    return said, history


def sentences(clips: Clips, rng: random.Random) -> Iterator[str]:
    """Sentences about the scripts of a set, each of another scene, without end."""
    rows = clips.scripts.rows
    while True:
        place, number = rng.randrange(len(rows)), rng.randrange(rows.shape[1] - 1)
        scene, after = map(values_of, rows[place, number : number + 2].tolist())
        drawn = rng.random()
        if drawn < RETOLD:
            yield sentence(scene_words(scene, rng))
        elif drawn < RETOLD + MOVING:
            yield sentence(motion_words(scene, rng))
        elif words := change_words(scene, after, rng):
            yield sentence(words)


def _elsewhere(clips: Clips, place: int, bank: Bank) -> ElsewhereTelling:
    return tellings(clips.elsewhere[place : place + 1], bank)[0]


def _valley(clips: Clips, place: int, kinds: Sequence[str] = ()) -> Telling:
    scripts = clips.scripts
    return telling(scripts.rows[place].tolist(), scripts.changes[place].tolist(), kinds)
