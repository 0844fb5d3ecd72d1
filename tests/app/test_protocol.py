"""docs/protocol.md against the messages, both ways."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from longtake.app import wire
from longtake.app.wire_coding import (
    FRAME_HEADER,
    SHOWN_HEADER,
    decode_client,
    decode_server,
    pack_frame,
    pack_shown,
    unpack_frame,
    unpack_shown,
)
from longtake.app.wire_faults import ERRORS, REASONS, ErrorCode, Reason

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
CLIENT = {each.model_fields["type"].default: each for each in get_args(wire.ClientMessage)}
SERVER = {each.model_fields["type"].default: each for each in get_args(wire.ServerMessage)}
OBJECTS = {
    each.__name__: each
    for each in (wire.Settings, wire.FrameId, wire.Resumption, wire.Limits, wire.SavedFile)
}
# Which models the sub-sections of a section are; `type` and a request's `id` are told once for all.
SECTIONS = {
    "Client to server": (CLIENT, {"type", "id"}),
    "Server to client": (SERVER, {"type"}),
    "Objects in messages": (OBJECTS, set()),
}
UINTS = {"uint8": 1, "uint32": 4, "uint64": 8}


def split(text, mark):
    """Heading -> what stands below it, and before the first one."""
    head, *parts = re.split(rf"^{mark} (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True)), head


def rows(text):
    """The rows of the first table, without its head; no rows where there is none."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


PARTS, _ = split(PAGE, "##")


def described(schema, *, required):
    """Type, range and default of a field, from its JSON schema, as a table says them."""
    if "$ref" in schema:
        kind, span = schema["$ref"].rpartition("/")[2], ""
    elif "anyOf" in schema:
        kind, span, _ = described(schema["anyOf"][0], required=True)
        assert schema["anyOf"][1:] == [{"type": "null"}]
        assert schema["default"] is None
    else:
        kind, span = schema["type"], range_of(schema)
    if required:
        return kind, span, "required"
    default = schema["default"]
    if isinstance(default, dict):
        default = {key: value for key, value in default.items() if value is not None}
    return kind, span, "none" if default is None else json.dumps(default).removesuffix(".0")


def range_of(schema):
    if "enum" in schema:
        long = {tuple(ERRORS): "[error codes](#error-codes)", tuple(REASONS): "[reasons](#reasons)"}
        return long.get(tuple(schema["enum"])) or "`, `".join(schema["enum"])
    if "maxLength" in schema:
        text = f"{schema.get('minLength', 0):,} to {schema['maxLength']:,} characters"
        return text + (f", `{schema['pattern']}" if "pattern" in schema else "")
    if "maximum" in schema:
        if "exclusiveMinimum" in schema:
            return f"above {schema['exclusiveMinimum']:,}, to {schema['maximum']:,}"
        low, high = f"{schema['minimum']:,}", f"{schema['maximum']:,}"
        return low if low == high else f"{low} to {high}"
    assert schema["type"] == "boolean", "a field without bounds"
    return ""


@pytest.mark.parametrize("section", SECTIONS)
def test_every_message_and_object_has_its_place(section):
    models, _ = SECTIONS[section]
    parts, head = split(PARTS[section], "###")
    assert [name.strip("`") for name in parts] == list(models)
    if section != "Objects in messages":
        assert [row[0] for row in rows(head)] == list(models)


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section in SECTIONS for name in SECTIONS[section][0]]
)
def test_every_field_is_as_the_page_says(section, name):
    models, common = SECTIONS[section]
    parts = {key.strip("`"): text for key, text in split(PARTS[section], "###")[0].items()}
    table = {row[0]: tuple(row[1:4]) for row in rows(parts[name])}
    schema = models[name].model_json_schema()
    required = set(schema.get("required", ()))
    assert table == {
        field: described(each, required=field in required)
        for field, each in schema.get("properties", {}).items()
        if field not in common
    }
    assert all(row[4] for row in rows(parts[name])), "a field without a meaning"


def test_what_is_told_once_for_all_requests_is_so():
    for model in CLIENT.values():
        assert issubclass(model, wire.Request)
        assert model.model_json_schema()["properties"]["id"]["maximum"] == wire.MAX_ID
    assert f"from 1 to {wire.MAX_ID:,}" in PARTS["Client to server"]


def acknowledged(name):
    """The fields that the page gives the `ack` of a request."""
    row = next(row for row in rows(split(PARTS["Client to server"], "###")[1]) if row[0] == name)
    return set(re.findall(r"\w+", row[2]))


def test_every_field_of_an_ack_is_some_requests():
    fields = set().union(*map(acknowledged, CLIENT))
    assert fields == wire.Ack.model_fields.keys() - {"type", "id"}


def test_every_object_in_a_message_is_described():
    models = [*CLIENT.values(), *SERVER.values()]
    named = {name for model in models for name in model.model_json_schema().get("$defs", {})}
    assert named == set(OBJECTS)


def test_every_limit_is_as_the_page_says():
    constants = {key: value for key, value in vars(wire).items() if isinstance(value, int)}
    table = {name: int(value.replace(",", "")) for name, value, _ in rows(PARTS["Limits"])}
    assert table == constants


def test_every_error_code_is_as_the_page_says():
    table = {code: tuple(rest) for code, *rest in rows(PARTS["Error codes"])}
    assert table == {
        code: ("yes" if fault.retryable else "no", fault.meaning, fault.hint)
        for code, fault in ERRORS.items()
    }
    assert get_args(ErrorCode) == tuple(ERRORS)


def test_every_reason_to_close_is_as_the_page_says():
    table = re.findall(r"^\| `(\w+)` \| (.*) \|$", PARTS["Reasons"], re.MULTILINE)
    assert dict(table) == REASONS
    assert get_args(Reason) == tuple(REASONS)


def test_the_header_lies_as_the_page_says():
    frame = wire.EncodedFrame(
        codec=wire.Codec.WEBP, take=3, chunk=5, index=60, pts=3_750_000, payload=b"picture"
    )
    data = pack_frame(frame)
    expected = frame.model_dump(exclude={"payload"})
    expected |= {"tag": 70, "version": wire.PROTOCOL, "flags": 0, "length": len(frame.payload)}
    found, end = {}, 0
    for offset, name, kind, *_ in rows(PARTS["Frames"]):
        assert int(offset) == end
        end += UINTS[kind]
        found[name] = int.from_bytes(data[int(offset) : end], "little")
    assert found == expected
    assert end == FRAME_HEADER.size
    assert "a header of 32 bytes" in PARTS["Frames"]


def test_the_header_has_the_ranges_of_the_page():
    properties = wire.EncodedFrame.model_json_schema()["properties"]
    table = {row[1]: row[3] for row in rows(PARTS["Frames"])}
    for name in ("take", "chunk", "index", "pts"):
        assert table[name] == range_of(properties[name])
    assert table["length"] == range_of(properties["payload"]).removesuffix(" characters")
    assert table["codec"] == " or ".join(str(each.value) for each in wire.Codec)


def test_the_header_of_frames_to_be_watched_is_as_the_page_says():
    frame = wire.ShownFrame(watch=3, pts=3_750_000, payload=b"picture")
    data, found, end = pack_shown(frame), {}, 0
    table = rows(PARTS["Frames to be watched"])
    for offset, name, kind, *_ in table:
        assert int(offset) == end
        end += UINTS[kind]
        found[name] = int.from_bytes(data[int(offset) : end], "little")
    expected = {"tag": 87, "version": wire.PROTOCOL, "codec": 1, "flags": 0}
    assert found == expected | {"watch": 3, "pts": 3_750_000}
    assert end == SHOWN_HEADER.size
    assert "a header of 16 bytes" in PARTS["Frames to be watched"]
    assert unpack_shown(data) == frame
    properties = wire.ShownFrame.model_json_schema()["properties"]
    ranges = {row[1]: row[3] for row in table}
    assert ranges["watch"] == range_of(properties["watch"])
    assert ranges["pts"] == range_of(properties["pts"])


# --- the example ---

FRAMES = re.compile(r"< frames (\d+) to (\d+) of chunk (\d+), take (\d+)")


def conversation():
    """The example's messages: requests, answers, runs of frames as (first, last, chunk, take)."""
    block = re.search(r"```text\n(.*?)```", PARTS["Example"], re.DOTALL)[1]
    for line in block.splitlines():
        if line.startswith("> "):
            yield decode_client(line[2:])
        elif frames := FRAMES.fullmatch(line):
            yield tuple(map(int, frames.groups()))
        elif line.startswith("< "):
            yield decode_server(line[2:])


def test_the_example_has_every_message():
    types = {(type(each).__module__, type(each).__name__) for each in conversation()}
    models = [*CLIENT.values(), *SERVER.values()]
    assert types == {(each.__module__, each.__name__) for each in models} | {("builtins", "tuple")}


def test_the_example_answers_every_request_once():
    messages = [each for each in conversation() if not isinstance(each, tuple)]
    asked = [each.id for each in messages if isinstance(each, wire.Request)]
    answers = Counter(each.id for each in messages if isinstance(each, wire.Ack | wire.Error))
    assert asked == sorted(set(asked))
    lost = next(
        each.received for each in messages if isinstance(each, wire.Ready) and each.received
    )
    assert answers == Counter(set(asked) - {lost})
    applied = {each.id for each in messages if isinstance(each, wire.Applied)}
    assert applied < set(answers)


def test_the_acks_of_the_example_have_what_the_page_gives_them():
    messages = list(conversation())
    asked = {each.id: each.type for each in messages if isinstance(each, wire.Request)}
    for each in messages:
        if isinstance(each, wire.Ack):
            present = each.model_dump(exclude_none=True).keys() - {"type", "id", "note"}
            assert present == acknowledged(asked[each.id]) - {"note"}


def test_the_example_keeps_the_rules_of_frames():
    shown, ready, begun, got = {}, None, {}, {}
    for each in conversation():
        match each:
            case wire.Ready():
                ready = each
            case wire.Hello(resume=wire.Resumption(next=wire.FrameId(take=take, index=index))):
                got[take] = index - 1
            case wire.Playback(frame=frame):
                assert frame.index <= got[frame.take]
                shown[frame.take] = frame.index
            case wire.Applied():
                assert each.time == each.chunk * ready.chunk / ready.rate
                begun[each.take] = each.chunk
            case (first, last, chunk, take):
                assert first == got.get(take, -1) + 1
                assert {first // ready.chunk, last // ready.chunk} == {chunk}
                assert last <= shown.get(take, 0) + ready.limits.ahead
                assert begun[take] <= chunk
                got[take] = last
                frame = wire.EncodedFrame(
                    codec=wire.Codec.JPEG,
                    take=take,
                    chunk=chunk,
                    index=first,
                    pts=round(first * 1_000_000 / ready.rate),
                    payload=b"picture",
                )
                assert unpack_frame(pack_frame(frame)) == frame
    assert set(got) == {1, 2}
