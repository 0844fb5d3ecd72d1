"""A film over the WebSocket: what comes, and in which order."""

from __future__ import annotations

import io

from PIL import Image

from longtake.app import wire
from longtake.app.studio.settings import StudioSettings

PROMPT = "a red ball bounces on green grass"


def test_a_film_comes_frame_by_frame_and_follows_a_prompt(studio, model):
    client = studio.connect()
    ready = client.hello()
    assert [type(each) for each in client.got] == [wire.Ack, wire.Ready]
    assert (ready.model, ready.width, ready.height, ready.rate, ready.chunk) == (
        model.folder.name, 32, 32, 8, 8
    )  # fmt: skip
    assert ready.limits == StudioSettings(requests=1000).limits(8, 8)

    opened = client.send(wire.Open, prompt=PROMPT, seed=7)
    assert client.answer(opened).take == 1
    frame = client.frame(0)
    assert client.got[-2] == wire.Applied(
        id=opened, take=1, chunk=0, time=0, prompt=PROMPT,
        settings=wire.Settings(steps=2, window=4, sink=2, switch="recache"),
    )  # fmt: skip
    assert (frame.take, frame.chunk, frame.index, frame.pts) == (1, 0, 0, 0)
    with Image.open(io.BytesIO(frame.payload)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 32))

    client.report(frame)
    sent = client.send(wire.Prompt, text="night falls")
    foreseen = client.answer(sent)
    applied = client.until(lambda each: isinstance(each, wire.Applied))
    assert (applied.id, applied.prompt, applied.settings) == (sent, "night falls", None)
    assert (applied.chunk, applied.time) == (foreseen.chunk, foreseen.time)
    first = client.next()
    while not isinstance(first, wire.EncodedFrame):
        first = client.next()
    assert (first.chunk, first.index) == (applied.chunk, 8 * applied.chunk)
    assert first.pts == first.index * 125_000
    assert client.frames() == list(range(first.index + 1))

    assert client.ask(wire.Bye) == wire.Ack(id=client.last_id)
    assert client.rest() == [wire.Goodbye(reason="asked")]
