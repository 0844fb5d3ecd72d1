"""What is asked of the valley, in words of many kinds.

Of a few wordings for a kind a model learns the sentences by heart: with seven it was right of all
questions in those, and of three quarters in others. So they are put together from parts here, and
what is left to learn is what the parts mean.
"""

from __future__ import annotations

import functools
import itertools
import random
import re

from longtake.training.valley.world import ATTRIBUTES

_COLOURS = "|".join(ATTRIBUTES["colour"])
_IT = "it|the {shape}"
_BEFORE = "before|earlier|a minute ago|a while ago|some time ago|long ago"
PATTERNS: dict[str, tuple[str, ...]] = {
    "colour": (
        f"[what|which] colour [is|has] [{_IT}]?",
        f"[what|which] colour does [{_IT}] have?",
        "what is [its colour|the colour of it|the colour of the {shape}|the {shape}'s colour]?",
        "tell me [its colour|the colour of it|the colour of the {shape}].",
        "[name|say] the colour[| of the {shape}].",
        f"is [{_IT}] [{_COLOURS}]?",
        f"is [{_IT}] [{_COLOURS}] or [{_COLOURS}]?",
        f"how is [{_IT}] coloured?",
    ),
    "shape": (
        "what [is it|is there|is that|do you see|can you see|do you look at|am i looking at]?",
        "what [thing|object] [is it|is this|is that|is there|can you see|am i looking at]?",
        "which [thing|object] [is it|is this|is that|is there|do you see|can you see]?",
        "what kind of [thing|object] [is it|is this|is that|do you see|is there]?",
        "[name|describe] [it|the thing|the object|what you see|what is there].",
        "tell me what [it is|this is|that is|you see|is there].",
        "[what|which] [thing|object] [does the picture show|is in the picture|is shown]?",
        "do you [see|know] what [it|this|that] is?",
    ),
    "motion": (
        "what [is moving|moves|happens|is happening|is going on]?",
        f"what does [{_IT}] do [|now|there|at the moment]?",
        f"what is [{_IT}] doing [|now|there|at the moment]?",
        f"[how|where] does [{_IT}] [move|go]?",
        f"[in what way|where|how] is [{_IT}] [moving|going]?",
        f"is [{_IT}|anything|something] [moving|standing still|resting]?",
        f"does [{_IT}|anything|something] [move|rest|stand still]?",
        f"does [{_IT}] [bounce|fly|roll|circle|drift|go anywhere]?",
        f"is [{_IT}] [bouncing|flying|rolling|circling|drifting|going anywhere]?",
        f"[describe|tell me|say] how [{_IT}] moves.",
        f"tell me what [{_IT}] does.",
    ),
    "time": (
        "what time [is it|of day is it|of day is this|of the day is it|do we have]?",
        "which time [is it|of the day is it|of day is this|do we have]?",
        "is it [day|night|evening|sunset|dark|light|late|daytime|bright]?",
        "is it [day|night|evening|dark] [already|now|yet|there]?",
        "is it [day or night|evening or day|dark or light|day or evening|evening or night]?",
        "is the sun [up|down|setting|there|shining]?",
        "[how late|how dark] is it?",
        "tell me [the time|the time of day|what time it is|whether it is day or night].",
    ),
    "weather": (
        "[what|how] is the weather [like|now|there|today|at the moment]?",
        "how is the [weather|sky]?",
        "what [weather|kind of weather] [is it|is there|do we have|is that]?",
        "which weather [is it|is there|do we have]?",
        "is it [raining|snowing|foggy|clear|rainy|snowy|sunny|wet|misty]?",
        "does it [rain|snow|rain or snow|snow or rain]?",
        "is [there|there any] [rain|snow|fog|mist]?",
        "is the sky clear?",
        "is it [snowing or raining|foggy or clear|clear or rainy]?",
        "[tell me|say something] about the weather.",
        "[tell me how|describe how] the weather is.",
    ),
    "ground": (
        f"where is [{_IT}|this] [|standing|lying]?",
        f"where does [{_IT}] [stand|stay]?",
        "where [are we|is that|is the thing|does this happen]?",
        "what does [it|the {shape}|the thing] [stand|move|lie] on?",
        "what is [it|the {shape}|the thing] [|standing|lying] on?",
        "what is [under it|under the {shape}|below the {shape}|below it|beneath it]?",
        "what is the ground [|like|made of|there]?",
        "[what|which] [ground|kind of ground] is [it|it on|that|this|there]?",
        f"is [{_IT}] on [grass|the grass|sand|the sand|snow|the snow|water|the water]?",
        "is there [grass|sand|snow|water] [under it|on the ground|below]?",
        "[describe|tell me about|name] the ground.",
        "on what [is it|is the {shape}|does it stand]?",
    ),
    "camera": (
        "what does the [camera|view|picture] do [|now|there|at the moment]?",
        "what is the [camera|view|picture] doing [|now|there|at the moment]?",
        "how does the [camera|view|picture] move?",
        "[how|where] is the [camera|view|picture] [moving|going]?",
        "does the [camera|view|picture] [move|pan|zoom|stand still]?",
        "is the [camera|view|picture] [moving|panning|zooming|standing still|still]?",
        "is the camera [panning or zooming|moving or still|zooming or panning|moved|turning]?",
        "does the camera [move|pan|turn|go] [left|right|anywhere]?",
        "[tell me|say] what the camera [does|is doing].",
        "describe the [camera|move of the camera].",
    ),
    "companion": (
        f"what [is|stands|can you see] behind [{_IT}]?",
        "what [other thing|other object|second thing] [is there|do you see|can you see]?",
        "what else [do you see|can you see|is to be seen|is in the picture]?",
        "what is [in the background|beside it|next to it|far away|the other one|at the back]?",
        "is there [anything else|something else|another thing|a second thing|something behind it]?",
        "do you see [anything else|something else|another thing|anything behind the {shape}]?",
        f"is [{_IT}] [alone|on its own|all there is]?",
        "is anything [beside it|behind the {shape}|in the background]?",
        "[name|describe] the [other thing|other one|thing behind it|background].",
    ),
    "size": (
        "how [big|large|tall] is [it|the {shape}|the thing]?",
        f"[what|which] size [is|has] [{_IT}]?",
        f"what size does [{_IT}] have?",
        "what is [its size|the size of the {shape}|the size of it]?",
        f"is [{_IT}] [big|small|large|little|tiny|huge]?",
        f"is [{_IT}] [small or big|large or small|small or large|little or large]?",
        "is it [big or small|a small one|a big one|a large one|a big {shape}|a small {shape}]?",
        "tell me [how big it is|its size|the size of the {shape}].",
    ),
    "last": (
        "what [happened|has happened|came] last?",
        "what [was the last change|was the newest change|is the last change|is new]?",
        "what has [changed|happened] [|now|just now|lately|recently]?",
        "what is [different|new|other] [|now]?",
        "what [just happened|just changed|happened just now|changed just now]?",
        "what [happened|changed] [recently|lately|most recently]?",
        "has [anything|something] [changed|happened] [|lately|just now]?",
        "tell me [what has changed|what happened last|the last change|what is new].",
        "which change [was the last|came last]?",
    ),
    "ago": (
        f"what [happened|changed|was new|was different|was going on] [{_BEFORE}]?",
        f"what was [there|to be seen|there to see] [{_BEFORE}]?",
        f"[which|what] change was [there|that] [{_BEFORE}]?",
        f"[tell me|say] what [happened|changed] [{_BEFORE}].",
        f"do you [remember|know] what [happened|changed] [|{_BEFORE}]?",
        f"did anything [happen|change] [{_BEFORE}]?",
        "what do you remember?",
    ),
    "was colour": (
        f"[what|which] colour was [{_IT}] [{_BEFORE}]?",
        f"[what|which] colour did [{_IT}] have [{_BEFORE}|before that]?",
        f"what was [its colour|the colour of the {{shape}}] [{_BEFORE}|before that]?",
        f"[tell me|say] [what|which] colour it [was|had] [{_BEFORE}].",
        f"how was it coloured [{_BEFORE}]?",
    ),
    "was weather": (
        f"[what|how] was the weather [{_BEFORE}|before that|before it changed]?",
        f"what was the weather like [{_BEFORE}|before that|before it changed]?",
        f"[what|which] weather [was there|was it|did we have] [{_BEFORE}]?",
        f"[tell me|say] how the weather was [{_BEFORE}].",
        f"was there [rain|snow|fog|other weather] [{_BEFORE}]?",
        f"did it [rain|snow] [{_BEFORE}]?",
    ),
}
"""Of each kind of question what its wordings are put together from."""
HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("which colour is it?", "what colour has the {shape}?"),
    "shape": ("what thing do you see?", "what is this?"),
    "motion": ("what does it do?", "what is the {shape} doing?"),
    "time": ("which time of day is it?", "is it night or day?"),
    "weather": ("what is the weather?", "is it raining or snowing?"),
    "ground": ("where is it?", "what is the {shape} on?"),
    "camera": ("what is the camera doing?", "is the camera still?"),
    "companion": ("what else is there?", "is there anything behind it?"),
    "size": ("is the {shape} big or small?", "how small is it?"),
    "last": ("what changed last?", "what was the last thing that happened?"),
    "ago": ("what changed a minute ago?", "what happened a minute before?"),
    "was colour": ("which colour was it before?",),
    "was weather": ("how was the weather a minute ago?",),
}
"""Wordings for evaluation only; what the patterns have of them is left out."""
UNMARKED = 0.2
"""Share of the questions of training that end without their mark, as many do that are typed."""
KINDS = tuple(PATTERNS)
"""Of questions."""


def _spelled_out(pattern: str) -> list[str]:
    """All that a pattern gives: "[a|b] c[| d]" is "a c", "a c d", "b c" and "b c d"."""
    parts = [part.split("|") for part in re.split(r"[\[\]]", pattern)]
    joined = ("".join(chosen) for chosen in itertools.product(*parts))
    # Where nothing stands between two spaces, or before the end, there is one too many.
    return [re.sub(r"\s+(?=[\s?.])", "", text) for text in joined]


@functools.cache
def wordings(kind: str) -> list[list[str]]:
    """Those of training for a kind, each pattern's together."""
    spelled_out = map(_spelled_out, PATTERNS[kind])
    return [[each for each in some if each not in HELD_OUT_WORDINGS[kind]] for some in spelled_out]


def draw_wording(kind: str, shape: str, rng: random.Random, *, held_out: bool = False) -> str:
    """A question of a kind; `held_out`: worded as training never did.

    Patterns are as likely as each other, however many wordings they have.
    """
    if held_out:
        return rng.choice(HELD_OUT_WORDINGS[kind]).format(shape=shape)
    wording = rng.choice(rng.choice(wordings(kind))).format(shape=shape)
    return wording.rstrip("?.") if rng.random() < UNMARKED else wording
