"""The captioner: a round of video is read, then spoken of, from what is still remembered."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from math import floor
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

from longtake.models.memory import Need, tells_of_memory
from longtake.models.vlm.cache import StreamingCache
from longtake.models.vlm.context import Context, make_budget
from longtake.models.vlm.frames import FrameProcessor, as_picture
from longtake.models.vlm.memory import ChatSizes, WatchSizes, steady_tokens
from longtake.models.vlm.network import Network
from longtake.models.vlm.pieces import Pieces
from longtake.models.vlm.positions import text_positions
from longtake.models.vlm.sampling import choose, penalise
from longtake.models.vlm.settings import Settings, check_event
from longtake.models.vlm.turns import Template, Turn
from longtake.models.vlm.words import Words
from longtake.streaming import Event, InputFrame, Spec, Step, Tensors


@dataclass
class WatchState:
    """All that changes while a video is watched.

    Attributes:
        seed: of the sampling.
        instruction: standing.
        temperature: in force.
        context: what is remembered, token by token.
        cache: its keys and values. It holds the first tokens of the context; how the newest turn
            ends is written with the next round.
        written: tokens in the cache, those of the round being watched left aside.
        reread: how many of all words that ever moved were read again where they moved to.
        round: index of the next round.
        watched: presentation time in seconds up to which the rounds so far go.
        question: to be answered in the next round.
        renewed: the system message of a new instruction, not yet in the context.
        frames: of the next round, as far as they have come.
        work: the round being watched, suspended between two forwards.
    """

    seed: int
    instruction: str
    temperature: float
    context: Context
    cache: StreamingCache
    written: int = 0
    reread: int = 0
    round: int = 0
    watched: float = 0.0
    question: str | None = None
    renewed: list[int] | None = None
    frames: list[InputFrame] = field(default_factory=list)
    work: Iterator[Step] | None = None


class Captioner:
    """A Qwen2.5-VL as a :class:`~longtake.streaming.StreamModel`.

    An input frame's data is RGB as uint8, [height, width, 3], an array or a tensor. A media
    item's payload is :class:`.Words`; its units are frames of presentation time: none, but all of
    the round's (and of a gap in the video before it) with the round's last piece.

    Args:
        network: the model.
        tokenizer: its own.
        processor: its numbers for pictures.
        settings: what to watch with.

    Raises:
        StreamError: ``bad_model``: the tokenizer is not such a model's.
    """

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        processor: FrameProcessor,
        settings: Settings,
    ) -> None:
        self.network = network
        self.template = Template(tokenizer, settings.clock_seconds)
        self.processor = processor
        self.settings = settings
        self.budget = make_budget(settings.vision_seconds, settings.text_sink, settings.text_window)
        self.pixels = processor.within(settings.min_pixels, settings.max_pixels)
        self.most_said = max(settings.round_tokens, settings.answer_tokens)
        # Every question is answered, however fast they come.
        queued = frozenset({"ask"})
        self.spec = Spec(settings.fps, settings.round_frames, self.most_said, queued)
        group = processor.temporal_patch_size
        self._step = network.tokens_per_second * group / settings.fps
        never = torch.ones(network.vocabulary, dtype=torch.bool)
        never[torch.tensor(self.template.sayable)] = False
        self._never_said = never.to(network.device)

    def watching_with(self, settings: Settings) -> Captioner:
        """The same weights with other settings."""
        return Captioner(self.network, self.template.tokenizer, self.processor, settings)

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.network.device

    @property
    def session_need(self) -> Need:
        """Memory that a watch takes."""
        return WatchSizes(
            self.network.model.config,
            self.settings,
            self.processor,
            ChatSizes.of(self.template),
            self.network.dtype,
        ).session_need

    def open(self, prompt: str, seed: int) -> WatchState:
        """A new watch; the prompt is the standing instruction, which may be empty."""
        self.check(Event("prompt", prompt))
        context = Context(self.template.prompt(prompt), self.template.closing, self._step)
        return WatchState(seed, prompt, self.settings.temperature, context, self.network.cache())

    def check(self, event: Event) -> None:
        """Refuse an unknown field or an unfit value; see :func:`.check_event`."""
        check_event(event)

    def demand(self, state: WatchState) -> int:
        """A round's frames when it begins, none while words are found for them."""
        return 0 if state.work else self.settings.round_frames

    def apply(self, state: WatchState, *arrivals: Event | InputFrame) -> None:
        """Take frames, a question, a standing instruction or a temperature.

        Raises:
            StreamError: ``bad_frame``: a frame is no picture.
        """
        for each in arrivals:
            if isinstance(each, InputFrame):
                as_picture(each.data)
                state.frames.append(each)
            elif each.field == "ask":
                state.question = each.value
            elif each.field == "prompt":
                if each.value != state.instruction:
                    state.instruction = each.value
                    state.renewed = self.template.prompt(each.value)
            else:
                state.temperature = float(each.value)

    @tells_of_memory
    @torch.inference_mode()
    def step(self, state: WatchState) -> Step:
        """Run one forward of the vision encoder or of the language model."""
        if state.work is None:
            state.work = self._round(state)
        try:
            step = next(state.work)
        except BaseException:
            # What was evicted for this round stays so; all else is as it was at the boundary.
            state.work = None
            state.frames.clear()
            state.cache.truncate(state.written)
            if state.context.turns and not state.context.turns[-1].tail:
                state.context.turns.pop()
            raise
        if step.boundary:
            state.work = None
        return step

    def close(self, state: WatchState) -> None:
        """Let go of the cache, of frames and of a round that was being watched."""
        state.work = None
        state.frames.clear()
        state.cache.release()

    def save(self, state: WatchState) -> tuple[Tensors, dict[str, Any]]:
        """Copies of the tensors, and the rest as JSON-like values; at a boundary only."""
        counts = ("written", "reread", "round", "watched")
        names = ("seed", "instruction", "temperature", *counts, "question", "renewed")
        values = {name: getattr(state, name) for name in names}
        values["context"] = state.context.save()
        values["capacity"] = state.cache.get_max_length()
        return state.cache.save(), values

    @tells_of_memory
    @torch.inference_mode()
    def load(self, tensors: Tensors, values: dict[str, Any]) -> WatchState:
        """The watch that :meth:`save` gave, by a captioner of the same folder and settings."""
        rest = dict(values)
        cache, context = self.network.cache(), Context.load(rest.pop("context"))
        cache.load(tensors, rest.pop("capacity"))
        return WatchState(cache=cache, context=context, **rest)

    def _round(self, state: WatchState) -> Iterator[Step]:
        """Watch one round; yields after each forward, at the last with the boundary."""
        start, end = self._span(state)
        if state.renewed and state.written:
            self._read_aside(state, state.renewed)
            yield Step()
        self._evict(state, start, end)
        if self.settings.reread and (moved := state.context.newest(state.reread)):
            self._reread(state, moved)
            yield Step()
        turn, features = self._see(state, start, end)
        yield Step()
        context, cache = state.context, state.cache
        context.turns.append(turn)
        self._make_room(cache, context, turn)
        fresh, positions = context.ids()[cache.length :], context.positions()[cache.length :]
        first = len(fresh) - len(turn) + turn.vision_at
        logits = self.network.read(fresh, positions, cache, (first, features))
        said = yield from self._speak(state, turn, logits, positions[-1, 0].item() + 1)
        turn.tail = list(self.template.tail)
        units = round((end - state.watched) * self.spec.rate)
        state.frames.clear()
        state.written, state.watched, state.question = cache.length, end, None
        state.round += 1
        yield Step(((said, units),), boundary=True)

    def _span(self, state: WatchState) -> tuple[float, float]:
        """Start and end of a round in seconds: on the grid of rounds, after what was watched."""
        length = self.settings.round_seconds
        first = floor(state.frames[0].time / length + 1e-6) * length
        start = max(state.watched, first)
        return start, start + length

    def _read_aside(self, state: WatchState, prompt: list[int]) -> None:
        """Write a new system message behind everything, as if it stood alone."""
        cache = state.cache
        cache.reserve(state.written + len(prompt))
        with cache.aside():
            self.network.read(prompt, text_positions(len(prompt)), cache)

    def _evict(self, state: WatchState, start: float, end: float) -> None:
        """Forget what the budget lets go, and close the gaps; once a round."""
        context, held = state.context, state.written
        before = len(context.prompt)
        rows = [row for row in context.evict(self.budget, start, end) if row < held]
        if state.renewed:
            if held:
                rows = [*range(held, held + len(state.renewed)), *rows[before:]]
            context.prompt, state.renewed = state.renewed, None
        state.cache.compact(rows, context.positions()[: len(rows)])
        state.written = len(rows)

    def _reread(self, state: WatchState, words: range) -> None:
        """Write words that have moved anew, after what now stands before them."""
        context, place = state.context, slice(words.start, words.stop)
        with state.cache.rewriting(words.start):
            self.network.read(context.ids()[place], context.positions()[place], state.cache)
        state.reread = context.moved

    def _see(self, state: WatchState, start: float, end: float) -> tuple[Turn, Tensor]:
        """The turn of a round's frames, and what the vision encoder makes of them."""
        processor = self.processor
        height, width = as_picture(state.frames[0].data).shape[:2]
        height, width = processor.size(height, width, self.pixels)
        frames = torch.stack(
            [processor.resize(frame.data, height, width) for frame in state.frames]
        )
        grid = processor.grid(len(frames), height, width)
        turn = self.template.turn(start, end, grid, state.question)
        patches = processor.patches(frames.to(self.network.device))
        return turn, self.network.see(patches, grid, processor.merge_size)

    def _speak(
        self, state: WatchState, turn: Turn, logits: Tensor, position: float
    ) -> Generator[Step, None, Words]:
        """Find words, a token a forward; returns the last piece of them."""
        settings, template = self.settings, self.template
        kind: Literal["answer", "caption"] = "answer" if turn.asked else "caption"
        limit = settings.answer_tokens if turn.asked else settings.round_tokens
        remembered = set(state.context.ids())
        pieces = Pieces(template.tokenizer)
        ends = (template.silence, template.end)
        if turn.asked:
            # Whoever asks is answered, also in words that the model takes for none of its business.
            logits = logits.index_fill(0, torch.tensor(ends, device=logits.device), -torch.inf)
        while True:
            token = self._choose(state, logits, remembered, len(turn.words))
            over = token in ends
            if not over:
                turn.words.append(token)
                remembered.add(token)
            final = over or len(turn.words) == limit
            text = pieces.tell(turn.words, final=final)
            piece = Words(text, turn.start, turn.end, kind, final)
            if final:
                return piece
            yield Step(((piece, 0),) if text else ())
            place = text_positions(1, position + len(turn.words) - 1)
            logits = self.network.read([token], place, state.cache)

    def _choose(self, state: WatchState, logits: Tensor, remembered: set[int], index: int) -> int:
        settings = self.settings
        ids = torch.tensor(sorted(remembered), device=logits.device)
        logits = penalise(logits, ids, settings.repetition_penalty)
        logits = logits.masked_fill(self._never_said, -torch.inf)
        place = (state.seed, state.round, index)
        return choose(logits, state.temperature, settings.top_k, place)

    def _make_room(self, cache: StreamingCache, context: Context, turn: Turn) -> None:
        """See that a turn fits; if not, that all that will follow fit whose frames are as large."""
        settings, template = self.settings, self.template
        rest = self.most_said + len(template.tail)
        needed = len(context) + rest
        if needed <= cache.get_max_length():
            return
        plain = len(template.turn(turn.start, turn.end, turn.grid).head)
        fixed = len(context.prompt) + len(context.closing)
        cache.reserve(max(needed, steady_tokens(settings, fixed, plain, rest)))
