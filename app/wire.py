"""The studio's WebSocket: every message in both directions.

Text messages are JSON objects, told apart by ``type``; frames are binary, in both directions. A
message that exists has been checked: each field is of its type and in its range, and there is no
other field. Times are seconds of presentation time where nothing else is said.
``docs/protocol.md`` says what each field means; a test holds it to these classes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from longtake.app.wire_faults import ALIASES, ERRORS, ErrorCode, Reason
from longtake.streaming import StreamError

PROTOCOL = 3
# Seconds from connecting within which the client says hello.
HELLO_SECONDS = 10
# Bytes of text; the longest prompt fits even where each character is an escaped surrogate pair.
MAX_MESSAGE = 32_768
# Bytes of a coded picture.
MAX_PAYLOAD = 8_388_608
# Bytes of one that a client shows to the captioner, and its pixels.
MAX_SHOWN = 262_144
MAX_SHOWN_PIXELS = 4_194_304
MAX_PROMPT = 2_000
MAX_SENTENCE = 500
MAX_SECONDS = 10_000_000
MAX_ID = 2**31 - 1
MAX_UINT32 = 2**32 - 1
# The largest integer up to which a browser's numbers are exact.
MAX_INTEGER = 2**53 - 1

# Bounds, not a Literal, which would take true and 1.0 for 1.
Version = Annotated[int, Field(ge=PROTOCOL, le=PROTOCOL)]
RequestId = Annotated[int, Field(ge=1, le=MAX_ID)]
TakeNumber = Annotated[int, Field(ge=1, le=MAX_UINT32)]
ChunkIndex = Annotated[int, Field(ge=0, le=MAX_UINT32)]
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Pixels = Annotated[int, Field(ge=1, le=16_384)]
Chunks = Annotated[int, Field(ge=0, le=64)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Sentence = Annotated[str, Field(max_length=MAX_SENTENCE)]
PromptText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_PROMPT)
]
Instruction = Annotated[str, Field(max_length=MAX_PROMPT)]
WatchNumber = TakeNumber


class Message(BaseModel):
    """What all messages share: strict types, finite numbers, no unknown field, no change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Request(Message):
    """From the client; answered by one ``ack`` or ``error`` with the same ``id``."""

    id: RequestId


class FrameId(Message):
    """Names a frame by its take and its index in it."""

    take: TakeNumber
    index: Count


class Resumption(Message):
    """The session that a client goes on with, and the first frame that it did not get of it."""

    session: Name
    resume_token: Name
    next: FrameId | None = None


class Settings(Message):
    """Settings of the model, as in :meth:`.Take.set`; those left out stay as they are."""

    steps: Annotated[int, Field(ge=1, le=50)] | None = None
    window: Annotated[int, Field(ge=1, le=1024)] | None = None
    sink: Annotated[int, Field(ge=0, le=1024)] | None = None
    switch: Literal["recache", "keep", "flush"] | None = None


class Hello(Request):
    """The first message of a connection."""

    type: Literal["hello"] = "hello"
    version: Version
    token: Name | None = None
    resume: Resumption | None = None


class Open(Request):
    """Begin a take; the one before it ends."""

    type: Literal["open"] = "open"
    prompt: PromptText
    seed: Count = 0
    settings: Settings = Settings()
    start: Name | None = None


class Prompt(Request):
    """Change the prompt at a time, at once or over some chunks."""

    type: Literal["prompt"] = "prompt"
    text: PromptText
    at: Seconds = 0.0
    transition: Chunks = 0


class Set(Request):
    """Change settings at a time."""

    type: Literal["set"] = "set"
    settings: Settings
    at: Seconds = 0.0


class Pause(Request):
    """Stop at the next chunk boundary."""

    type: Literal["pause"] = "pause"


class Resume(Request):
    """Go on after a pause."""

    type: Literal["resume"] = "resume"


class Restart(Request):
    """Begin another take with the prompt and settings in force, and perhaps another seed."""

    type: Literal["restart"] = "restart"
    seed: Count | None = None


class Save(Request):
    """Keep the take, or its last seconds, as an MP4."""

    type: Literal["save"] = "save"
    seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None = None


class Still(Request):
    """Keep one frame, by default the newest sent, as a picture."""

    type: Literal["still"] = "still"
    frame: FrameId | None = None


class Playback(Request):
    """Report the last frame shown and the milliseconds of film that wait in the client."""

    type: Literal["playback"] = "playback"
    frame: FrameId
    buffer_ms: Annotated[int, Field(ge=0, le=3_600_000)]


class Watch(Request):
    """Begin to watch what the client shows, or the take; the watch before it ends."""

    type: Literal["watch"] = "watch"
    prompt: Instruction = ""
    seed: Count = 0
    film: bool = False


class Ask(Request):
    """Ask about what is being watched."""

    type: Literal["ask"] = "ask"
    text: PromptText


class Unwatch(Request):
    """Nothing more is shown: what was shown is spoken of, and the watch ends."""

    type: Literal["unwatch"] = "unwatch"


class Bye(Request):
    """End the session."""

    type: Literal["bye"] = "bye"


class Limits(Message):
    """What a server allows."""

    transition: Chunks
    ahead: Annotated[int, Field(ge=1, le=4096)]
    requests: Annotated[int, Field(ge=1, le=1000)]
    kept: Seconds
    stall: Seconds
    grace: Seconds
    idle: Seconds
    idle_grace: Seconds
    visit: Seconds | None = None
    start: Count = 0


class Ready(Message):
    """The client has its place: what it may send, and what it will get."""

    type: Literal["ready"] = "ready"
    version: Version
    session: Name
    resume_token: Name
    received: Annotated[int, Field(ge=0, le=MAX_ID)]
    model: Name
    width: Pixels
    height: Pixels
    rate: Annotated[float, Field(gt=0, le=1000)]
    chunk: Annotated[int, Field(ge=1, le=4096)]
    limits: Limits


class Queued(Message):
    """The client's place in the queue, 1 the next; sent again whenever it changes."""

    type: Literal["queued"] = "queued"
    position: Annotated[int, Field(ge=1, le=100_000)]


class SavedFile(Message):
    """What was saved, and where on the same server it can be fetched."""

    url: Annotated[str, Field(max_length=MAX_SENTENCE, pattern=r"^(/[A-Za-z0-9._~-]+)+$")]
    size: Count
    seconds: Seconds


class Ack(Message):
    """A request was carried out, or will be at the chunk and time it names."""

    type: Literal["ack"] = "ack"
    id: RequestId
    take: TakeNumber | None = None
    recording: Name | None = None
    chunk: ChunkIndex | None = None
    time: Seconds | None = None
    file: SavedFile | None = None
    watch: WatchNumber | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    round: Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None = None
    pixels: Annotated[int, Field(ge=1, le=MAX_SHOWN_PIXELS)] | None = None
    note: Sentence | None = None


class Applied(Message):
    """The receipt of a prompt or settings that came into force."""

    type: Literal["applied"] = "applied"
    id: RequestId
    take: TakeNumber
    chunk: ChunkIndex
    time: Seconds
    prompt: PromptText | None = None
    read: Instruction | None = None
    settings: Settings | None = None


class Metrics(Message):
    """Measurements of the take, about once a second; see :class:`longtake.streaming.Summary`."""

    type: Literal["metrics"] = "metrics"
    chunks: Count
    frames: Count
    fps: Annotated[float, Field(ge=0, le=1_000_000)]
    speed: Annotated[float, Field(ge=0, le=1)]
    first_frame: Seconds
    chunk_p50: Seconds
    chunk_p95: Seconds
    reaction: Seconds
    reaction_max: Seconds
    unsent: Count
    waiting: Count
    cache: Count
    memory: Count


class Words(Message):
    """A piece of what the captioner says; see :class:`longtake.models.vlm.words.Words`."""

    type: Literal["words"] = "words"
    watch: WatchNumber
    kind: Literal["caption", "answer"]
    start: Seconds
    end: Seconds
    text: Sentence
    final: bool
    question: Instruction = ""


class Watching(Message):
    """What happened to a watch besides words."""

    type: Literal["watching"] = "watching"
    watch: WatchNumber
    what: Literal["dropped", "gap", "resized", "refused", "stalled", "ended", "failed"]
    message: Sentence
    hint: Sentence = ""
    frames: Count = 0


class Notice(Message):
    """Something that the person should know of; nothing ends with it."""

    type: Literal["notice"] = "notice"
    message: Sentence
    hint: Sentence
    paused: bool = False

    @classmethod
    def of(cls, error: StreamError, *, paused: bool = False) -> Notice:
        """The message that tells of an error, and whether the film was paused for it."""
        message, hint = _sentences(error)
        return cls(message=message, hint=hint, paused=paused)


class Error(Message):
    """A request failed; without ``id``, the take or the connection did."""

    type: Literal["error"] = "error"
    id: RequestId | None = None
    code: ErrorCode
    message: Sentence
    retryable: bool
    hint: Sentence

    @classmethod
    def of(cls, error: StreamError, request_id: int | None = None) -> Error:
        """The message that tells of an error; a code that is nowhere told of is ``internal``."""
        named = ALIASES.get(error.code, error.code)
        code: ErrorCode = next((known for known in ERRORS if known == named), "internal")
        message, hint = _sentences(error)
        retryable = ERRORS[code].retryable
        return cls(id=request_id, code=code, message=message, retryable=retryable, hint=hint)


class Goodbye(Message):
    """The server closes the connection."""

    type: Literal["bye"] = "bye"
    reason: Reason


class Codec(IntEnum):
    """How a frame's payload is coded."""

    JPEG = 1
    WEBP = 2


class EncodedFrame(Message):
    """A binary message: one picture.

    Attributes:
        codec: of the payload.
        take: the number of its take, from ``ack``.
        chunk: the index of its chunk in the take.
        index: its own in the take.
        pts: presentation time in microseconds.
        payload: the coded picture.
    """

    codec: Codec
    take: TakeNumber
    chunk: ChunkIndex
    index: Count
    pts: Count
    payload: Annotated[bytes, Field(min_length=1, max_length=MAX_PAYLOAD)]


class ShownFrame(Message):
    """A binary message from the client: one picture for the captioner.

    Attributes:
        watch: the number of its watch, from ``ack``.
        pts: presentation time in microseconds.
        payload: a JPEG.
    """

    watch: WatchNumber
    pts: Count
    payload: Annotated[bytes, Field(min_length=1, max_length=MAX_SHOWN)]


def _sentences(error: StreamError) -> tuple[str, str]:
    """An error's message and hint, fit to be sent."""
    message, hint = (
        text.encode(errors="replace").decode()[:MAX_SENTENCE]
        for text in (error.message, error.hint)
    )
    return message, hint


ClientMessage = (
    Hello
    | Open
    | Prompt
    | Set
    | Pause
    | Resume
    | Restart
    | Save
    | Still
    | Playback
    | Watch
    | Ask
    | Unwatch
    | Bye
)
ServerMessage = (
    Ready | Queued | Ack | Applied | Metrics | Words | Watching | Notice | Error | Goodbye
)
