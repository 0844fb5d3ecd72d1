"""The generator: latent frames made chunk by chunk from the prompt in force, then decoded."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from longtake.kernels import Kernels
from longtake.models.memory import Need, tells_of_memory
from longtake.models.video import sampler
from longtake.models.video.codec import VideoCodec
from longtake.models.video.conditions import Modulation
from longtake.models.video.film_state import FilmState
from longtake.models.video.kv_cache import CacheSettings, KVCache
from longtake.models.video.memory import FilmSizes
from longtake.models.video.recorded import Forward, RecordedForwards, recorder_for
from longtake.models.video.self_attention import SelfAttention
from longtake.models.video.settings import Settings, StreamingConfig, check_event
from longtake.models.video.text import PromptEncoder, add_prompt
from longtake.models.video.transfer import Outlet, to_device
from longtake.models.video.transformer import WanTransformer
from longtake.models.video.transition import Transition
from longtake.streaming import Event, InputFrame, Spec, Step, StreamError, Tensors

MODULATIONS = 64
"""That are kept: a few for each number of steps that films of late were made with."""


class VideoGenerator:
    """A text-to-video model as a :class:`~longtake.streaming.StreamModel`.

    A media item's payload is frames as uint8 RGB on the CPU, [frames, height, width, 3].

    Args:
        transformer: predicts the flow.
        codec: decodes latents.
        text_encoder: encodes prompts.
        config: of the model folder.
        kernels: the bound operations.
        device: where the weights are.
        dtype: of the weights.
        fp8_cache: whether films keep keys and values in 8-bit floating point, see
            :class:`.KVCache`.
    """

    def __init__(
        self,
        transformer: WanTransformer,
        codec: VideoCodec,
        text_encoder: PromptEncoder,
        config: StreamingConfig,
        kernels: Kernels,
        device: torch.device,
        dtype: torch.dtype,
        *,
        fp8_cache: bool = False,
    ) -> None:
        self.transformer = transformer
        self.codec = codec
        self.text_encoder = text_encoder
        self.config = config
        self.kernels = kernels
        self.device = device
        self.dtype = dtype
        gathered = {"prompt": config.prompts}
        sizes = (config.chunk * codec.temporal, config.chunk)
        self.spec = Spec(config.rate, *sizes, gathered=gathered)
        self.defaults = Settings(config.steps, config.sink, config.window)
        self.sizes = FilmSizes(
            transformer.config,
            codec,
            config,
            dtype,
            on_gpu=device.type != "cpu",
            fp8_cache=fp8_cache,
        )
        self.outlet = Outlet(device)
        self.recorder = partial(recorder_for, device)
        self._modulations: dict[tuple[float, int], Modulation] = {}

    @property
    def int8(self) -> bool:
        """Whether any of it computes in int8."""
        return self.transformer.int8 or self.codec.int8

    @property
    def session_need(self) -> Need:
        """Memory that a film takes, at the window and the sink that it begins with."""
        return self.sizes.session_need

    @tells_of_memory
    @torch.inference_mode()
    def open(self, prompt: str, seed: int) -> FilmState:
        """A new film; see :class:`~longtake.streaming.StreamModel`."""
        self.check(Event("prompt", prompt))
        settings = self.defaults
        cache = self._new_cache(settings)
        embeddings = self._read([prompt], seed)
        text = self.transformer.encode_text(embeddings)
        parts = (embeddings, text, cache, self.codec.start(), RecordedForwards(self.recorder()))
        return FilmState(seed, seed, settings, (prompt,), *parts)

    def reads(self, prompts: Sequence[str], draws: int | None = None) -> str | None:
        """The one prompt that is read in place of all that a film was given.

        Args:
            prompts: oldest first.
            draws: of a film, see :class:`.FilmState`; without, what they tell of alone.

        Returns:
            None where the model has no rewriter: it reads them as they are.
        """
        rewriter = self.text_encoder.rewriter
        if rewriter is None:
            return None
        kept = tuple(prompts[:1])
        for prompt in prompts[1:]:
            kept = self._with(kept, prompt)
        return rewriter(kept, draws)

    def start_frames(self, chunks: int) -> int:
        """Pictures that fill a film's first chunks, ``chunks`` of them."""
        return self.codec.frames_of(chunks * self.config.chunk)

    @tells_of_memory
    @torch.inference_mode()
    def begin_with(self, state: FilmState, frames: Tensor) -> None:
        """Give a film its first frames, before its first chunk is made.

        They are encoded here; each chunk of them is then decoded and committed as clean context,
        as a chunk is that was made (Self-Forcing's image to video). What no prompt tells of is
        theirs to show, and drawn no more.

        Args:
            state: as it was opened.
            frames: uint8 RGB, [time, height, width, 3], of the film's size; time is what
                :meth:`start_frames` gives.

        Raises:
            StreamError: ``bad_start``: the codec is a decoder alone.
        """
        if not self.codec.encodes:
            problem = "this model's codec is a decoder alone, so no picture can begin a film"
            raise StreamError("bad_start", problem, "leave the start out, or give it a whole codec")
        pictures = frames.to(self.device, self.dtype).div(255).permute(0, 3, 1, 2)
        state.start = self.codec.encode_clip(pictures[None]).float()
        state.draws = None
        if self.text_encoder.rewriter:  # or they were read without what is drawn already
            state.embeddings = self._read(state.prompts, None)
            state.text = self.transformer.encode_text(state.embeddings)

    def check(self, event: Event) -> None:
        """Refuse an unknown field or an unfit value; see :func:`.check_event`."""
        check_event(event, self.config)

    def demand(self, state: FilmState) -> int:  # noqa: ARG002
        """Nothing is watched."""
        return 0

    @tells_of_memory
    @torch.inference_mode()
    def apply(self, state: FilmState, *arrivals: Event | InputFrame) -> None:
        """Take new prompts and settings; the cache follows before the next chunk.

        Prompts that come together are read together and take over as one, as the last one says.
        """
        newest: Event | None = None
        for event in arrivals:
            assert isinstance(event, Event)
            if event.field != "prompt":
                self._set(state, event)
            elif event.value != state.prompts[-1] or state.transition or newest:
                state.prompts = self._with(state.prompts, event.value)
                newest = event
                if state.settings.switch == "flush":
                    state.pending = "flush"
                self._ask_recache(state)
        if newest:
            target = self._read(state.prompts, state.draws)
            # Before the first chunk there is nothing that it could take over from.
            chunks = newest.transition if state.chunk else 0
            state.transition = Transition(state.embeddings, target, state.chunk, chunks)
            self._blend(state)

    @tells_of_memory
    @torch.inference_mode()
    def step(self, state: FilmState) -> Step:
        """Run one forward of the transformer or of the decoder."""
        if state.work is None:
            state.work = self._chunk(state)
        try:
            return next(state.work)
        except StopIteration:
            state.work = None
            return Step(boundary=True)
        except BaseException:
            state.cache.roll_back()
            state.work = None
            raise

    def close(self, state: FilmState) -> None:
        """Let go of a chunk that was being made; it refers back to the state."""
        state.work = None

    def save(self, state: FilmState) -> tuple[Tensors, dict[str, Any]]:
        """See :meth:`.FilmState.save`; at a boundary only."""
        return state.save(self.codec)

    @tells_of_memory
    @torch.inference_mode()
    def load(self, tensors: Tensors, values: dict[str, Any]) -> FilmState:
        """The film that :meth:`save` gave, made by a model of the same folder."""

        def group(name: str) -> dict[str, Tensor]:
            return {
                key.removeprefix(f"{name}/"): tensor.to(self.device)
                for key, tensor in tensors.items()
                if key.startswith(f"{name}/")
            }

        # Where decoding runs, which is where their memory is taken again.
        with self.outlet.decoding():
            decoder = self.codec.load(group("decoder"), values["decoder"])
        settings = Settings(**values["settings"])
        cache = self._new_cache(replace(settings, **values["cache_sizes"]))
        cache.load(group("cache"), values["cache"])
        history = {int(frame): latent for frame, latent in group("history").items()}
        draws: int | None = values.get("draws")
        embeddings, transition = self._read(values["prompts"], draws), None
        if values["transition"]:
            start = group("transition")["start"]
            transition = Transition(start, embeddings, **values["transition"])
            # Those of the chunk before, or of the next one where the transition begins with it.
            embeddings = transition.at(max(transition.began, values["chunk"] - 1))
        return FilmState(
            seed=values["seed"],
            draws=draws,
            settings=settings,
            prompts=tuple(values["prompts"]),
            embeddings=embeddings,
            text=self.transformer.encode_text(embeddings),
            cache=cache,
            decoder=decoder,
            forwards=RecordedForwards(self.recorder()),
            chunk=values["chunk"],
            frame=values["frame"],
            origin=values["origin"],
            history=dict(sorted(history.items())),
            start=group("start").get("latents"),
            transition=transition,
            pending=values["pending"],
        )

    def _chunk(self, state: FilmState) -> Iterator[Step]:
        """Make one chunk; yields after each forward, returns at the boundary."""
        if state.transition and state.transition.began < state.chunk:
            self._blend(state)
            self._ask_recache(state)
        yield from self._renew_cache(state)
        config = self.config
        frames = range(state.frame, state.frame + config.chunk)
        state.cache.stage(frames)
        if state.start is None:
            latents = yield from self._denoised(state)
        else:
            latents = state.start[:, :, : config.chunk]
        # Decoded before the cache is written, so that a viewer sees the chunk a forward sooner; or,
        # on a device that does both at a time, waited for when both have been started.
        decoder, sent = state.decoder, []
        for some in latents.split(self.sizes.decoded_together, dim=2):
            with self.outlet.decoding():
                pictures, decoder = self.codec.decode(some.to(self.dtype), decoder)
                sent.append(self.outlet.send(pictures))
            yield Step(media=() if self.outlet.runs_beside else sent.pop().media())
        self._write_keys(state, latents)
        # Drawn while the device is busy: when the frames are there, it may have nothing to do.
        ahead = self._noise(state, state.chunk + 1, 0) if sent else None
        for late in sent:
            yield Step(media=late.media())
        # From here on nothing fails: the state moves from one boundary to the next at once.
        state.cache.commit()
        state.decoder, state.noise = decoder, ahead
        self._remember(state, frames, latents)
        if state.start is not None:
            rest = state.start[:, :, config.chunk :]
            state.start = rest if rest.shape[2] else None
        state.frame += config.chunk
        state.chunk += 1

    def _denoised(self, state: FilmState) -> Generator[Step, None, Tensor]:
        """A chunk's clean latents, from noise; yields after each forward."""
        opening = state.frame == state.origin
        schedule = self.config.schedule(state.settings.steps, opening=opening)
        latents = self._noise(state, state.chunk, 0) if state.noise is None else state.noise
        fresh = partial(self._noise, state, state.chunk)
        for index, sigma in enumerate(schedule.levels):
            flow = self._flow(state, latents, sigma, state.cache.at_step(index))
            latents = schedule.after(index, latents, flow, fresh)
            yield Step()
        return latents

    def _set(self, state: FilmState, event: Event) -> None:
        if event.value == getattr(state.settings, event.field):
            return
        state.settings = replace(state.settings, **{event.field: event.value})
        if event.field in {"sink", "window"} and state.pending != "flush":
            state.pending = "resize"

    def _blend(self, state: FilmState) -> None:
        """Take the embeddings of the next chunk from the transition."""
        assert state.transition is not None
        state.embeddings = state.transition.at(state.chunk)
        text = self.transformer.encode_text(state.embeddings)
        # Where it was, as recorded forwards read it there.
        for kept, new in zip(state.text, text, strict=True):
            kept[0].copy_(new[0])
            kept[1].copy_(new[1])
        if state.transition.is_over(state.chunk):
            state.transition = None

    def _ask_recache(self, state: FilmState) -> None:
        """The cache follows a text, where the setting says so, at every chunk of a transition.

        So what is remembered is always of the text in force, on the way as at its end. To run it
        again at the end only is cheaper, but until then the old prompt would linger in it.
        """
        if state.settings.switch == "recache" and state.pending is None:
            state.pending = "recache"

    def _renew_cache(self, state: FilmState) -> Iterator[Step]:
        """Do to the cache what the last events asked for (LongLive, section 3.2: KV-recache)."""
        pending, settings, cache = state.pending, state.settings, state.cache
        if pending is None:
            return
        if (cache.settings.sink, cache.settings.window) != (settings.sink, settings.window):
            cache = state.cache = self._new_cache(settings)
        if pending == "flush":
            cache.clear()
            state.history.clear()
            state.origin = state.frame
        else:
            sinks = "rewritten" if pending == "resize" else self.config.sinks
            frames = list(state.history)
            first, later = frames[: settings.sink], frames[settings.sink :]
            if sinks == "kept" and state.frame - state.origin > cache.settings.slots:
                cache.keep_sinks()
                again = _newest_run(later, settings.window)
            else:
                cache.clear()
                again = first + _newest_run(later, settings.window)
                if sinks == "shifted":
                    again = _newest_run(frames, cache.settings.slots)
            yield from self._run_again(state, again)
        # Only now, so that a failed forward leaves it to be done again.
        state.pending = None

    def _run_again(self, state: FilmState, frames: list[int]) -> Iterator[Step]:
        """Write kept clean latents into the cache under the prompt in force."""
        chunk = self.config.chunk
        causal = self.config.recache == "causal"
        groups = [list(g) for _, g in groupby(frames, lambda f: f // chunk if causal else 0)]
        for index, group in enumerate(groups):
            state.cache.stage(group)
            self._write_keys(state, torch.cat([state.history[frame] for frame in group], 2))
            upcoming = len(groups[index + 1]) if index + 1 < len(groups) else None
            state.cache.commit(upcoming)
            yield Step()

    def _flow(
        self, state: FilmState, latents: Tensor, sigma: float, attention: SelfAttention
    ) -> Tensor:
        def forward(latents: Tensor, modulation: Modulation) -> Tensor:
            return self.transformer.flow(latents, modulation, state.text, attention)

        name = "flow" if attention is state.cache else "dense flow"
        flow = self._forward(state, name, forward, latents, sigma)
        assert flow is not None
        return flow.float()

    def _with(self, prompts: tuple[str, ...], new: str) -> tuple[str, ...]:
        """A film's prompts, and one more."""
        return add_prompt(prompts, new, self.config.prompts, self.text_encoder.rewriter)

    def _read(self, prompts: Sequence[str], draws: int | None) -> Tensor:
        """Embeddings, wherever and in whatever precision the text encoder is."""
        return self.text_encoder(prompts, draws).to(self.device, self.dtype)

    def _write_keys(self, state: FilmState, latents: Tensor) -> None:
        """Make clean latents the staged frames of the cache, under the prompt in force."""

        def forward(latents: Tensor, modulation: Modulation) -> None:
            self.transformer.remember(latents, modulation, state.text, state.cache)

        self._forward(state, "remember", forward, latents, 0.0)

    def _forward(
        self, state: FilmState, name: str, forward: Forward, latents: Tensor, sigma: float
    ) -> Tensor | None:
        inputs = (latents.to(self.dtype), self._modulation(sigma, latents.shape[2]))
        return state.forwards(name, forward, *inputs, state.text, state.cache)

    def _modulation(self, sigma: float, frames: int) -> Modulation:
        """The same for every chunk, so it is kept."""
        if (sigma, frames) not in self._modulations:
            if len(self._modulations) == MODULATIONS:
                self._modulations.clear()
            timesteps = torch.full((1, frames), 1000 * sigma, device=self.device)
            made = self.transformer.modulation(timesteps, self.dtype)
            self._modulations[sigma, frames] = made
        return self._modulations[sigma, frames]

    def _noise(self, state: FilmState, chunk: int, step: int) -> Tensor:
        config, spatial = self.config, self.codec.spatial
        channels = self.transformer.config.in_channels
        shape = (1, channels, config.chunk, config.height // spatial, config.width // spatial)
        return to_device(sampler.noise(shape, state.seed, chunk, step), self.device)

    def _remember(self, state: FilmState, frames: range, latents: Tensor) -> None:
        state.history.update(zip(frames, latents.split(1, 2), strict=True))
        slots = state.cache.settings.slots
        for frame in list(state.history)[state.settings.sink : -slots]:
            del state.history[frame]

    def _new_cache(self, settings: Settings) -> KVCache:
        chunk, positions = self.config.chunk, self.config.positions
        window = (settings.sink, settings.window)
        sizes = CacheSettings(*window, chunk, positions, self.config.radial)
        return KVCache(
            *(self.transformer.config, sizes, self.sizes.token_grid, self.kernels),
            *(self.device, self.dtype),
            fp8=self.sizes.fp8_cache,
        )


def _newest_run(frames: list[int], most: int) -> list[int]:
    """The newest frames, at most so many, back to the first gap (a resize may have left one)."""
    run = [frame for back, frame in enumerate(reversed(frames)) if frame + back == frames[-1]]
    return run[:most][::-1]
