"""The Python API: open a model, begin a take, steer it, keep it."""

from __future__ import annotations

import platform
import tempfile
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from longtake.app.closing import Closing
from longtake.app.devices import choose_device, choose_dtype
from longtake.app.export import save_film
from longtake.app.frames import Frame
from longtake.app.probe import probe
from longtake.app.recording import Recording
from longtake.app.snapshots import read_snapshot, write_snapshot
from longtake.app.stored import read_take
from longtake.models.folder import folder_digest
from longtake.models.video.film import FilmState
from longtake.models.video.generator import VideoGenerator
from longtake.models.video.load import load_generator
from longtake.models.video.lora import LoRA, read_lora
from longtake.models.video.spelling import Spelling
from longtake.models.vlm.folder import is_captioner
from longtake.streaming import (
    Applied,
    Clock,
    Engine,
    Event,
    Progress,
    Session,
    Status,
    StreamError,
    Summary,
)
from longtake.weights import GENERATOR

_PENDING = "pending_frames"


def open_model(
    folder: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: str | Path | None = None,
    lora_scale: float = 1.0,
    quantize: Literal["int8"] | None = None,
) -> Model:
    """Load a model.

    Args:
        folder: in the diffusers layout; the bundled model where it is left out.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``auto``, ``bf16`` or ``fp32``.
        lora: a LoRA's file or folder, merged into the transformer; see docs/weights.md.
        lora_scale: how much of it, 1 for all.
        quantize: ``int8`` multiplies in 8 bits, in half the memory; films differ a little.

    Raises:
        StreamError: the folder or the LoRA does not fit, there is no such device, or it has no
            fast int8.
    """
    if quantize not in {None, "int8"}:
        problem = f"quantize is {quantize!r}"
        raise StreamError("bad_setting", problem, "use 'int8', or leave it out")
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
        number, int8 = choose_dtype(dtype, where), quantize == "int8"
        load = partial(load_generator, path, where, number, lora=adapter, int8=int8)
        return Model(engine.call(load), path, engine, adapter)
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
    """

    def __init__(
        self, generator: VideoGenerator, folder: Path, engine: Engine, lora: LoRA | None = None
    ) -> None:
        self.generator = generator
        self.folder = folder
        self._lora = lora
        self._spelling = Spelling.of(generator.text_encoder.tokenizer)
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
        quantized = {"quantize": "int8"} if generator.transformer.int8 else {}
        return quantized | {
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
        """What of a film's making is the model's: its name, its LoRA's and the conditions."""
        lora = {"lora": str(self._lora)} if self._lora else {}
        return {"model": self.folder.name, **lora, "conditions": self.conditions}

    def begin(
        self, prompt: str, seed: int, first: Iterable[Event] = (), clock: Clock | None = None
    ) -> Session[FilmState]:
        """A film as a session of the engine; it runs once its horizon is extended.

        Args:
            prompt: in force from the first frame.
            seed: of its noise.
            first: settings in force from the first chunk.
            clock: as in :meth:`.Engine.open`.

        Raises:
            StreamError: the prompt or a setting does not fit.
        """
        events = list(first)
        for event in events:
            self.generator.check(event)
        session = self.engine.open(self.generator, prompt, seed, clock=clock, horizon=0.0)
        session.submit(*events)
        return session

    def take(self, prompt: str, *, seed: int = 0, **settings: int | str) -> Take:
        """Begin a film.

        Args:
            prompt: in force from the first frame.
            seed: of its noise; the same seed, prompts and settings make the same film.
            settings: ``steps``, ``window``, ``sink``, ``switch``.

        Raises:
            StreamError: the prompt or a setting does not fit.
        """
        first = [Event(field, value) for field, value in settings.items()]
        session = self.begin(prompt, seed, first)
        return Take(self, session, {"seed": seed, "prompt": prompt, **settings})

    def restore(self, path: str | Path) -> Take:
        """Go on with a film saved by :meth:`Take.snapshot`, as if it had never been interrupted.

        What would make its next frames differ (another torch, say) is warned of, by name.

        Raises:
            StreamError: ``bad_snapshot``: the file is no snapshot, or of another model.
        """
        tensors, note = read_snapshot(Path(path))
        then, now = note["conditions"], self.conditions
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                message = f"{path} was made with {key} {then.get(key)}, here it is {now.get(key)}"
                warnings.warn(f"{message}: its next frames may differ", stacklevel=2)
        pending = tensors.pop(_PENDING)
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


class Take:
    """One film being made; made by :meth:`Model.take` and :meth:`Model.restore`."""

    def __init__(
        self,
        model: Model,
        session: Session[FilmState],
        about: dict[str, Any],
        pending: list[NDArray[np.uint8]] | None = None,
        delivered: int = 0,
    ) -> None:
        self.model = model
        self._session = session
        self._about = about
        self._pending = deque(pending or [])
        self._delivered = delivered
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._recording: Recording | None = None
        self._prompt: str = about["prompt"]
        self._seen = 0

    @property
    def time(self) -> float:
        """Seconds of film handed out so far."""
        return self._delivered / self.model.rate

    @property
    def log(self) -> list[Applied]:
        """Every prompt and setting that came into force, with its chunk and time."""
        return list(self._session.progress.log)

    @property
    def about(self) -> dict[str, Any]:
        """What made the film: seed, prompts, settings, model and conditions."""
        applied = [entry.note() for entry in self.log]
        return self._about | {"applied": applied} | self.model.about

    def prompt(self, text: str, *, at: float = 0.0, transition: int = 0) -> None:
        """Change the prompt, from the next chunk on or from the first one at or after ``at``.

        Args:
            text: the new prompt.
            at: presentation time in seconds.
            transition: chunks over which it takes over from the one before, 0 to 64; at 0 it does
                at once.

        Raises:
            StreamError: ``bad_prompt``, ``bad_setting``.
        """
        self._session.submit(Event("prompt", text, at, transition=transition))

    def set(self, field: str, value: int | str, *, at: float = 0.0) -> None:
        """Change a setting: ``steps``, ``window``, ``sink`` or ``switch``; times as in ``prompt``.

        Raises:
            StreamError: ``bad_setting``.
        """
        self._session.submit(Event(field, value, at))

    def frames(self, seconds: float) -> Iterator[Frame]:
        """Make the next seconds of film, frame by frame, exactly round(seconds * rate) of them.

        Raises:
            StreamError: the model failed; the frames before were handed out.
        """
        count = round(seconds * self.model.rate)
        self._session.extend((self._delivered + count) / self.model.rate)
        for _ in range(count):
            while not self._pending:
                media = self._session.next()
                if media is None:
                    raise StreamError("closed", "the take is closed", "begin another one")
                self._pending.extend(media.payload.numpy())
            yield self._hand_out(self._pending.popleft())

    def run(self, seconds: float) -> None:
        """Make the next seconds of film and keep them for :meth:`save`.

        Raises:
            StreamError: the model failed or the disk is full; what was made before can be saved.
        """
        recording = self._begin_recording()
        for frame in self.frames(seconds):
            recording.write(frame.pixels, frame.index, self._session.progress.log)

    def save(self, path: str | Path) -> None:
        """Write what :meth:`run` made so far as an MP4, a chapter for each prompt; then go on.

        A file of that name is kept, as ``name.1.mp4``.

        Raises:
            StreamError: nothing was run yet, or the file cannot be written.
        """
        recording = self._begin_recording()
        recording.cut()
        save_film(read_take(recording.folder), Path(path))

    def snapshot(self, path: str | Path) -> None:
        """Save everything needed to go on later: see :meth:`Model.restore`.

        Raises:
            StreamError: ``bad_output``: the file cannot be written.
        """
        session = self._session
        running = session.status is Status.RUNNING
        session.pause()
        tensors, values, progress = session.snapshot()
        while (media := session.next()) is not None:
            self._pending.extend(media.payload.numpy())
        if running:
            session.resume()
        config = self.model.generator.config
        frames = np.array(self._pending, np.uint8).reshape(-1, config.height, config.width, 3)
        note = {
            "about": self._about,
            "conditions": self.model.conditions,
            "delivered": self._delivered,
            "progress": progress.to_json(),
            "state": values,
        }
        write_snapshot(Path(path), dict(tensors) | {_PENDING: torch.from_numpy(frames)}, note)

    def summary(self) -> Summary:
        """Measurements: rate, latencies, queues."""
        return self._session.summary()

    def close(self) -> None:
        """End the take and free its memory; what was saved stays, what was not is deleted."""
        self._session.close()
        if self._recording is not None and self._folder is not None:
            with suppress(StreamError):  # a full disk: it is deleted anyway
                self._recording.close()
            self._folder.cleanup()
            self._recording = self._folder = None

    def _begin_recording(self) -> Recording:
        if self._recording is None:
            config, model = self.model.generator.config, self.model
            self._folder = tempfile.TemporaryDirectory(prefix="longtake-")
            folder = Path(self._folder.name)
            self._recording = Recording(
                folder, config.width, config.height, config.rate, self.about, model.folder
            )
        return self._recording

    def _hand_out(self, pixels: NDArray[np.uint8]) -> Frame:
        index, time = self._delivered, self._delivered / self.model.rate
        log = self._session.progress.log
        while self._seen < len(log) and log[self._seen].time <= time:
            event = log[self._seen].event
            if event.field == "prompt":
                self._prompt = event.value
            self._seen += 1
        self._delivered += 1
        return Frame(pixels, index, time, self._prompt)


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
