"""The words and phrases that captions of the valley are made of.

Lower case, no punctuation but commas. In phrases `{it}` is the thing or "it", `{new}` a noun with
its article, `{word}` a colour or size, `{old}` the companion that was there.
"""

from __future__ import annotations

Verb = tuple[str, str, str, str]
"""Base form, third person, -ing form, and what follows (may be empty)."""
Phrases = tuple[str, ...]

SIZES: dict[str, Phrases] = {
    "small": ("small", "little", "tiny"),
    "big": ("big", "large", "huge"),
}
COLOURS: dict[str, Phrases] = {
    **{name: (name,) for name in ("red", "orange", "yellow", "green", "blue", "pink", "white")},
    "purple": ("purple", "purple", "violet"),
}
SHAPES: dict[str, Phrases] = {
    "ball": ("ball",),
    "cube": ("cube", "block", "box"),
    "star": ("star",),
    "car": ("car",),
    "boat": ("boat", "sailing boat", "sailboat"),
    "balloon": ("balloon", "hot air balloon"),
    "bird": ("bird",),
    "fish": ("fish",),
    "tree": ("tree",),
    "house": ("house",),
    "rocket": ("rocket", "space rocket"),
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
        ("fly", "flies", "flying", "in a circle"),
    ),
    "drifts": (
        ("drift", "drifts", "drifting", ""),
        ("float", "floats", "floating", ""),
        ("float", "floats", "floating", "through the air"),
        ("hover", "hovers", "hovering", ""),
        ("drift", "drifts", "drifting", "through the air"),
    ),
    "flies away": (
        ("fly", "flies", "flying", "away and back"),
        ("fly", "flies", "flying", "away"),
        ("fly", "flies", "flying", "far away and back again"),
        ("fly", "flies", "flying", "into the distance"),
    ),
}
SPECIAL_VERBS: dict[tuple[str, str], tuple[Verb, ...]] = {
    ("car", "rolls"): (("drive", "drives", "driving", ""),) * 3,
    ("boat", "rolls"): (("sail", "sails", "sailing", ""),) * 3,
    ("boat", "flies away"): (("sail", "sails", "sailing", "away"),) * 3,
    ("car", "flies away"): (("drive", "drives", "driving", "away"),) * 2,
    ("duck", "rolls"): (("walk", "walks", "walking", ""), ("swim", "swims", "swimming", "")),
    ("fish", "rolls"): (("swim", "swims", "swimming", ""),) * 3,
    ("fish", "bounces"): (("leap", "leaps", "leaping", "up and down"),),
    ("bird", "rolls"): (("walk", "walks", "walking", ""),),
    ("rocket", "flies away"): (("take", "takes", "taking", "off"),) * 2,
    ("balloon", "drifts"): (("sail", "sails", "sailing", "through the air"),),
    ("car", "rests"): (("", "is parked", "parked", ""),),
}
SPEEDS: dict[str, Phrases] = {
    "slow": ("slowly", "slowly", "gently", "at a slow pace"),
    "fast": ("fast", "quickly", "very fast", "at high speed"),
}
GROUNDS: dict[str, Phrases] = {
    "grass": ("green grass", "the grass", "a meadow", "a green field", "the lawn"),
    "sand": ("the sand", "the beach", "yellow sand", "the desert"),
    "snow": ("the snow", "white snow", "a snowy field", "snowy ground"),
    "water": ("the water", "the sea", "a lake", "blue water", "the waves"),
}
TIMES: dict[str, Phrases] = {
    "day": ("by day", "during the day", "in daylight", "in the daytime", "on a bright day"),
    "sunset": ("at sunset", "at dusk", "in the evening", "as the sun sets", "as the sun goes down"),
    "night": ("at night", "by night", "in the dark", "on a dark night", "during the night"),
}
WEATHERS: dict[str, Phrases] = {
    "clear": ("under a clear sky", "in clear weather", "in fine weather", "with a clear sky"),
    "rain": ("in the rain", "while it rains", "as rain falls", "in rainy weather"),
    "snow": ("while it snows", "in falling snow", "as snow falls", "in snowfall"),
    "fog": ("in the fog", "in thick fog", "in the mist", "in foggy weather"),
}
SKIES: dict[tuple[str, str], Phrases] = {
    ("day", "clear"): ("on a sunny day", "on a clear day", "in the sunshine"),
    ("day", "rain"): ("on a rainy day", "on a wet day"),
    ("day", "snow"): ("on a snowy day",),
    ("day", "fog"): ("on a foggy day", "on a misty day"),
    ("sunset", "clear"): ("on a clear evening", "at a clear sunset"),
    ("sunset", "rain"): ("on a rainy evening", "at a rainy sunset"),
    ("sunset", "snow"): ("on a snowy evening", "at a snowy sunset"),
    ("sunset", "fog"): ("on a foggy evening", "at a misty sunset"),
    ("night", "clear"): ("on a clear night", "under the stars", "under the moon"),
    ("night", "rain"): ("on a rainy night", "on a wet night"),
    ("night", "snow"): ("on a snowy night",),
    ("night", "fog"): ("on a foggy night", "on a misty night"),
}
"""Time and weather in one phrase."""
CAMERAS: dict[str, Phrases] = {
    "still": ("the camera is still", "the camera stands still", "with a still camera"),
    "pans left": ("the camera pans left", "the camera moves to the left", "panning left"),
    "pans right": ("the camera pans right", "the camera moves to the right", "panning right"),
    "zooms": ("the camera zooms in and out", "slowly zooming in and out", "the camera zooms"),
}
COMPANIONS: Phrases = (
    *("with {new} behind it", "with {new} in the background", "with {new}", "next to {new}"),
    *("near {new}", "and {new} in the distance", "and {new}", "beside {new}"),
)
ALONE: Phrases = ("alone", "all alone", "on its own", "with nothing behind it")
TAGS: dict[str, dict[str, str]] = {
    "time": {"day": "day", "sunset": "sunset", "night": "night"},
    "ground": {"grass": "grass", "sand": "sand", "snow": "snowy ground", "water": "water"},
    "weather": {"clear": "clear sky", "rain": "rain", "snow": "snowfall", "fog": "fog"},
    "camera": {
        "still": "still camera",
        "pans left": "pan left",
        "pans right": "pan right",
        "zooms": "zoom",
    },
}
ORDERS: Phrases = (
    "{thing} {does} {place} {sky} {companion}, {camera}",
    "{thing} {does} {place} {companion} {sky}, {camera}",
    "{thing} {does} {place} {companion}, {sky}, {camera}",
    "{sky}, {thing} {does} {place} {companion}, {camera}",
    "{camera}, {thing} {does} {place} {sky} {companion}",
    "{thing} {doing} {place} {sky} {companion}, {camera}",
    "{sky}, {thing} {doing} {place} {companion}, {camera}",
    "{sky}, {camera}, {thing} {companion} {does} {place}",
    "{thing} {companion} {place} {sky}, {doing}, {camera}",
    "there is {thing} {doing} {place} {sky} {companion}, {camera}",
    "we see {thing} {doing} {place} {companion} {sky}, {camera}",
    "{thing} {companion}, {doing} {place}, {sky}, {camera}",
    "{companion}, {thing} {does} {place} {sky}, {camera}",
    "{companion} there is {thing} {place}, {doing}, {sky}, {camera}",
    "{doing}, {thing} {companion} {place} {sky}, {camera}",
    "{place} is {thing} {companion}, {doing}, {sky}, {camera}",
    "{place} {sky}, {camera}, {thing} {companion} {does}",
    "{camera}, {sky} {place} we see {thing} {doing} {companion}",
    "{sky}, {place}, {thing} {companion}, {doing}, {camera}",
)
HELD_OUT_ORDERS: Phrases = (
    "{place}, {thing} {does} {sky} {companion}, {camera}",
    "{sky} there is {thing} {companion} {place}, {doing}, {camera}",
    "{doing} {place} {sky} is {thing} {companion}, {camera}",
)
"""Word orders for evaluation only."""

CHANGES: dict[tuple[str, str], Phrases] = {
    ("time", "day"): (
        *("day breaks", "the sun comes up", "the sun rises", "morning comes", "it becomes day"),
        *("make it day", "let it be day", "it gets light"),
    ),
    ("time", "sunset"): (
        *("the sun sets", "the sun goes down", "evening comes", "dusk falls"),
        *("make it sunset", "let the sun set", "it becomes evening"),
    ),
    ("time", "night"): (
        *("night falls", "night comes", "it gets dark", "it becomes night"),
        *("make it night", "let it be night", "the moon rises", "make night come"),
    ),
    ("weather", "clear"): (
        *("the sky clears", "the weather clears up", "the sky becomes clear"),
        *("make the sky clear", "the weather gets fine"),
    ),
    ("weather", "rain"): (
        *("it starts to rain", "it begins to rain", "rain falls", "it starts raining"),
        *("let it rain", "make it rain", "it rains"),
    ),
    ("weather", "snow"): (
        *("it starts to snow", "it begins to snow", "snow falls", "it starts snowing"),
        *("let it snow", "make it snow", "it snows", "make snow fall"),
    ),
    ("weather", "fog"): (
        *("fog rolls in", "it gets foggy", "mist rises", "the fog comes in"),
        *("let there be fog", "make it foggy", "add fog"),
    ),
    ("ground", "grass"): (
        *("the ground turns to grass", "the ground becomes a meadow", "grass grows"),
        *("put it on the grass", "move it to a meadow"),
    ),
    ("ground", "sand"): (
        *("the ground turns to sand", "the ground becomes a beach", "sand covers the ground"),
        *("put it on the sand", "move it to the beach"),
    ),
    ("ground", "snow"): (
        *("the ground turns to snow", "snow covers the ground", "the ground turns snowy"),
        *("put it on the snow", "cover the ground with snow"),
    ),
    ("ground", "water"): (
        *("the ground turns to water", "the ground becomes the sea", "water covers the ground"),
        *("put it on the water", "the ground becomes a lake"),
    ),
    ("camera", "still"): (
        *("stop the camera", "the camera stops", "hold the camera still", "keep the camera still"),
        *("the camera stops moving", "stop the camera moving"),
    ),
    ("camera", "pans left"): (
        *("pan left", "pan to the left", "the camera pans left", "move the camera to the left"),
        *("the camera moves left", "the camera starts to pan left"),
    ),
    ("camera", "pans right"): (
        *("pan right", "pan to the right", "the camera pans right", "move the camera to the right"),
        *("the camera moves right", "the camera starts to pan right"),
    ),
    ("camera", "zooms"): (
        *("zoom", "zoom in", "zoom in and out", "the camera zooms", "zoom out"),
        *("the camera zooms in", "the camera starts to zoom", "the camera zooms in and out"),
    ),
    ("speed", "slow"): (
        *("slower", "slow down", "{it} slows down", "make {it} slower", "{it} goes slower"),
        *("slow {it} down", "go slower", "{it} gets slower"),
    ),
    ("speed", "fast"): (
        *("faster", "speed up", "{it} speeds up", "make {it} faster", "{it} goes faster"),
        *("speed {it} up", "go faster", "{it} gets faster"),
    ),
    ("size", "small"): (
        *("{it} shrinks", "{it} gets smaller", "make {it} smaller", "make {it} {word}", "smaller"),
        *("{it} becomes {word}", "shrink {it}"),
    ),
    ("size", "big"): (
        *("{it} grows", "{it} gets bigger", "make {it} bigger", "make {it} {word}", "bigger"),
        *("{it} becomes {word}", "make {it} grow", "make {it} get bigger"),
    ),
    ("motion", "rests"): (
        *(
            "{it} stops",
            "{it} stops moving",
            "{it} comes to rest",
            "stop {it}",
            "{it} stands still",
        ),
        *("make {it} stop", "let {it} rest"),
    ),
}
STOPS: dict[str, Phrases] = {
    "rain": ("it stops raining", "the rain stops", "the rain ends", "stop the rain"),
    "snow": ("it stops snowing", "the snowfall stops", "the snowfall ends", "stop the snow"),
    "fog": ("the fog lifts", "the fog clears", "the mist goes away", "remove the fog"),
}
MOVES: Phrases = (
    *("{it} starts to {base} {tail}", "{it} starts {ing} {tail}", "{it} begins to {base} {tail}"),
    *("{it} {third} {tail}", "make {it} {base} {tail}", "let {it} {base} {tail}"),
    "{base} {tail}",
)
RESTS: Phrases = ("make {it} {base} {tail}", "let {it} {base} {tail}", "{it} {third} {tail}")
TURNS: Phrases = (
    *("{it} turns into {new}", "{it} becomes {new}", "turn {it} into {new}"),
    *("change {it} into {new}", "make {it} {new}", "replace {it} with {new}"),
    "make {it} become {new}",
)
PAINTS: Phrases = (
    *("{it} turns {word}", "{it} becomes {word}", "make {it} {word}", "{it} is now {word}"),
    *("paint {it} {word}", "turn {it} {word}", "change {it} to {word}"),
)
APPEARS: Phrases = (
    *("add {new}", "{new} appears", "{new} comes up", "put {new} behind it", "there is now {new}"),
    *("add {new} in the background", "{new} appears in the distance", "make {new} appear"),
)
GOES: Phrases = (
    *("remove {old}", "{old} disappears", "take {old} away", "{old} goes away"),
    "make {old} disappear",
)
HELD_OUT_CHANGES: dict[tuple[str, str], Phrases] = {
    ("time", "day"): ("make the sun come up", "let the morning come"),
    ("time", "sunset"): ("let the evening come", "let the sun go down"),
    ("time", "night"): ("let the night come", "let it get dark"),
    ("weather", "clear"): ("let the sky become clear",),
    ("weather", "rain"): ("let the rain fall", "the rain begins"),
    ("weather", "snow"): ("let the snow fall", "the snowfall begins"),
    ("weather", "fog"): ("let the fog roll in", "the fog begins"),
    ("ground", "grass"): ("let the ground become grass", "cover the ground with grass"),
    ("ground", "sand"): ("let the ground become sand", "cover the ground with sand"),
    ("ground", "snow"): ("let the ground become snow", "let snow cover the ground"),
    ("ground", "water"): ("let the ground become water", "cover the ground with water"),
    ("camera", "still"): ("let the camera rest", "make the camera stand still"),
    ("camera", "pans left"): ("let the camera pan to the left", "go left with the camera"),
    ("camera", "pans right"): ("let the camera pan to the right", "go right with the camera"),
    ("camera", "zooms"): ("let the camera zoom in and out", "make the camera zoom"),
    ("speed", "slow"): ("let {it} go slower", "make {it} slow down"),
    ("speed", "fast"): ("let {it} go faster", "make {it} speed up"),
    ("size", "small"): ("let {it} shrink", "{it} is now smaller"),
    ("size", "big"): ("let {it} grow", "{it} is now bigger"),
    ("motion", "rests"): ("let {it} come to rest", "now {it} stands still"),
}
"""Ways to say changes for evaluation only; every word of them is also in a way that is trained."""
HELD_OUT_MOVES: Phrases = ("{it} begins {ing} {tail}", "now {it} is {ing} {tail}")
HELD_OUT_TURNS: Phrases = ("let {it} become {new}", "{it} is now {new}")
HELD_OUT_PAINTS: Phrases = ("let {it} become {word}", "change {it} into {word}")
HELD_OUT_APPEARS: Phrases = ("let {new} appear", "{new} comes in")
HELD_OUT_GOES: Phrases = ("let {old} disappear", "make {old} go away")
LEADS: Phrases = (*("",) * 6, "now", "then", "suddenly", "slowly", "please", "and now")
JOINTS: Phrases = (" and ", " and ", ", ", ", and ", ", then ", " and then ")
ON, OVER = "on", ("over", "above")
FUNCTION_WORDS = "a an the one other slow fast"
