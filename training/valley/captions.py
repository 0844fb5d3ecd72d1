"""A grammar of captions for the valley: whole scenes, and changes as people type them.

Lower case, no punctuation but commas. What a caption leaves out is free in the video.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Sequence

from longtake.models.video.lexicon import with_article
from longtake.training.valley import words as w
from longtake.training.valley.world import ATTRIBUTES, HIDDEN, NAMES

COMPANION_NAMES = frozenset({"companion", "companion_colour"})


def values_of(attributes: Sequence[int]) -> dict[str, str]:
    """The words for a row of value indices: {"time": "day", ...}."""
    return {name: ATTRIBUTES[name][int(i)] for name, i in zip(NAMES, attributes, strict=True)}


def shown(scene: dict[str, str]) -> frozenset[str]:
    """The attributes that a scene shows at all: `world.is_meaningful` by name."""
    hidden = {name for name, (other, value) in HIDDEN.items() if scene[other] == value}
    return frozenset(NAMES) - hidden


def draw_mention(rng: random.Random) -> frozenset[str]:
    """Which attributes a caption names: the shape always, the colour mostly, all in a third."""
    if rng.random() < 0.3:
        return frozenset(NAMES)
    chance = {"shape": 1.0, "colour": 0.92, "size": 0.5, "speed": 0.5, "camera": 0.45}
    return frozenset(name for name in NAMES if rng.random() < chance.get(name, 0.7))


def caption(
    attributes: Sequence[int],
    rng: random.Random,
    mention: Collection[str] | None = None,
    held_out: bool = False,
) -> str:
    """A sentence for a whole scene.

    `attributes`: the eleven value indices. `mention`: the attributes to name, besides the shape,
    as far as they show; drawn at random where not given; naming `companion_colour` names the
    companion. `held_out`: a word order that training never uses.
    """
    scene = values_of(attributes)
    named = set(draw_mention(rng) if mention is None else mention) & shown(scene)
    if "companion_colour" in named:
        named.add("companion")
    if not held_out and rng.random() < 0.12:
        return _clean(_tags(scene, named, rng))
    bare = rng.random() < 0.1
    does, doing = _motion(scene, named, rng)
    order = _pick(rng, w.HELD_OUT_ORDERS if held_out else w.ORDERS)
    thing = _thing(scene, named, rng)
    text = order.format(
        thing=thing if bare else _article(thing, rng),
        does=does,
        doing=doing,
        place=_place(scene, named, rng),
        sky=_sky(scene, named, rng),
        companion=_beside(scene, named, rng),
        camera=_pick(rng, w.CAMERAS[scene["camera"]]) if "camera" in named else "",
    )
    # Nothing begins with "and".
    text = re.sub(r"^and\b", "with", text)
    return _clean(_terse(text) if bare else text)


def change_caption(
    before: Sequence[int], after: Sequence[int], rng: random.Random, held_out: bool = False
) -> str:
    """A sentence that names only what changes between two scenes, in any order.

    `held_out`: ways to say it that training never uses. Raises `ValueError` where nothing changes
    that shows; see `world.shown_changes`.
    """
    old, new = values_of(before), values_of(after)
    changed = [name for name in NAMES if old[name] != new[name] and name in shown(new)]
    if not changed:
        raise ValueError("nothing that shows changes between the two scenes")
    # A companion's new colour is said with its coming.
    if "companion" in changed and "companion_colour" in changed:
        changed.remove("companion_colour")
    rng.shuffle(changed)
    clauses = []
    for index, name in enumerate(changed):
        said = changed[:index]
        # Once its shape has changed only "it" is right for the thing, and after a word about the
        # companion only its name.
        short = "shape" in said or (not COMPANION_NAMES & set(said) and rng.random() < 0.4)
        it = "it" if short else f"the {old['shape']}"
        clauses.append(_clause(name, old, new, it, rng, held_out))
    text = _pick(rng, w.JOINTS).join(clauses)
    return _clean(f"{_pick(rng, w.LEADS)} {text}")


def vocabulary() -> list[str]:
    """Every word that the grammar can emit, sorted."""
    return sorted({word for text in _texts() for word in _words_of(text)})


def _words_of(text: str) -> list[str]:
    return re.sub(r"\{\w+\}|,", " ", text).split()


def _texts() -> Iterable[str]:
    """Every phrase in `words`, held-out ones too: their words are all trained."""
    stack: list[object] = [value for name, value in vars(w).items() if name.isupper()]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, tuple):
            stack += item


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    return options[rng.randrange(len(options))]


def _clean(text: str) -> str:
    """One space between words, no comma without something on both sides."""
    parts = [" ".join(part.split()) for part in text.split(",")]
    return ", ".join(part for part in parts if part)


def _terse(text: str) -> str:
    """The text without articles, as people type who are in a hurry."""
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def _article(noun: str, rng: random.Random) -> str:
    if rng.random() < 0.12:
        return f"{_pick(rng, ('the', 'one'))} {noun}"
    return with_article(noun)


def _verb(shape: str, motion: str, rng: random.Random) -> w.Verb:
    verbs = w.VERBS[motion] + w.SPECIAL_VERBS.get((shape, motion), ())
    return verbs[rng.randrange(len(verbs))]


def _thing(scene: dict[str, str], named: Collection[str], rng: random.Random) -> str:
    """A noun phrase without its article; it carries the speed when no verb can."""
    parts = [scene["speed"]] if "speed" in named and "motion" not in named else []
    parts += [_pick(rng, w.SIZES[scene["size"]])] if "size" in named else []
    parts += [_pick(rng, w.COLOURS[scene["colour"]])] if "colour" in named else []
    return " ".join([*parts, _pick(rng, w.SHAPES[scene["shape"]])])


def _companion(scene: dict[str, str], coloured: bool, rng: random.Random) -> str:
    """The companion, a noun phrase without its article."""
    parts = [_pick(rng, w.COLOURS[scene["companion_colour"]])] if coloured else []
    return " ".join([*parts, _pick(rng, w.SHAPES[scene["companion"]])])


def _beside(scene: dict[str, str], named: Collection[str], rng: random.Random) -> str:
    if "companion" not in named:
        return ""
    if scene["companion"] == "none":
        return _pick(rng, w.ALONE)
    noun = _companion(scene, "companion_colour" in named, rng)
    return _pick(rng, w.COMPANIONS).format(new=with_article(noun))


def _motion(scene: dict[str, str], named: Collection[str], rng: random.Random) -> tuple[str, str]:
    """What the thing does, as "bounces fast" and as "bouncing fast"."""
    if "motion" not in named:
        return "", ""
    _, third, ing, tail = _verb(scene["shape"], scene["motion"], rng)
    how = _pick(rng, w.SPEEDS[scene["speed"]]) if "speed" in named else ""
    if how.endswith("ly") and rng.random() < 0.5:
        return f"{how} {third} {tail}", f"{how} {ing} {tail}"
    return f"{third} {tail} {how}", f"{ing} {tail} {how}"


def _place(scene: dict[str, str], named: Collection[str], rng: random.Random) -> str:
    if "ground" not in named:
        return ""
    airborne = scene["motion"] in ("circles", "drifts", "flies away") and "motion" in named
    preposition = _pick(rng, w.OVER) if airborne and rng.random() < 0.7 else w.ON
    return f"{preposition} {_pick(rng, w.GROUNDS[scene['ground']])}"


def _sky(scene: dict[str, str], named: Collection[str], rng: random.Random) -> str:
    time, weather = scene["time"], scene["weather"]
    if "time" in named and "weather" in named:
        if rng.random() < 0.5:
            return _pick(rng, w.SKIES[time, weather])
        parts = [_pick(rng, w.TIMES[time]), _pick(rng, w.WEATHERS[weather])]
        rng.shuffle(parts)
        return " ".join(parts)
    if "time" in named:
        return _pick(rng, w.TIMES[time])
    return _pick(rng, w.WEATHERS[weather]) if "weather" in named else ""


def _tags(scene: dict[str, str], named: Collection[str], rng: random.Random) -> str:
    """A terse list, as people type it: "red ball, grass, night, bouncing"."""
    tags = [table[scene[name]] for name, table in w.TAGS.items() if name in named]
    if "motion" in named:
        tags.append(_motion(scene, named, rng)[1])
    if "companion" in named and scene["companion"] != "none":
        tags.append(f"{_companion(scene, 'companion_colour' in named, rng)} in the background")
    elif "companion" in named:
        tags.append("alone")
    rng.shuffle(tags)
    return ", ".join([_thing(scene, named, rng), *tags])


def _clause(
    name: str,
    old: dict[str, str],
    new: dict[str, str],
    it: str,
    rng: random.Random,
    held_out: bool,
) -> str:
    """A clause that says that one attribute has changed; `it` names the thing."""
    if name in COMPANION_NAMES:
        return _companion_clause(name, old, new, rng, held_out)
    if name == "shape":
        noun = with_article(_pick(rng, w.SHAPES[new["shape"]]))
        return _pick(rng, w.HELD_OUT_TURNS if held_out else w.TURNS).format(it=it, new=noun)
    if name == "colour":
        word = _pick(rng, w.COLOURS[new["colour"]])
        return _pick(rng, w.HELD_OUT_PAINTS if held_out else w.PAINTS).format(it=it, word=word)
    rests = name == "motion" and new["motion"] == "rests"
    if name == "motion" and (not rests or (not held_out and rng.random() < 0.4)):
        base, third, ing, tail = _verb(new["shape"] if not rests else "", new["motion"], rng)
        moves = w.RESTS if rests else w.MOVES
        move = _pick(rng, w.HELD_OUT_MOVES if held_out else moves)
        return move.format(it=it, base=base, third=third, ing=ing, tail=tail)
    options = (w.HELD_OUT_CHANGES if held_out else w.CHANGES)[name, new[name]]
    if name == "weather" and new[name] == "clear" and not held_out:
        options += w.STOPS[old[name]] * 2
    word = _pick(rng, w.SIZES[new["size"]])
    return _pick(rng, options).format(it=it, word=word)


def _companion_clause(
    name: str, old: dict[str, str], new: dict[str, str], rng: random.Random, held_out: bool
) -> str:
    """A clause that says that the companion has come, gone, or become another."""
    # Where the thing is of the same kind, only "the other one" is plain.
    other = "other " if old["companion"] in (old["shape"], new["shape"]) else ""
    was = f"the {other}{old['companion']}"
    if name == "companion_colour":
        word = _pick(rng, w.COLOURS[new["companion_colour"]])
        return _pick(rng, w.HELD_OUT_PAINTS if held_out else w.PAINTS).format(it=was, word=word)
    if new["companion"] == "none":
        return _pick(rng, w.HELD_OUT_GOES if held_out else w.GOES).format(old=was)
    recoloured = old["companion_colour"] != new["companion_colour"]
    coloured = recoloured or (old["companion"] == "none" and rng.random() < 0.5)
    noun = with_article(_companion(new, coloured, rng))
    if old["companion"] == "none":
        return _pick(rng, w.HELD_OUT_APPEARS if held_out else w.APPEARS).format(new=noun)
    return _pick(rng, w.HELD_OUT_TURNS if held_out else w.TURNS).format(it=was, new=noun)
