"""The WebSocket's binary messages: whole there and back, and other bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from longtake.app import wire
from longtake.app.wire_coding import FRAME_HEADER, FRAME_TAG, pack_frame, unpack_frame
from longtake.streaming import StreamError

patient = settings(deadline=None)

frames = st.builds(
    wire.EncodedFrame,
    codec=st.sampled_from(wire.Codec),
    take=st.integers(1, wire.MAX_UINT32),
    chunk=st.integers(0, wire.MAX_UINT32),
    index=st.integers(0, wire.MAX_INTEGER),
    pts=st.integers(0, wire.MAX_INTEGER),
    payload=st.binary(min_size=1),
)


@patient
@given(frames)
def test_a_frame_survives_the_way_there_and_back(frame):
    data = pack_frame(frame)
    assert len(data) == FRAME_HEADER.size + len(frame.payload)
    assert unpack_frame(data) == frame


def is_no_frame(data):
    with pytest.raises(StreamError, match="a binary message is no frame") as caught:
        unpack_frame(data)
    return caught.value.code == "bad_message"


@patient
@given(frames, st.data())
def test_a_frame_cut_short_or_gone_on_with_is_none(frame, data):
    packed = pack_frame(frame)
    assert is_no_frame(packed[: data.draw(st.integers(0, len(packed) - 1))])
    assert is_no_frame(packed + data.draw(st.binary(min_size=1)))


@patient
@given(
    st.binary()
    | st.binary(min_size=24, max_size=40).map(
        lambda rest: bytes((0x46, wire.PROTOCOL, 1, 0)) + rest
    )
)
def test_bytes_are_a_frame_that_packs_to_them_or_none(data):
    try:
        frame = unpack_frame(data)
    except StreamError:
        assert is_no_frame(data)
    else:
        assert pack_frame(frame) == data


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 0), (1, 1), (2, 0), (2, 3), (3, 1), (4, 0), (12, 6), (22, 0x20), (30, 0x20)],
    ids=["tag", "version", "codec 0", "codec 3", "flags", "take 0", "length", "index", "pts"],
)
def test_a_header_out_of_range_is_refused(offset, value):
    frame = wire.EncodedFrame(
        codec=wire.Codec.JPEG, take=1, chunk=2, index=3, pts=4, payload=b"image"
    )
    data = bytearray(pack_frame(frame))
    data[offset] = value
    assert is_no_frame(bytes(data))


def test_the_largest_picture_fits_and_no_larger_one():
    def frame(size):
        return wire.EncodedFrame(
            codec=wire.Codec.WEBP, take=1, chunk=0, index=0, pts=0, payload=bytes(size)
        )

    largest = frame(wire.MAX_PAYLOAD)
    packed = pack_frame(largest)
    assert unpack_frame(packed) == largest
    header = FRAME_HEADER.pack(FRAME_TAG, 1, 2, 0, 1, 0, wire.MAX_PAYLOAD + 1, 0, 0)
    assert is_no_frame(header + bytes(wire.MAX_PAYLOAD + 1))
    assert is_no_frame(FRAME_HEADER.pack(FRAME_TAG, 1, 2, 0, 1, 0, 0, 0, 0))
    with pytest.raises(ValidationError):
        frame(wire.MAX_PAYLOAD + 1)
