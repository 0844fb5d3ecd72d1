"""The studio's WebSocket: messages as text and frames as bytes, and back, strictly."""

from __future__ import annotations

import json
from reprlib import repr as brief
from struct import Struct
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from longtake.app.wire import (
    MAX_ID,
    MAX_MESSAGE,
    MAX_SHOWN,
    PROTOCOL,
    ClientMessage,
    Codec,
    EncodedFrame,
    ServerMessage,
    ShownFrame,
)
from longtake.app.wire_faults import ErrorCode, RequestError
from longtake.streaming import StreamError

FRAME_TAG = 0x46
# Tag, version, codec, flags, take, chunk, length, index, pts: every number is aligned to its size.
FRAME_HEADER = Struct("<4B3I2Q")
SHOWN_TAG = 0x57
# Tag, version, codec, flags, watch, pts.
SHOWN_HEADER = Struct("<4BIQ")

_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(
    Annotated[ClientMessage, Field(discriminator="type")]
)
_SERVER: TypeAdapter[ServerMessage] = TypeAdapter(
    Annotated[ServerMessage, Field(discriminator="type")]
)
Kind = TypeVar("Kind")

# The first field in a message -> the code by which the engine, too, refuses its value.
_CODES: dict[str, ErrorCode] = {
    "prompt": "bad_prompt",
    "text": "bad_prompt",
    "settings": "bad_setting",
    "at": "bad_time",
}
# Pydantic's kind of error -> what to do.
_HINTS = {
    "union_tag_not_found": "name its type",
    "union_tag_invalid": "use one of {expected_tags}",
    "missing": "add it",
    "extra_forbidden": "leave it out",
    "model_type": "use an object",
    "string_type": "use text",
    "string_unicode": "use valid Unicode",
    "string_too_short": "use at least one character",
    "string_too_long": "keep it to {max_length:,} characters",
    "string_pattern_mismatch": "use text that matches {pattern}",
    "bool_type": "use true or false",
    "int_type": "use a whole number",
    "float_type": "use a number",
    "finite_number": "use a finite number",
    "greater_than": "use more than {gt:,.16g}",
    "greater_than_equal": "use {ge:,.16g} or more",
    "less_than_equal": "use at most {le:,.16g}",
    "literal_error": "use {expected}",
}
_JSON_HINT = "send one JSON object in UTF-8"


def decode_client(text: str | bytes) -> ClientMessage:
    """A client's text as a message.

    Raises:
        RequestError: ``bad_version``, ``too_large``, ``bad_json``, ``bad_message``,
            ``bad_prompt``, ``bad_setting`` or ``bad_time``.
    """
    data = _parse(text)
    # Before the rest: what another version's hello has besides is not ours to judge.
    version = data.get("version")
    if data.get("type") == "hello" and type(version) is int and version != PROTOCOL:
        problem = f"version {version} is not spoken here"
        raise RequestError("bad_version", problem, f"use version {PROTOCOL}", _id_of(data))
    return _validate(_CLIENT, data)


def decode_server(text: str | bytes) -> ServerMessage:
    """A server's text as a message.

    Raises:
        RequestError: as in :func:`decode_client`.
    """
    return _validate(_SERVER, _parse(text))


def encode(message: ClientMessage | ServerMessage) -> str:
    """A message as text; what is null is left out."""
    return message.model_dump_json(exclude_none=True)


def pack_frame(frame: EncodedFrame) -> bytes:
    """A frame as a binary message."""
    tags = (FRAME_TAG, PROTOCOL, frame.codec, 0)
    numbers = (frame.take, frame.chunk, len(frame.payload), frame.index, frame.pts)
    return FRAME_HEADER.pack(*tags, *numbers) + frame.payload


def unpack_frame(data: bytes) -> EncodedFrame:
    """The frame in a binary message.

    Raises:
        StreamError: ``bad_message``: it is no frame of this version.
    """
    if len(data) < FRAME_HEADER.size:
        raise _no_frame(f"has {len(data)} bytes, less than a header")
    tag, version, codec, flags, *numbers = FRAME_HEADER.unpack_from(data)
    take, chunk, length, index, pts = numbers
    payload = data[FRAME_HEADER.size :]
    if (tag, version, flags) != (FRAME_TAG, PROTOCOL, 0):
        raise _no_frame(f"has tag {tag}, version {version} and flags {flags}")
    if length != len(payload):
        raise _no_frame(f"says {length:,} bytes and has {len(payload):,}")
    try:
        return EncodedFrame(
            codec=Codec(codec), take=take, chunk=chunk, index=index, pts=pts, payload=payload
        )
    except ValueError:  # of the codec; a ValidationError is one too
        raise _no_frame("has a field out of range") from None


def pack_shown(frame: ShownFrame) -> bytes:
    """A frame for the captioner as a binary message."""
    tags = (SHOWN_TAG, PROTOCOL, Codec.JPEG, 0)
    return SHOWN_HEADER.pack(*tags, frame.watch, frame.pts) + frame.payload


def unpack_shown(data: bytes) -> ShownFrame:
    """The frame for the captioner in a binary message.

    Raises:
        RequestError: ``bad_message``: it is no such frame of this version; ``too_large``.
    """
    hint = "see the protocol"
    if len(data) <= SHOWN_HEADER.size:
        problem = f"a binary message has {len(data)} bytes, no more than a header"
        raise RequestError("bad_message", problem, hint)
    *tags, watch, pts = SHOWN_HEADER.unpack_from(data)
    if tags != [SHOWN_TAG, PROTOCOL, Codec.JPEG, 0]:
        raise RequestError("bad_message", "a binary message is no frame of this version", hint)
    payload = data[SHOWN_HEADER.size :]
    if len(payload) > MAX_SHOWN:
        problem = f"a picture has {len(payload):,} bytes"
        raise RequestError("too_large", problem, f"keep it to {MAX_SHOWN:,}")
    try:
        return ShownFrame(watch=watch, pts=pts, payload=payload)
    except ValidationError:
        problem = "a frame has a watch or a time out of range"
        raise RequestError("bad_message", problem, hint) from None


def _parse(text: str | bytes) -> dict[str, Any]:
    raw = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    if len(raw) > MAX_MESSAGE:
        problem = f"the message has {len(raw):,} bytes"
        raise RequestError("too_large", problem, f"keep it to {MAX_MESSAGE:,}")
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except ValueError:
        raise RequestError("bad_json", "the message is not JSON", _JSON_HINT) from None
    except RecursionError:
        raise RequestError("bad_json", "the message is nested too deeply", _JSON_HINT) from None
    if not isinstance(data, dict):
        raise RequestError("bad_json", f"the message is {_shown(data)}", _JSON_HINT)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two that are the same, readers choose differently."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise RequestError("bad_json", "an object has a key twice", "give every key once")
    return data


def _no_constant(name: str) -> None:
    raise RequestError("bad_json", f"{name} is no JSON", "use a finite number")


def _validate(union: TypeAdapter[Kind], data: dict[str, Any]) -> Kind:
    try:
        return union.validate_python(data)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    context = fault.get("ctx", {})
    # The message's type, the field in it, and further fields where that one is an object.
    path = [str(part) for part in fault["loc"]]
    where = ".".join(path)
    match fault["type"]:
        case "union_tag_not_found":
            problem = "the message has no type"
        case "union_tag_invalid":
            problem = f"there is no message of type {brief(context['tag'])}"
        case "missing":
            problem = f"{where} is missing"
        case "extra_forbidden":
            problem = f"there is no field {brief(where)}"
        case _:
            problem = f"{where} is {_shown(fault['input'])}"
    hint = _HINTS.get(fault["type"], "see the protocol").format(**context)
    code = _CODES.get(path[1], "bad_message") if path[1:] else "bad_message"
    raise RequestError(code, problem, hint, _id_of(data))


def _shown(value: Any) -> str:  # noqa: ANN401
    """Any JSON value in a few words."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value) if value is None or isinstance(value, bool) else brief(value)


def _id_of(data: dict[str, Any]) -> int | None:
    """The ``id`` to answer with, of a message that may be anything."""
    number = data.get("id")
    return number if type(number) is int and 1 <= number <= MAX_ID else None


def _no_frame(problem: str) -> StreamError:
    hint = "close the connection and resume"
    return StreamError("bad_message", f"a binary message is no frame: it {problem}", hint)
