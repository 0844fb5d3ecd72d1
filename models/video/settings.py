"""What a film is made with: the model folder's numbers, and what may change on the way."""

from __future__ import annotations

from dataclasses import dataclass
from reprlib import repr as brief
from typing import Literal

from longtake.models.checks import check_text
from longtake.models.video import sampler
from longtake.models.video.kv_cache import CacheSettings, Positions
from longtake.models.video.radial import RadialSettings
from longtake.streaming import Event, StreamError

Switch = Literal["recache", "keep", "flush"]
SWITCHES: tuple[Switch, ...] = ("recache", "keep", "flush")
MAX_PROMPT = 2000
MAX_STEPS = 50
MAX_FRAMES = 1024
MAX_TRANSITION = 64


@dataclass(frozen=True)
class StreamingConfig:
    """``streaming.json`` of a model folder: what the model was trained to stream with.

    Attributes:
        width: pixels.
        height: pixels.
        rate: frames a second.
        chunk: latent frames made at a time.
        sink: latent frames from the start that are never forgotten.
        window: newest latent frames seen, the chunk included.
        steps: denoising forwards a chunk.
        shift: of the noise levels towards noise.
        text_length: text tokens the prompt is padded to.
        positions: of cached frames, ``relative`` to the cache or ``absolute`` in the film.
        recache: how kept latents are run again under a new prompt: ``full``, in one unmasked
            forward as LongLive does, or ``causal``, chunk by chunk as they were made.
        prompts: of a film, the newest ones that are read together, as far as they fit in
            ``text_length``; where it is 1, the prompt in force has to say it all. With a
            rewriter, the newest ones that it rewrites to one.
        sinks: what a recache makes of the sinks of a film longer than the cache: ``kept`` as they
            are (LongLive with global_sink), ``shifted`` to the oldest latents still at hand
            (LongLive without), or ``rewritten`` from the film's first latents.
        opening: steps of a chunk that has nothing before it, along the flow; null where it is made
            like the others. All that a film holds to is settled there, and what the prompt leaves
            open by its noise alone: noise that is renewed between steps blurs that to an average.
        renoised: whether noise is drawn anew between the steps of any other chunk; see
            :class:`~longtake.models.video.sampler.Schedule`.
        radial: what is seen of far frames, for a window that would cost too much otherwise; null
            where all that is held is seen, as a model does that was not trained for it.
    """

    width: int
    height: int
    rate: int
    chunk: int
    sink: int
    window: int
    steps: int
    shift: float
    text_length: int
    positions: Positions = "relative"
    recache: Literal["full", "causal"] = "full"
    prompts: int = 1
    sinks: Literal["kept", "shifted", "rewritten"] = "kept"
    radial: RadialSettings | None = None
    opening: int | None = None
    renoised: bool = True

    def __post_init__(self) -> None:
        sizes = ("width", "height", "rate", "steps", "shift", "text_length", "prompts", "opening")
        for name in sizes:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it has to be above 0")
        CacheSettings(self.sink, self.window, self.chunk, self.positions, self.radial)

    def schedule(self, steps: int, *, opening: bool) -> sampler.Schedule:
        """How a chunk is denoised.

        Args:
            steps: forwards of any but an opening.
            opening: whether there is nothing before it.
        """
        own = self.opening if opening else None
        renoised = self.renoised and own is None
        return sampler.Schedule(sampler.sigmas(own or steps, self.shift), renoised=renoised)


@dataclass(frozen=True)
class Settings:
    """What may change while a film is made.

    Attributes:
        steps: denoising forwards a chunk.
        sink: latent frames from the start that are never forgotten.
        window: newest latent frames seen, the chunk included.
        switch: what a new prompt does to the cache: ``recache`` runs the kept latents again under
            it, ``keep`` leaves the old prompt's keys and values, ``flush`` forgets them all.
    """

    steps: int
    sink: int
    window: int
    switch: Switch = "recache"


def check_event(event: Event, config: StreamingConfig) -> None:
    """Refuse an unknown field or an unfit value.

    Raises:
        StreamError: ``bad_prompt``, ``bad_setting``.
    """
    value = event.value
    if event.field == "prompt":
        hint = "say what is to be seen"
        check_text("prompt", value, MAX_PROMPT, hint)
        if not value.strip():
            raise StreamError("bad_prompt", "the prompt is empty", hint)
        _check_range("transition", event.transition, 0, MAX_TRANSITION)
    elif event.transition:
        hint = "leave transition out: it is for prompts"
        raise _bad_setting(f"{brief(event.field)} makes no transition", hint)
    elif event.field == "switch":
        if value not in SWITCHES:
            raise _bad_setting(f"switch is {brief(value)}", f"use {', '.join(SWITCHES)}")
    elif event.field == "steps":
        _check_range("steps", value, 1, MAX_STEPS)
    elif event.field == "sink":
        _check_range("sink", value, 0, MAX_FRAMES)
    elif event.field == "window":
        _check_range("window", value, config.chunk, MAX_FRAMES)
    else:
        known = "prompt, steps, window, sink, switch"
        raise _bad_setting(f"there is no field {brief(event.field)}", f"there are {known}")


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _bad_setting(f"{name} is {brief(value)}", f"use a whole number from {low} to {high}")


def _bad_setting(problem: str, hint: str) -> StreamError:
    return StreamError("bad_setting", problem, hint)
