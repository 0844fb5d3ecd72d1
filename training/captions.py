"""A grammar of captions for the trial world: whole scenes, and changes, in plain words.

Lower case, no punctuation but commas. What a caption leaves out is free in the video.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence

from longtake.training.world import ATTRIBUTES, NAMES

Verb = tuple[str, str, str, str]
"""Base form, third person, -ing form, and what follows (may be empty)."""

SIZES = {"small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
COLOURS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
    "white": ("white",),
}
SHAPES = {
    "ball": ("ball",),
    "cube": ("cube", "block", "box"),
    "star": ("star",),
    "car": ("car",),
    "boat": ("boat", "sailing boat"),
    "duck": ("duck", "rubber duck"),
}
VERBS: dict[str, tuple[Verb, ...]] = {
    "rests": (
        ("rest", "rests", "resting", ""),
        ("stand", "stands", "standing", "still"),
        ("stay", "stays", "staying", "still"),
        ("sit", "sits", "sitting", ""),
        ("wait", "waits", "waiting", ""),
    ),
    "bounces": (
        ("bounce", "bounces", "bouncing", ""),
        ("bounce", "bounces", "bouncing", "up and down"),
        ("hop", "hops", "hopping", ""),
        ("jump", "jumps", "jumping", "up and down"),
    ),
    "rolls": (
        ("roll", "rolls", "rolling", ""),
        ("roll", "rolls", "rolling", "back and forth"),
        ("move", "moves", "moving", "from side to side"),
        ("travel", "travels", "travelling", "back and forth"),
        ("go", "goes", "going", "from left to right"),
    ),
    "circles": (
        ("circle", "circles", "circling", ""),
        ("fly", "flies", "flying", "in circles"),
        ("go", "goes", "going", "round and round"),
        ("float", "floats", "floating", "in a circle"),
    ),
}
SPECIAL_VERBS: dict[tuple[str, str], tuple[Verb, ...]] = {
    ("car", "rolls"): (("drive", "drives", "driving", ""),) * 3,
    ("boat", "rolls"): (("sail", "sails", "sailing", ""),) * 3,
    ("duck", "rolls"): (("walk", "walks", "walking", ""), ("swim", "swims", "swimming", "")),
    ("car", "rests"): (("", "is parked", "parked", ""),),
}
GROUNDS = {
    "grass": ("green grass", "the grass", "a meadow", "a green field", "the lawn"),
    "sand": ("the sand", "the beach", "yellow sand", "the desert"),
    "snow": ("the snow", "white snow", "a snowy field", "snowy ground"),
    "water": ("the water", "the sea", "a lake", "blue water", "the waves"),
}
TIMES = {
    "day": ("by day", "during the day", "in daylight", "in the daytime", "on a bright day"),
    "sunset": ("at sunset", "at dusk", "in the evening", "as the sun sets", "as the sun goes down"),
    "night": ("at night", "by night", "in the dark", "on a dark night", "during the night"),
}
WEATHERS = {
    "clear": ("under a clear sky", "in clear weather", "in fine weather", "with a clear sky"),
    "rain": ("in the rain", "while it rains", "as rain falls", "in rainy weather", "and it rains"),
    "snow": ("while it snows", "in falling snow", "as snow falls", "and it snows", "in snowfall"),
}
SKIES = {
    ("day", "clear"): ("on a sunny day", "on a clear day", "in the sunshine"),
    ("day", "rain"): ("on a rainy day", "on a wet day"),
    ("day", "snow"): ("on a snowy day",),
    ("sunset", "clear"): ("on a clear evening", "at a clear sunset"),
    ("sunset", "rain"): ("on a rainy evening", "at a rainy sunset"),
    ("sunset", "snow"): ("on a snowy evening", "at a snowy sunset"),
    ("night", "clear"): ("on a clear night", "under the stars", "under the moon"),
    ("night", "rain"): ("on a rainy night", "on a wet night"),
    ("night", "snow"): ("on a snowy night",),
}
"""Time and weather in one phrase."""
TAGS = {
    "time": {"day": "day", "sunset": "sunset", "night": "night"},
    "ground": {"grass": "grass", "sand": "sand", "snow": "snowy ground", "water": "water"},
    "weather": {"clear": "clear sky", "rain": "rain", "snow": "snowfall"},
}

CHANGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("time", "day"): ("day breaks", "the sun comes up", "morning comes", "it becomes day"),
    ("time", "sunset"): ("the sun sets", "the sun goes down", "evening comes", "dusk falls"),
    ("time", "night"): ("night falls", "night comes", "it gets dark", "it becomes night"),
    ("weather", "clear"): ("the sky clears", "the weather clears up", "the sky becomes clear"),
    ("weather", "rain"): (
        "it starts to rain",
        "it begins to rain",
        "rain falls",
        "it starts raining",
    ),
    ("weather", "snow"): (
        "it starts to snow",
        "it begins to snow",
        "snow falls",
        "it starts snowing",
    ),
    ("ground", "grass"): ("the ground turns to grass", "the ground becomes a meadow"),
    ("ground", "sand"): ("the ground turns to sand", "the ground becomes a beach"),
    ("ground", "snow"): ("the ground turns to snow", "snow covers the ground"),
    ("ground", "water"): ("the ground turns to water", "the ground becomes the sea"),
}
STOPS = {
    "rain": ("it stops raining", "the rain stops", "the rain ends"),
    "snow": ("it stops snowing", "the snowfall stops", "the snowfall ends"),
}
WISHES: dict[tuple[str, str], str] = {
    ("time", "day"): "make it day",
    ("time", "sunset"): "make it sunset",
    ("time", "night"): "make it night",
    ("weather", "clear"): "make the sky clear",
    ("weather", "rain"): "let it rain",
    ("weather", "snow"): "let it snow",
    ("ground", "grass"): "put it on the grass",
    ("ground", "sand"): "put it on the sand",
    ("ground", "snow"): "put it on the snow",
    ("ground", "water"): "put it on the water",
}

ORDERS = (
    "{thing} {does} {place} {sky}",
    "{thing} {does} {place}, {sky}",
    "{sky}, {thing} {does} {place}",
    "{thing} {doing} {place} {sky}",
    "{sky}, {thing} {doing} {place}",
    "{place} {sky}, {thing} {does}",
    "{thing} {place} {sky}, {doing}",
    "there is {thing} {doing} {place} {sky}",
)
HELD_OUT_ORDERS = ("{place}, {thing} {does} {sky}", "{sky} there is {thing} {place}, {doing}")
"""Word orders for evaluation only."""
LEADS = ("", "", "", "now ", "then ", "suddenly ", "slowly ")
FUNCTION_WORDS = (
    "a an and becomes begins bigger comes gets grows into is it make moving now on one over above",
    "rest shrinks smaller starts stops the then there to turn turns",
)


def _pick(rng: random.Random, options: Sequence[str]) -> str:
    return options[rng.randrange(len(options))]


def _verb(shape: str, motion: str, rng: random.Random) -> Verb:
    verbs = VERBS[motion] + SPECIAL_VERBS.get((shape, motion), ())
    return verbs[rng.randrange(len(verbs))]


def values_of(attributes: Sequence[int]) -> dict[str, str]:
    """The words for a row of value indices: {"time": "day", ...}."""
    return {name: ATTRIBUTES[name][int(i)] for name, i in zip(NAMES, attributes, strict=True)}


def _thing(scene: dict[str, str], mention: Collection[str], rng: random.Random) -> str:
    """A noun phrase without its article."""
    words = [_pick(rng, SIZES[scene["size"]])] if "size" in mention else []
    words += [_pick(rng, COLOURS[scene["colour"]])] if "colour" in mention else []
    return " ".join([*words, _pick(rng, SHAPES[scene["shape"]])])


def _with_article(noun: str, rng: random.Random) -> str:
    if rng.random() < 0.12:
        return f"{_pick(rng, ('the', 'one'))} {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _sky(scene: dict[str, str], mention: Collection[str], rng: random.Random) -> str:
    time, weather = scene["time"], scene["weather"]
    if "time" in mention and "weather" in mention:
        if rng.random() < 0.5:
            return _pick(rng, SKIES[time, weather])
        # "and it rains" reads well only at the end.
        parts = [_pick(rng, TIMES[time]), _pick(rng, WEATHERS[weather])]
        if rng.random() < 0.4 and not parts[1].startswith("and"):
            parts.reverse()
        return " ".join(parts)
    if "time" in mention:
        return _pick(rng, TIMES[time])
    return _pick(rng, WEATHERS[weather]) if "weather" in mention else ""


def _tags(scene: dict[str, str], mention: Collection[str], rng: random.Random) -> str:
    """A terse list, as people type it: "red ball, grass, night, bouncing"."""
    tags = [table[scene[name]] for name, table in TAGS.items() if name in mention]
    if "motion" in mention:
        _, _, doing, tail = _verb(scene["shape"], scene["motion"], rng)
        tags.append(f"{doing} {tail}")
    rng.shuffle(tags)
    return ", ".join([_thing(scene, mention, rng), *tags])


def draw_mention(rng: random.Random) -> frozenset[str]:
    """Which attributes a caption names: the shape always, the colour mostly, all in a third."""
    if rng.random() < 0.35:
        return frozenset(NAMES)
    chance = {"shape": 1.0, "colour": 0.92, "size": 0.5}
    return frozenset(name for name in NAMES if rng.random() < chance.get(name, 0.72))


def caption(
    attributes: Sequence[int],
    rng: random.Random,
    mention: Collection[str] | None = None,
    held_out: bool = False,
) -> str:
    """A sentence for a whole scene.

    `attributes`: the seven value indices. `mention`: the attributes to name, besides the shape;
    drawn at random where not given. `held_out`: a word order that training never uses.
    """
    scene = values_of(attributes)
    mention = draw_mention(rng) if mention is None else mention
    if not held_out and rng.random() < 0.08:
        return _clean(_tags(scene, mention, rng))
    place = ""
    if "ground" in mention:
        above = scene["motion"] == "circles" and "motion" in mention and rng.random() < 0.7
        preposition = _pick(rng, ("over", "above")) if above else "on"
        place = f"{preposition} {_pick(rng, GROUNDS[scene['ground']])}"
    does = doing = ""
    if "motion" in mention:
        _, third, ing, tail = _verb(scene["shape"], scene["motion"], rng)
        does, doing = f"{third} {tail}", f"{ing} {tail}"
    order = _pick(rng, HELD_OUT_ORDERS if held_out else ORDERS)
    sky = _sky(scene, mention, rng)
    if sky.startswith("and") and not order.endswith(" {sky}"):
        sky = sky.removeprefix("and ")
    thing = _with_article(_thing(scene, mention, rng), rng)
    return _clean(order.format(thing=thing, does=does, doing=doing, place=place, sky=sky))


def _clean(text: str) -> str:
    """One space between words, no comma without something on both sides."""
    parts = [" ".join(part.split()) for part in text.split(",")]
    return ", ".join(part for part in parts if part)


def _thing_clauses(
    name: str, after: dict[str, str], it: str, rng: random.Random
) -> tuple[str, ...]:
    """Ways to say that the thing's shape, colour, size or motion changed; `it` names the thing."""
    if name == "shape":
        new = _with_article(_pick(rng, SHAPES[after["shape"]]), random.Random(0))
        return (f"{it} turns into {new}", f"{it} becomes {new}", f"turn {it} into {new}")
    if name == "colour":
        new = _pick(rng, COLOURS[after["colour"]])
        return f"{it} turns {new}", f"{it} becomes {new}", f"make {it} {new}", f"{it} is now {new}"
    if name == "size":
        grows = after["size"] == "big"
        word = _pick(rng, SIZES[after["size"]])
        comparative = "bigger" if grows else "smaller"
        verb = "grows" if grows else "shrinks"
        return (
            f"{it} {verb}",
            f"{it} gets {comparative}",
            f"make {it} {word}",
            f"{it} becomes {word}",
        )
    base, third, ing, tail = _verb(after["shape"], after["motion"], rng)
    # Some verbs have no base form that a thing could start to do.
    if not base or (after["motion"] == "rests" and rng.random() < 0.6):
        return f"{it} stops", f"{it} stops moving", f"{it} comes to rest"
    return (
        f"{it} starts to {base} {tail}",
        f"{it} starts {ing} {tail}",
        f"{it} begins to {base} {tail}",
        f"{it} now {third} {tail}",
        f"make {it} {base} {tail}",
    )


def change_caption(before: Sequence[int], after: Sequence[int], rng: random.Random) -> str:
    """A sentence that names only what changes between two scenes, in any order.

    Raises `ValueError` where nothing does.
    """
    old, new = values_of(before), values_of(after)
    changed = [name for name in NAMES if old[name] != new[name]]
    if not changed:
        raise ValueError("nothing changes between the two scenes")
    rng.shuffle(changed)
    clauses = []
    # Once the shape has changed in an earlier clause, only "it" is right for the thing.
    for index, name in enumerate(changed):
        if name in ("time", "ground", "weather"):
            options: tuple[str, ...] = (*CHANGES[name, new[name]], WISHES[name, new[name]])
            if name == "weather" and new[name] == "clear":
                options += STOPS[old[name]]
        else:
            it = "it" if "shape" in changed[:index] or rng.random() < 0.3 else f"the {old['shape']}"
            options = _thing_clauses(name, new, it, rng)
        clauses.append(_pick(rng, options))
    joint = _pick(rng, (" and ", " and ", ", ", ", and "))
    return _clean(_pick(rng, LEADS) + joint.join(clauses))


def _texts() -> Iterable[str]:
    """Every piece of text that the grammar is made of."""
    for words in (SIZES, COLOURS, SHAPES, GROUNDS, TIMES, WEATHERS, STOPS):
        for options in words.values():
            yield from options
    for pairs in (SKIES, CHANGES):
        for options in pairs.values():
            yield from options
    for verbs in (*VERBS.values(), *SPECIAL_VERBS.values()):
        for verb in verbs:
            yield from verb
    for tags in TAGS.values():
        yield from tags.values()
    yield from (*WISHES.values(), *LEADS, *FUNCTION_WORDS)


def vocabulary() -> list[str]:
    """Every word that the grammar can emit, sorted."""
    return sorted({word for text in _texts() for word in text.split()})
