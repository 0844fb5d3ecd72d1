"""What the bundled model's prompt rewriter knows: the words of captions, and more of people's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from longtake.models.video.lexicon import Lexicon, Value
from longtake.training.valley import words as w
from longtake.training.valley.world import ATTRIBUTES, HIDDEN

ORDER = w.ORDERS[2]
"""Of the trained ones: thing and companion together, and the rest between commas."""
SAY_GROUND = {"grass": "the grass"}
"""Where the first phrase names a colour, which is another attribute's word."""
USUAL = {"time": "day", "weather": "clear", "camera": "still", "companion": "none"}
"""What people expect of a scene of which they do not say it; the rest has no usual value."""
MORE: dict[tuple[str, str], w.Phrases] = {
    ("time", "day"): (
        *("day", "daytime", "daylight", "morning", "gets light", "sunrise", "sun rises", "noon"),
        *("midday", "daybreak", "sun rise", "grows light", "gets bright", "make it bright"),
        *("light returns", "night ends", "night is over", "getting light", "sun is up", "sunlight"),
        *("dawn breaks", "day comes", "day begins", "afternoon"),
    ),
    ("time", "sunset"): (
        *("sunset", "dusk", "evening", "sun set", "sun goes down", "sun is setting"),
        *("dawn", "twilight", "sun go down", "sun is going down", "sun sinks", "sun is low"),
        *("golden hour", "day ends", "setting sun", "sundown", "late afternoon", "red sky"),
        *("orange sky", "pink sky", "sky turns red", "sky turns orange", "sky turns pink"),
        *("sky is red", "sky is orange", "sky is pink", "make the sky red", "sky glows"),
    ),
    ("time", "night"): (
        *("night", "dark", "moon", "stars", "darkness", "grows dark", "nighttime", "midnight"),
        *("nightfall", "moonlight", "moonlit", "starry", "pitch black", "black sky"),
        *("sky turns black", "sky turns dark", "sky is black"),
    ),
    ("weather", "clear"): (
        *("clear", "clear sky", "blue sky", "fine weather", "clears up", "sunny", "dry"),
        *("good weather", "nice weather", "fair weather", "weather gets better"),
        *("weather clears", "view clears", "air clears", "clouds go", "clouds disappear"),
        *("clouds part", "no clouds", "cloudless", "weather improves"),
        *("sky brightens", "bright sky", "sky turns blue", "sky is blue"),
    ),
    ("weather", "rain"): (
        *("rain", "rains", "raining", "rainy", "storm", "stormy", "drizzle", "pouring", "pours"),
        *("shower", "showers", "rainstorm", "downpour", "raindrops", "cloudburst", "rainfall"),
    ),
    ("weather", "snow"): (
        *("snow", "snows", "snowing", "snowfall", "falling snow", "snowy", "blizzard", "snowstorm"),
        *("snowflakes", "flakes", "flurry", "flurries"),
        *("weather to snow", "weather turns to snow", "rain turns to snow"),
    ),
    ("weather", "fog"): ("fog", "foggy", "mist", "misty", "haze", "hazy"),
    ("ground", "snow"): (
        *("snow on the ground", "snow gathers", "snow cover", "snow lies", "snow settles"),
        *("covered in snow", "covered with snow", "snow covered", "white with snow", "snowfield"),
    ),
    ("ground", "grass"): (
        *("field", "garden", "park", "grassy", "turf", "pasture", "grassland", "hill", "hills"),
    ),
    ("ground", "sand"): ("dunes", "sandy", "shore", "coast"),
    ("ground", "water"): (
        *("ocean", "lake", "river", "pond", "pool", "flood", "floods", "flooded", "float on water"),
    ),
    ("camera", "still"): (
        *("still camera", "camera still", "fixed camera", "static camera", "steady camera"),
        *("freeze camera", "lock camera", "hold camera", "static shot", "fixed shot"),
        *("stop panning", "stop zooming", "no panning", "no zoom", "no camera movement"),
        *("no more panning", "no more zooming", "stop the zoom", "stop the pan", "no pan"),
        *("tripod", "stop moving the camera", "pause the camera", "zoom stops", "pan stops"),
        *("still shot", "not move the camera", "don t move the camera"),
        "without moving the camera",
    ),
    ("camera", "zooms"): (
        *("zooms", "zooming", "in and out", "zooming in", "zooms in", "camera comes closer"),
        *("camera goes closer", "camera moves closer", "get closer", "go closer", "close up"),
        *("closer look", "push in", "pull back"),
    ),
    ("speed", "slow"): (
        *("slow", "slows", "slower", "slow motion", "less speed", "lose speed", "loses speed"),
        *("reduce speed", "decrease speed", "decelerate", "decelerates", "calmer", "half speed"),
        *("lazily", "take it easy"),
    ),
    ("speed", "fast"): (
        *("fast", "faster", "speed", "speeds", "quick", "quicker", "accelerate", "accelerates"),
        *("rapid", "rapidly", "hurry", "swift", "swiftly", "rush", "double speed"),
    ),
    ("size", "big"): (
        *("grow", "grows", "growing", "get bigger", "larger", "enlarge", "swell", "swells"),
        *("expand", "expands", "inflate", "inflates", "giant", "gigantic", "enormous", "massive"),
        *("blow it up", "scale up", "scale it up", "increase size", "increase its size"),
        *("double size", "double its size", "taller"),
    ),
    ("size", "small"): (
        *("shrink", "shrinks", "shrinking", "contract", "contracts", "miniature", "mini"),
        *("scale down", "scale it down", "reduce", "reduce its size", "decrease its size"),
        *("half its size", "half the size", "halve its size", "minimise", "minimize"),
    ),
    ("motion", "rests"): (
        *("stop", "stops", "come to rest", "still", "not moving", "halt", "halts", "freeze"),
        *("freezes", "not move", "doesn t move", "stays where it is", "lies there", "motionless"),
        *("stationary", "pause", "pauses", "stay put", "stays put", "holds still"),
        "at a standstill",
    ),
    ("motion", "bounces"): (
        *("jump", "jumps", "jumping", "hop", "hops", "hopping", "leap", "leaps", "up and down"),
    ),
    ("motion", "circles"): (
        *("fly", "flies", "flying", "loop", "loops", "orbit", "orbits", "round and round"),
        *("around and around", "in a circle", "in circles"),
    ),
    ("motion", "rolls"): (
        *("moves", "moving", "side to side", "left and right", "left to right", "to and fro"),
        *("slide", "slides"),
    ),
    ("motion", "drifts"): ("glide", "glides", "levitates", "soars"),
    ("motion", "flies away"): (
        *("flies off", "fly off", "flies off and returns", "goes away and comes back", "takes off"),
        *("into the distance", "leaves and returns"),
    ),
    ("colour", "red"): ("crimson", "scarlet"),
    ("colour", "yellow"): ("golden",),
    ("colour", "green"): ("emerald",),
    ("colour", "blue"): ("azure", "navy"),
    ("colour", "purple"): ("lilac", "lavender"),
}
"""What captions never say, and people do: words for phrases of their own, and whole ones."""
SUN: w.Phrases = (
    *("sun comes out", "sun shines", "sun is shining", "sunshine", "sun is out", "sun returns"),
    *("sun comes back", "sun is back", "let the sun shine"),
)
"""Of a clear sky by day, both."""
NOTHING: w.Phrases = ("nothing next to it", "nothing beside it", "nothing behind it")
PANS: w.Phrases = (
    *("pan", "pans", "panning", "camera", "camera pans", "camera moves", "move camera"),
)
SIDES = {"left": "pans left", "right": "pans right"}
FALLS: w.Phrases = (
    *("rain", "rains", "raining", "snow", "snows", "snowing", "snowfall", "falling snow"),
    *("fog", "foggy", "mist", "misty"),
)
NOT_BEFORE: w.Phrases = (
    *("no", "no more", "no longer", "not", "isn t", "without", "remove", "stop", "stops", "end"),
    *("take away", "turn off", "switch off", "get rid of", "clear", "clear away"),
)
NOT_AFTER: w.Phrases = (
    *("stop", "stops", "stops falling", "ends", "is over", "is gone", "go away", "goes away"),
    *("away", "disappear", "disappears", "vanish", "vanishes", "clear", "clears", "lift", "lifts"),
    *("fade", "fades", "melts", "dissolves", "drifts away", "melts away", "thins out"),
    *("passes", "leaves"),
    *("has stopped", "dies down", "lets up", "subsides", "eases", "dissipates", "disperses"),
)
COMES: w.Phrases = ("moves in", "drifts in")
TO_SNOW: w.Phrases = (
    *("turn to", "turns to", "turn into", "turns into", "become", "becomes", "change to"),
    *("changes to", "changes into", "gives way to", "ground to", "ground is", "ground", "onto"),
    *("grass with", "sand with", "water with", "meadow with", "beach with", "grass to", "sand to"),
)
"""Before "snow" that is no snowfall."""
STILL_CAMERA: w.Phrases = (
    *("stays still", "holds still", "rest", "rests", "stop", "stops panning", "stops zooming"),
    *("does not move", "doesn t move", "no longer moves", "comes to rest", "comes to halt"),
    *("stays where it is", "halts", "freezes", "is fixed", "is static", "is steady", "pauses"),
    *("is locked", "is at rest", "remains still", "stays put", "stays in place", "comes to a stop"),
)
WORDS: dict[str, w.Phrases] = {
    "change": ("make", "makes", "turn", "turns", "change", "changes", "paint"),
    "become": (
        *("become", "becomes", "becoming", "into", "turns into", "turn into", "change into"),
        *("changes into", "turn to", "turns to", "change to", "changes to", "is", "is now", "be"),
        *("gives way to", "makes way for", "is replaced by", "is replaced with", "replaced by"),
        *("swapped for", "exchanged for", "transforms to", "transform to"),
        *("look like", "looks like"),
    ),
    "replace": ("replace", "swap", "exchange", "trade", "switch", "from", "instead", "convert"),
    "instead": (
        *("instead of", "in place of", "rather than", "replaces", "takes the place of"),
        *("comes in place of", "not"),
    ),
    "add": (
        *("add", "put", "there is now", "place", "include", "insert", "draw", "stick"),
        *("bring in", "give it", "let there be", "also", "set", "plant", "build", "create"),
        *("bring", "bring back", "restore"),
    ),
    "beside": ("with", "next to", "near", "beside", "behind", "alongside", "accompanied by"),
    "behind": (
        *("in the background", "in the distance", "behind it", "next to it", "near it"),
        *("beside it", "alongside it", "in the back", "at its side", "by its side"),
    ),
    "appear": (
        *("appear", "appears", "comes up", "comes along", "comes into view", "shows up"),
        *("turns up", "pops up", "joins", "arrives", "emerges", "enters", "too", "as well"),
        *("as company", "for company", "comes", "comes in", "becomes visible", "can be seen"),
        *("is added", "reappears", "returns", "comes back", "is back", "back again"),
    ),
    "remove": (
        *("remove", "take", "take out", "without", "no", "no more", "get rid of", "delete"),
        *("erase", "hide", "lose", "drop", "clear away"),
    ),
    "gone": (
        *("disappear", "disappears", "goes away", "go away", "away", "vanish", "vanishes"),
        *("fades out", "dissolves", "is removed", "is taken away", "has disappeared"),
        *("gone", "is gone", "leaves", "no longer there", "is no longer there", "is not there"),
    ),
    "move": ("moves", "moving"),
    "it": ("it",),
    "other": (
        *("other", "other one", "another", "one next to it", "one beside it", "one behind it"),
        *("thing next to it", "thing beside it", "thing behind it", "one in the background"),
    ),
    "both": ("both", "both of them", "everything", "them", "they", "the two"),
    "scenery": (
        *("sky", "cloud", "clouds", "background", "horizon", "air", "world", "scenery", "floor"),
        *("ground", "sun", "wind", "landscape"),
    ),
    "camera": ("camera",),
    "and": ("and",),
    "then": ("then", "while", "as", "there is"),
}


def lexicon() -> Lexicon:
    """Of the words for training, and of more by heart: the lists for evaluation are not read."""
    phrases: dict[tuple[str, str], list[str]] = {}

    def know(name: str, value: str, more: Iterable[str]) -> None:
        phrases.setdefault((name, value), []).extend(more)

    tables: dict[str, Mapping[str, w.Phrases]] = {
        "size": w.SIZES,
        "colour": w.COLOURS,
        "shape": w.SHAPES,
        "speed": w.SPEEDS,
        "time": w.TIMES,
        "weather": w.WEATHERS,
        "camera": w.CAMERAS,
    }
    for name, table in tables.items():
        for value, words in table.items():
            know(name, value, words)
    for value, grounds in w.GROUNDS.items():
        where = ("on", "in", "over", "above", "to")
        know("ground", value, (f"{at} {ground}" for at, ground in product(where, grounds)))
        # "the snow" alone may fall.
        know("ground", value, (ground for ground in grounds if ground != "the snow"))
    for motion, verbs in _verbs().items():
        know("motion", motion, (form for verb in verbs for form in _forms(verb)))
        ends = ("stop", "stops", "no more")
        know("motion", "rests", (f"{end} {ing}" for end in ends for _, _, ing, _ in verbs))
        know("motion", "rests", (f"no longer {does}" for _, does, _, _ in verbs))
    for name, tags in w.TAGS.items():
        for value, tag in tags.items():
            know(name, value, [tag])
    for (name, value), changes in w.CHANGES.items():
        know(name, value, (change for change in changes if "{" not in change))
    for (name, value), words in MORE.items():
        know(name, value, words)
    for stops in w.STOPS.values():
        know("weather", "clear", stops)
    for (name, value), combined in _combined():
        know(name, value, combined)
    know("companion", "none", (*w.ALONE, "on its own", "by itself", "nothing else", *NOTHING))

    say = {
        **{("ground", ground): f"{w.ON} {words[0]}" for ground, words in w.GROUNDS.items()},
        **{("ground", ground): f"{w.ON} {words}" for ground, words in SAY_GROUND.items()},
        **{("motion", motion): " ".join(verbs[0][1::2]) for motion, verbs in w.VERBS.items()},
        ("companion", "none"): w.ALONE[0],
    }
    adverbs = tuple(how for hows in w.SPEEDS.values() for how in hows if how.endswith("ly"))
    attributes: dict[str, dict[str, Value]] = {}
    for (name, value), known in phrases.items():
        said = say.get((name, value)) or known[0]
        attributes.setdefault(name, {})[value] = Value(said, tuple(dict.fromkeys(known)))
    for name, of in (("companion", "shape"), ("companion_colour", "colour")):
        values = attributes[of]
        told = {value: Value(values[value].say) for value in ATTRIBUTES[name] if value in values}
        attributes.setdefault(name, {}).update(told)
    return Lexicon(
        attributes,
        {
            phrase: {"time": time, "weather": weather}
            for (time, weather), skies in w.SKIES.items()
            for phrase in skies
        }
        | {sun: {"time": "day", "weather": "clear"} for sun in SUN},
        WORDS | {"adverb": adverbs},
        HIDDEN,
        w.COMPANIONS[1],
        ORDER,
        USUAL,
    )


def _combined() -> Iterator[tuple[tuple[str, str], Iterable[str]]]:
    """Phrases that are put together, by attribute and value."""
    yield ("weather", "rain"), (f"rain {comes}" for comes in COMES)
    yield ("weather", "fog"), (f"fog {comes}" for comes in COMES)
    yield ("weather", "clear"), (f"{no} {fall}" for no, fall in product(NOT_BEFORE, FALLS))
    yield ("weather", "clear"), (f"{fall} {ends}" for fall, ends in product(FALLS, NOT_AFTER))
    yield ("weather", "clear"), (f"take {fall} away" for fall in FALLS)
    yield ("ground", "snow"), (f"{to} {snow}" for to, snow in product(TO_SNOW, ("snow", "snowy")))
    yield ("camera", "still"), (f"camera {stays}" for stays in STILL_CAMERA)
    for side, value in SIDES.items():
        to = (side, f"to {side}")
        yield ("camera", value), (*to, *(f"{pan} {each}" for pan, each in product(PANS, to)))


def _verbs() -> dict[str, list[w.Verb]]:
    """All verbs of each motion."""
    found = {motion: list(verbs) for motion, verbs in w.VERBS.items()}
    for (_, motion), verbs in w.SPECIAL_VERBS.items():
        found[motion] += verbs
    return found


def _forms(verb: w.Verb) -> list[str]:
    """With what follows, and that alone: "bounces slowly up and down"."""
    *forms, tail = verb
    alone = [tail] if " " in tail else []
    return [f"{form} {tail}".strip() for form in forms if form] + alone
