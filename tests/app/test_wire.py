"""The WebSocket's messages: whole there and back, and whatever else comes is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from longtake.app import wire, wire_coding
from longtake.app.wire_coding import decode_client, decode_server, encode
from longtake.app.wire_faults import ERRORS, RequestError
from longtake.models.video.settings import MAX_FRAMES, MAX_STEPS, SWITCHES
from longtake.streaming import StreamError

CLIENT = get_args(wire.ClientMessage)
SERVER = get_args(wire.ServerMessage)

patient = settings(deadline=None)


# --- messages made from the schema ---


def values(schema, defs):
    """JSON values that fit a JSON schema."""
    if "$ref" in schema:
        return objects(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return st.one_of([values(each, defs) for each in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return PLAIN[schema["type"]](schema)


PLAIN = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema["minimum"], schema["maximum"]),
    "number": lambda schema: st.floats(
        schema.get("minimum", schema.get("exclusiveMinimum")),
        schema["maximum"],
        exclude_min="exclusiveMinimum" in schema,
    ),
    "string": lambda schema: (patterns if "pattern" in schema else texts)(schema),
}


def patterns(schema):
    found = st.from_regex(schema["pattern"], fullmatch=True)
    return found.filter(lambda text: len(text) <= schema["maxLength"])


def texts(schema):
    """Short ones of anything, and the longest of what is awkward to write."""
    low, high = schema.get("minLength", 0), schema["maxLength"]
    short = st.text(min_size=low, max_size=40)
    awkward = st.sampled_from('a"\\\n\x00é\N{SNOWMAN}\U0001f319')
    long = awkward.map(lambda character: (character * high)[:-1] + ".")
    return (short | long).filter(lambda text: not low or text.strip())


def objects(schema, defs):
    fields = {name: values(each, defs) for name, each in schema.get("properties", {}).items()}
    required = {*schema.get("required", ()), *({"type"} & fields.keys())}
    return st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required},
    )


def messages(models):
    """JSON objects that are messages."""
    schemas = [model.model_json_schema() for model in models]
    return st.one_of([objects(schema, schema.get("$defs", {})) for schema in schemas])


SIDES = [(decode_client, CLIENT), (decode_server, SERVER)]
NAMES = ["client", "server"]
both = pytest.mark.parametrize(("decode", "models"), SIDES, ids=NAMES)


@both
@patient
@given(data=st.data())
def test_what_fits_the_schema_is_a_message_and_survives_the_way_there_and_back(
    decode, models, data
):
    content = data.draw(messages(models))
    text = json.dumps(content, ensure_ascii=data.draw(st.booleans()))
    message = decode(text)
    assert isinstance(message, models)
    assert decode(text.encode()) == message
    sent = encode(message)
    assert len(sent.encode()) <= wire.MAX_MESSAGE
    assert decode(sent) == message


def test_what_is_null_is_left_out():
    assert json.loads(encode(wire.Ack(id=4))) == {"type": "ack", "id": 4}
    text = '{"type": "ack", "id": 4, "take": null, "file": null}'
    assert decode_server(text) == wire.Ack(id=4)


def test_the_longest_prompt_fits_however_it_is_escaped():
    prompt = "\N{LAST QUARTER MOON WITH FACE}" * wire.MAX_PROMPT
    text = json.dumps({"type": "open", "id": wire.MAX_ID, "prompt": prompt})
    assert "\\ud83c" in text
    assert decode_client(text).prompt == prompt


def test_spaces_around_a_prompt_do_not_count():
    text = json.dumps({"type": "prompt", "id": 1, "text": "  night falls\n"})
    assert decode_client(text).text == "night falls"


def test_a_message_that_does_not_fit_cannot_be_made():
    with pytest.raises(ValidationError):
        wire.Ack(id=0)
    with pytest.raises(ValidationError):
        wire.Queued(position=1).position = 2


# --- what is no message ---


def refusal(decode, text):
    """The refusal of a text, or None if it is a message; fails on any other outcome."""
    try:
        decode(text)
    except RequestError as caught:
        error = caught
    else:
        return None
    assert error.code in ERRORS
    assert len(error.message) < 200
    assert error.message.isprintable()
    assert "nput should" not in str(error), "Pydantic's words"
    assert error.hint != "see the protocol", "a kind of fault without a hint"
    assert wire.Error.of(error, error.request_id).code == error.code
    return error


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**53, 10**400, -1, 0, 1, 2])
    | st.floats()
    | st.sampled_from(["hello", "open", "\ud800", "a\x00b", "x" * 3000, "{0}", "{tag}"])
    | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def damaged(draw, models):
    """A message with one to three places changed, taken out or added."""
    content = deepcopy(draw(messages(models)))
    for _ in range(draw(st.integers(1, 3))):
        place = content
        inner = [each for each in place.values() if isinstance(each, dict)]
        if inner and draw(st.booleans()):
            place = draw(st.sampled_from(inner))
        key = draw(st.sampled_from([*place, "extra"]) | st.text(st.characters(), max_size=4))
        if draw(st.booleans()):
            place[key] = draw(json_values)
        else:
            place.pop(key, None)
    return content


@both
@patient
@given(data=st.data())
def test_a_damaged_message_is_refused_or_is_another_message(decode, models, data):
    content = data.draw(damaged(models))
    error = refusal(decode, json.dumps(content))
    number = content.get("id")
    if error and error.code not in {"bad_json", "too_large"} and type(number) is int:
        assert error.request_id == (number if 1 <= number <= wire.MAX_ID else None)


@both
@patient
@given(text=st.binary() | st.text(st.characters()) | json_values.map(json.dumps))
def test_anything_at_all_is_refused(decode, models, text):
    assert refusal(decode, text)


MANY = wire.MAX_MESSAGE
AWKWARD = {
    "deep lists": "[" * MANY,
    "deep objects": '{"a":' * (MANY // 5),
    "deep and closed": "[" * (MANY // 2) + "]" * (MANY // 2),
    "a deep field": '{"type":"bye","id":' + "[" * 8000 + "]" * 8000 + "}",
    "a long number": "1" * MANY,
    "a long id": '{"type":"bye","id":' + "9" * 4000 + "}",
    "a longer id": '{"type":"bye","id":' + "9" * 5000 + "}",
    "a long time": '{"type":"prompt","id":1,"text":"a","at":' + "9" * 4000 + "}",
    "beyond floats": '{"type":"prompt","id":1,"text":"a","at":1e999}',
    "a long type": '{"type":"' + "a" * 30_000 + '"}',
    "a type that is a list": '{"type":[]}',
    "a long name of a field": '{"type":"bye","id":1,"' + "a" * 30_000 + '":1}',
    "many fields": json.dumps({"type": "bye", "id": 1} | {str(n): n for n in range(2_500)}),
    "many keys twice": "{" + ",".join(['"a":1'] * 5000) + "}",
    "half a surrogate pair in a text": '{"type":"prompt","id":1,"text":"\\ud800"}',
    "half a surrogate pair in a name": '{"type":"bye","id":1,"\\ud800":1}',
    "half a surrogate pair in a type": '{"type":"\\ud800"}',
    "half a surrogate pair as it is": '{"type":"\ud800"}',
    "no UTF-8": b'{"type":"\xff"}',
    "UTF-16": '{"type":"bye","id":1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"type":"bye","id":1}',
    "two messages": '{"type":"bye","id":1}{"type":"bye","id":2}',
    "nothing": "",
}


@both
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_texts_are_refused(decode, models, name):
    assert refusal(decode, AWKWARD[name])


def test_a_text_over_the_limit_is_not_even_parsed(monkeypatch):
    monkeypatch.setattr(wire_coding.json, "loads", lambda *_, **__: pytest.fail("parsed"))
    error = refusal(decode_client, " " * (wire.MAX_MESSAGE + 1))
    assert (error.code, error.message) == ("too_large", "the message has 32,769 bytes")


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("hello", "bad_json", "the message is not JSON: send one JSON object in UTF-8"),
        ("[1]", "bad_json", "the message is a list: send one JSON object in UTF-8"),
        ("[" * 9000, "bad_json", "the message is nested too deeply: send one JSON object in UTF-8"),
        (
            '{"type":"bye","id":1,"id":2}',
            "bad_json",
            "an object has a key twice: give every key once",
        ),
        ('{"type":"bye","id":NaN}', "bad_json", "NaN is no JSON: use a finite number"),
        ('{"id":1}', "bad_message", "the message has no type: name its type"),
        ('{"type":"bye"}', "bad_message", "bye.id is missing: add it"),
        ('{"type":"bye","id":true}', "bad_message", "bye.id is true: use a whole number"),
        ('{"type":"bye","id":1.0}', "bad_message", "bye.id is 1.0: use a whole number"),
        ('{"type":"bye","id":0}', "bad_message", "bye.id is 0: use 1 or more"),
        (
            '{"type":"bye","id":1,"why":2}',
            "bad_message",
            "there is no field 'bye.why': leave it out",
        ),
        (
            '{"type":"hello","id":1,"version":3,"resume":{"session":"s"}}',
            "bad_message",
            "hello.resume.resume_token is missing: add it",
        ),
        (
            '{"type":"hello","id":1,"version":1,"new":[]}',
            "bad_version",
            "version 1 is not spoken here: use version 3",
        ),
        (
            '{"type":"open","id":1,"prompt":" "}',
            "bad_prompt",
            "open.prompt is ' ': use at least one character",
        ),
        (
            '{"type":"prompt","id":1,"text":"' + "a" * 2001 + '"}',
            "bad_prompt",
            "prompt.text is 'aaaaaaaaaaaa...aaaaaaaaaaaaa': keep it to 2,000 characters",
        ),
        (
            '{"type":"prompt","id":1,"text":"a","at":-1}',
            "bad_time",
            "prompt.at is -1: use 0 or more",
        ),
        (
            '{"type":"prompt","id":1,"text":"a","at":1e8}',
            "bad_time",
            "prompt.at is 100000000.0: use at most 10,000,000",
        ),
        (
            '{"type":"set","id":1,"settings":{"steps":51}}',
            "bad_setting",
            "set.settings.steps is 51: use at most 50",
        ),
        (
            '{"type":"set","id":1,"settings":{"switch":"off"}}',
            "bad_setting",
            "set.settings.switch is 'off': use 'recache', 'keep' or 'flush'",
        ),
        (
            '{"type":"set","id":1,"settings":{"colour":1}}',
            "bad_setting",
            "there is no field 'set.settings.colour': leave it out",
        ),
        (
            '{"type":"set","id":1,"settings":5}',
            "bad_setting",
            "set.settings is 5: use an object",
        ),
        (
            '{"type":"set","id":1,"settings":[5]}',
            "bad_setting",
            "set.settings is a list: use an object",
        ),
        ('{"type":"still","id":{}}', "bad_message", "still.id is an object: use a whole number"),
        (
            '{"type":"hello","id":1,"version":true}',
            "bad_message",
            "hello.version is true: use a whole number",
        ),
        (
            '{"type":"hello","id":1,"version":1.0}',
            "bad_message",
            "hello.version is 1.0: use a whole number",
        ),
        (
            '{"type":"save","id":1,"seconds":0}',
            "bad_message",
            "save.seconds is 0: use more than 0",
        ),
    ],
)
def test_a_refusal_is_one_clear_sentence_and_a_hint(text, code, sentence):
    error = refusal(decode_client, text)
    assert (error.code, str(error)) == (code, sentence)


def test_an_unknown_type_is_told_those_there_are():
    error = refusal(decode_client, '{"type":"rewind","id":5}')
    assert error.message == "there is no message of type 'rewind'"
    assert error.hint.startswith("use one of 'hello', 'open', ")
    assert error.request_id == 5


# --- errors ---


def test_an_error_keeps_its_words_and_learns_whether_to_retry():
    error = wire.Error.of(StreamError("busy", "there is no place", "try in a minute"), 3)
    assert error == wire.Error(
        id=3, code="busy", message="there is no place", retryable=True, hint="try in a minute"
    )


def test_any_error_can_be_told():
    error = wire.Error.of(StreamError("no_such_code", "x\udcff" * 1000, "y" * 1000))
    assert (error.id, error.code) == (None, "internal")
    assert error.message == ("x?" * 1000)[: wire.MAX_SENTENCE]
    assert decode_server(encode(error)) == error


# --- the rest of the project ---


def test_settings_have_the_ranges_of_the_generator():
    fields = wire.Settings.model_json_schema()["properties"]
    found = {name: each["anyOf"][0] for name, each in fields.items()}
    assert found["steps"] == {"type": "integer", "minimum": 1, "maximum": MAX_STEPS}
    assert found["window"] == {"type": "integer", "minimum": 1, "maximum": MAX_FRAMES}
    assert found["sink"] == {"type": "integer", "minimum": 0, "maximum": MAX_FRAMES}
    assert found["switch"]["enum"] == list(SWITCHES)


def test_a_client_needs_no_torch(tmp_path):
    code = "import sys, longtake.app.wire_coding; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
