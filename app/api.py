"""The Python API: open a model, begin a take; :mod:`longtake.app.take` is what is begun."""

from __future__ import annotations

import platform
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from longtake.app.closing import Closing
from longtake.app.devices import choose_device, choose_dtype
from longtake.app.places import user_cache
from longtake.app.probe import probe
from longtake.app.sizes import changes_of
from longtake.app.snapshots import read_snapshot
from longtake.app.take import PENDING, Take
from longtake.models.folder import folder_digest
from longtake.models.video.film_state import FilmState
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import load_generator
from longtake.models.video.lora import LoRA, read_lora
from longtake.models.video.rewriter import PromptRewriter
from longtake.models.video.spelling import Spelling
from longtake.models.video.text_setting import Offload, Precision, TextSetting
from longtake.models.vlm.folder import is_captioner
from longtake.streaming import (
    Clock,
    Engine,
    Event,
    Progress,
    Session,
    StreamError,
)
from longtake.weights import GENERATOR

if TYPE_CHECKING:
    from longtake.app.start import Start


def open_model(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
    quantize: Literal["int8"] | None = None,
    kv_cache: Literal["fp8"] | None = None,
    size: tuple[int, int] | None = None,
    chunk: int | None = None,
    window: int | None = None,
    sink: int | None = None,
    text_encoder: Precision | None = None,
    offload: Offload | None = None,
) -> Model:
    """Load a model.

    Args:
        folder: in the diffusers layout; the bundled model where it is left out.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``auto``, ``bf16`` or ``fp32``.
        lora: a LoRA's file or folder, merged into the transformer; see docs/weights.md.
        lora_scale: how much of it, 1 for all.
        quantize: ``int8`` multiplies in 8 bits what is faster so, often in half the memory; films
            differ a little.
        kv_cache: ``fp8`` keeps keys and values in 8-bit floating point: half the memory of what a
            film looks back on, and faster attention, on NVIDIA GPUs from Hopper on; films differ a
            little.
        size: width and height of the pictures in pixels, whole tokens; the model's, as the three
            that follow, where it is left out.
        chunk: latent frames made at a time.
        window: newest latent frames remembered, the chunk included; a take may change it.
        sink: latent frames from the start that are never forgotten; a take may change it.
        text_encoder: its precision, see :class:`.TextSetting`; the model's where it is left out.
        offload: where it is, see :class:`.TextSetting`; on the device where it is left out.

    Raises:
        StreamError: the folder, the LoRA or a size does not fit, there is no such device, or it
            has no fast int8 or fp8.
    """
    if quantize not in {None, "int8"}:
        problem = f"quantize is {quantize!r}"
        raise StreamError("bad_setting", problem, "use 'int8', or leave it out")
    if kv_cache not in {None, "fp8"}:
        problem = f"kv_cache is {kv_cache!r}"
        raise StreamError("bad_setting", problem, "use 'fp8', or leave it out")
    where = choose_device(device)
    if lora is None and lora_scale != 1:
        problem = f"there is no LoRA for a scale of {lora_scale:g}"
        raise StreamError("bad_lora", problem, "give the LoRA too")
    adapter = read_lora(Path(lora), lora_scale) if lora is not None else None
    path = Path(folder) if folder is not None else GENERATOR
    if is_captioner(path):
        problem = f"{path} holds a captioner, which watches films and makes none"
        raise StreamError("bad_model", problem, "open it with longtake.witness, or use caption")
    engine = Engine()
    engine.start()
    try:
        text = TextSetting(text_encoder, offload)
        changes = changes_of(size, chunk, window, sink)
        load = partial(
            load_generator,
            path,
            where,
            choose_dtype(dtype, where),
            lora=adapter,
            int8=quantize == "int8",
            fp8_cache=kv_cache == "fp8",
            changes=changes,
            text=text,
            prompts=user_cache() / "prompts",
        )
        return Model(engine.call(load), path, engine, adapter, text, changes)
    except BaseException:
        engine.stop()
        raise


class Model(Closing):
    """A loaded model and its worker; any number of takes share it.

    Args:
        generator: loaded.
        folder: it came from.
        engine: started; the generator was loaded in its worker. Others may share it.
        lora: that was merged into the generator.
        text: how the generator's text encoder is kept.
        changes: of the folder's ``streaming.json`` that the generator was loaded with.
    """

    def __init__(
        self,
        generator: VideoGenerator,
        folder: Path,
        engine: Engine,
        lora: LoRA | None = None,
        text: TextSetting | None = None,
        changes: Mapping[str, int] | None = None,
    ) -> None:
        self.generator = generator
        self.folder = folder
        self._lora = lora
        self._text = text or TextSetting()
        self._changes = dict(changes or {})
        rewriter = generator.text_encoder.rewriter
        understood = rewriter.lexicon.vocabulary if isinstance(rewriter, PromptRewriter) else ()
        self._spelling = Spelling.of(generator.text_encoder.tokenizer, understood)
        self.engine = engine
        # A worker still inside torch when the interpreter ends would abort the process.
        self._stop = weakref.finalize(self, self.engine.stop)

    @property
    def rate(self) -> int:
        """Frames a second."""
        return self.generator.config.rate

    @cached_property
    def conditions(self) -> dict[str, str]:
        """What determines a film's bytes besides its seed, settings and prompts."""
        generator = self.generator
        bound = ", ".join(f"{op}={name}" for op, name in generator.kernels.names.items())
        asked = {
            "quantize": "int8" if generator.int8 else None,
            "kv_cache": "fp8" if generator.sizes.fp8_cache else None,
            "text_encoder": self._text.precision,
            "offload": self._text.offload,
        }
        return {name: value for name, value in asked.items() if value is not None} | {
            "weights": folder_digest(self.folder),
            **({"lora": self._lora.digest()} if self._lora else {}),
            "device": str(generator.device),
            "processor": _processor(generator.device),
            "dtype": str(generator.dtype).removeprefix("torch."),
            "kernels": bound,
            "threads": str(torch.get_num_threads()),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "longtake": version("longtake"),
        }

    def unknown_words(self, prompt: str) -> dict[str, str | None]:
        """The words of a prompt that the model never met, each with the nearest one it knows.

        It passes over them. A model whose tokenizer takes words apart has none.
        """
        return self._spelling.unknown(prompt)

    def remark(self, prompt: str) -> str | None:
        """One sentence on the words of a prompt that the model never met; None without such."""
        return self._spelling.remark(prompt)

    def affordable_steps(self) -> int:
        """The most denoising steps with which this machine keeps up with playback; takes seconds.

        It depends on what else the machine does, so films made with it need not repeat.
        """
        return self.engine.call(lambda: probe(self.generator)).affordable

    @property
    def about(self) -> dict[str, Any]:
        """What of a film's making is the model's: name, LoRA, changed sizes and conditions."""
        more: dict[str, Any] = {"lora": str(self._lora)} if self._lora else {}
        if self._changes:
            more["changes"] = self._changes
        return {"model": self.folder.name, **more, "conditions": self.conditions}

    @property
    def shape(self) -> dict[str, int]:
        """What a film cannot change on its way."""
        config = self.generator.config
        return {"width": config.width, "height": config.height, "chunk": config.chunk}

    def begin(
        self,
        prompt: str,
        seed: int,
        first: Iterable[Event] = (),
        clock: Clock | None = None,
        start: Start | None = None,
    ) -> Session[FilmState]:
        """A film as a session of the engine; it runs once its horizon is extended.

        Args:
            prompt: in force from the first frame.
            seed: of its noise.
            first: settings in force from the first chunk.
            clock: as in :meth:`.Engine.open`.
            start: its first frames, see :meth:`read_start`; made from the prompt where left out.

        Raises:
            StreamError: the prompt or a setting does not fit, or the model takes no start.
        """
        events = list(first)
        for event in events:
            self.generator.check(event)
        session = self.engine.open(self.generator, prompt, seed, clock=clock, horizon=0.0)
        try:
            session.submit(*events)
            if start is not None:
                frames, state = torch.from_numpy(start.frames), session.state
                assert state is not None
                self.engine.call(lambda: self.generator.begin_with(state, frames))
        except BaseException:
            session.close()
            raise
        return session

    def read_start(self, path: str | Path) -> Start:
        """A picture or a clip, at most 5 s, as the first frames of a film.

        It is scaled and cropped to the film's size. A picture is held for a chunk; a clip gives
        whole chunks at the film's rate.

        Raises:
            StreamError: ``bad_start``: it cannot be read.
        """
        from longtake.app.start import read_start  # noqa: PLC0415 (it needs PyAV)

        return read_start(Path(path), *self._start_shape)

    def read_sent(self, path: Path) -> Start:
        """As :meth:`read_start`, of a file that somebody sent; see :func:`.start.read_sent`."""
        from longtake.app.start import read_sent  # noqa: PLC0415 (it needs PyAV)

        return read_sent(path, *self._start_shape)

    @property
    def _start_shape(self) -> tuple[int, int, int, Callable[[int], int]]:
        config = self.generator.config
        return config.width, config.height, config.rate, self.generator.start_frames

    def take(
        self, prompt: str, *, seed: int = 0, start: str | Path | None = None, **settings: int | str
    ) -> Take:
        """Begin a film.

        Args:
            prompt: in force from the first frame.
            seed: of its noise; the same seed, prompts, settings and start make the same film.
            start: a file with its first frames, see :meth:`read_start`.
            settings: ``steps``, ``window``, ``sink``, ``switch``.

        Raises:
            StreamError: the prompt or a setting does not fit; ``bad_start``: the file cannot be
                read, or the model has no encoder.
        """
        first = [Event(field, value) for field, value in settings.items()]
        begun = self.read_start(start) if start is not None else None
        session = self.begin(prompt, seed, first, start=begun)
        receipt = {"start": begun.receipt} if begun else {}
        return Take(self, session, {"seed": seed, "prompt": prompt, **settings, **receipt})

    def restore(self, path: str | Path) -> Take:
        """Go on with a film saved by :meth:`Take.snapshot`, as if it had never been interrupted.

        What would make its next frames differ (another torch, say) is warned of, by name.

        Raises:
            StreamError: ``bad_snapshot``: the file is no snapshot, or of another model.
        """
        tensors, note = read_snapshot(Path(path))
        if (shape := note.get("shape", self.shape)) != self.shape:
            problem = f"{path} is a film of {_in_words(shape)}, this model makes "
            hint = "open the model with that size and chunk"
            raise StreamError("bad_snapshot", problem + _in_words(self.shape), hint)
        then, now = note["conditions"], self.conditions
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                message = f"{path} was made with {key} {then.get(key)}, here it is {now.get(key)}"
                warnings.warn(f"{message}: its next frames may differ", stacklevel=2)
        pending = tensors.pop(PENDING)
        try:
            session = self.engine.restore(
                self.generator, tensors, note["state"], Progress.from_json(note["progress"])
            )
        except (KeyError, RuntimeError, TypeError) as error:
            problem = f"{path} does not fit the model {self.folder} ({error})"
            raise StreamError("bad_snapshot", problem, "open the model it was made with") from None
        return Take(self, session, note["about"], list(pending.numpy()), note["delivered"])

    def close(self) -> None:
        """End every take and the worker."""
        self._stop()


def _in_words(shape: Mapping[str, int]) -> str:
    return f"{shape['width']}x{shape['height']}, {shape['chunk']} latent frames a chunk"


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
