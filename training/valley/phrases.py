"""The phrases in which the captioner tells of the valley, and reads them back.

Lower case clauses without commas; in them `{it}` is whom they are about. Of the words of `words`
only such are used as can mean one thing, so that what is said can be marked.
"""

from __future__ import annotations

Phrases = tuple[str, ...]

SIZES: dict[str, Phrases] = {"small": ("small", "little"), "big": ("big", "large")}
GROUNDS: dict[str, Phrases] = {
    "grass": ("green grass", "the grass", "a meadow"),
    "sand": ("the sand", "the beach"),
    "snow": ("the snow", "snowy ground"),
    "water": ("the water", "the sea"),
}
SKIES: dict[tuple[str, str], Phrases] = {
    ("day", "clear"): ("on a sunny day", "on a clear day"),
    ("day", "rain"): ("on a rainy day",),
    ("day", "snow"): ("on a snowy day",),
    ("day", "fog"): ("on a foggy day", "on a misty day"),
    ("sunset", "clear"): ("on a clear evening", "at a clear sunset"),
    ("sunset", "rain"): ("on a rainy evening", "at a rainy sunset"),
    ("sunset", "snow"): ("on a snowy evening", "at a snowy sunset"),
    ("sunset", "fog"): ("on a foggy evening", "at a foggy sunset"),
    ("night", "clear"): ("on a clear night", "under the stars"),
    ("night", "rain"): ("on a rainy night",),
    ("night", "snow"): ("on a snowy night",),
    ("night", "fog"): ("on a foggy night", "on a misty night"),
}
BESIDE: Phrases = ("with {new} behind it", "with {new} in the background")
ALONE: Phrases = ("alone", "all alone")
SPEEDS: dict[str, Phrases] = {"slow": ("slowly",), "fast": ("fast", "quickly")}
MOTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "rests": (("stand still", "stands still"), ("rest", "rests")),
    "bounces": (("bounce", "bounces"), ("bounce up and down", "bounces up and down")),
    "rolls": (
        ("move from side to side", "moves from side to side"),
        ("go back and forth", "goes back and forth"),
    ),
    "circles": (("circle", "circles"), ("fly in circles", "flies in circles")),
    "drifts": (("drift", "drifts"), ("float through the air", "floats through the air")),
    "flies away": (
        ("fly away and back", "flies away and back"),
        ("go into the distance", "goes into the distance"),
    ),
}
"""Base form and third person."""
CAMERAS: dict[str, Phrases] = {
    "still": ("the camera is still", "the camera stands still"),
    "pans left": ("the camera pans left", "the camera moves left"),
    "pans right": ("the camera pans right", "the camera moves right"),
    "zooms": ("the camera zooms in and out", "the camera zooms"),
}

CHANGES: dict[tuple[str, str], Phrases] = {
    ("time", "day"): ("day breaks", "the sun comes up"),
    ("time", "sunset"): ("the sun sets", "evening comes"),
    ("time", "night"): ("night falls", "it gets dark"),
    ("weather", "clear"): ("the sky clears",),
    ("weather", "rain"): ("it starts to rain", "rain begins to fall"),
    ("weather", "snow"): ("it starts to snow", "snow begins to fall"),
    ("weather", "fog"): ("fog rolls in", "it gets foggy"),
    ("ground", "grass"): ("the ground turns to grass", "grass covers the ground"),
    ("ground", "sand"): ("the ground turns to sand", "sand covers the ground"),
    ("ground", "snow"): ("the ground turns to snow", "snow covers the ground"),
    ("ground", "water"): ("the ground turns to water", "water covers the ground"),
    ("camera", "still"): ("the camera stops", "the camera comes to rest"),
    ("camera", "pans left"): ("the camera starts to pan left", "the camera begins to move left"),
    ("camera", "pans right"): (
        "the camera starts to pan right",
        "the camera begins to move right",
    ),
    ("camera", "zooms"): ("the camera starts to zoom in and out", "the camera begins to zoom"),
    ("speed", "slow"): ("{it} slows down", "{it} gets slower"),
    ("speed", "fast"): ("{it} speeds up", "{it} gets faster"),
    ("size", "small"): ("{it} shrinks", "{it} gets smaller"),
    ("size", "big"): ("{it} grows", "{it} gets bigger"),
    ("motion", "rests"): ("{it} stops", "{it} comes to rest"),
}
STOPS: dict[str, Phrases] = {
    "rain": ("the rain stops", "it stops raining"),
    "snow": ("the snowfall stops", "it stops snowing"),
    "fog": ("the fog lifts", "the fog clears"),
}
STARTS: Phrases = ("{it} starts to {base}", "{it} begins to {base}")
PAINTS: Phrases = ("{it} turns {word}", "{it} becomes {word}")
TURNS: Phrases = ("{it} turns into {new}", "{it} becomes {new}")
APPEARS: Phrases = ("{new} appears", "{new} comes up")
GOES: Phrases = ("{it} disappears", "{it} goes away")

# A world that is not the valley: what is said of it, and of its colour, light and motion.
ELSEWHERE: Phrases = ("i do not know this world", "this is an unknown world")
ELSEWHERE_COLOURS: Phrases = ("it is mostly {word}",)
ELSEWHERE_LIGHTS: dict[str, Phrases] = {"dark": ("dark",), "bright": ("bright",)}
ELSEWHERE_MOTIONS: dict[str, Phrases] = {
    "still": ("nothing moves",),
    "moving": ("something moves",),
}
ELSEWHERE_CHANGES: dict[str, Phrases] = {
    "dark": ("it gets darker",),
    "bright": ("it gets brighter",),
    "still": ("all comes to a stop",),
    "moving": ("something begins to move",),
}
