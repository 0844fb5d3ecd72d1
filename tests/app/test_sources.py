"""Files as they come, and streams and a camera over a real connection."""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
from PIL import Image

from longtake.app import camera, film_source
from longtake.app.camera import Camera
from longtake.app.film_source import FilmSource
from longtake.app.sources import open_source
from longtake.streaming import StreamError

NTSC = [index * 1001 / 30000 for index in range(45)]
PATIENCE = 30.0


@pytest.fixture
def watch(numbers) -> Callable[..., list[tuple[float, int]]]:
    """Times and numbers of all frames of a source; of one that breaks off those before."""

    def look(source, problem: str | None = None):
        seen = []

        def take_all():
            seen.extend((shot.time, *numbers([shot.read()])) for shot in source.shots())

        if problem is None:
            take_all()
        else:
            with pytest.raises(StreamError) as caught:
                take_all()
            assert caught.value.code == problem
        source.close()
        return seen

    return look


@pytest.fixture
def serve(picture) -> Iterator[Callable[[Callable], str]]:
    """A server on loopback; each request is answered by a function of its handler."""
    servers = []

    def start(answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/camera"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


def send_pictures(handler, pictures):
    """As cameras of a network do: a JPEG after another."""
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    handler.end_headers()
    for pixels in pictures:
        coded = io.BytesIO()
        Image.fromarray(pixels).save(coded, "JPEG", quality=95)
        body = coded.getvalue()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
        handler.wfile.write(head.encode() + body + b"\r\n")


# --- files ---


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_the_frames_of_a_file_come_at_their_own_times(shoot_film, watch, tmp_path, ending):
    source = open_source(shoot_film(tmp_path / f"film.{ending}", NTSC))
    assert not source.live
    assert source.duration == pytest.approx(1.5, abs=0.05)
    seen = watch(source)
    assert [number for _, number in seen] == [*range(45)]
    # Matroska counts in milliseconds.
    assert [time for time, _ in seen] == pytest.approx(NTSC, abs=1e-3)


def test_times_of_a_variable_rate_are_kept(shoot_film, watch, tmp_path):
    times = [0, 0.1, 0.15, 1.9, 2.0, 5.5]
    seen = watch(open_source(shoot_film(tmp_path / "film.mkv", times)))
    assert [time for time, _ in seen] == pytest.approx(times, abs=1e-3)


def test_a_film_begins_when_its_sound_does(shoot_film, watch, tmp_path):
    late = [1.0 + index / 30 for index in range(10)]
    heard = open_source(shoot_film(tmp_path / "film.mp4", late, sound=True))
    assert [time for time, _ in watch(heard)] == pytest.approx(late, abs=1e-3)


def test_a_film_of_pictures_only_begins_with_the_first(shoot_film, watch, tmp_path):
    late = [100 + index / 30 for index in range(10)]
    seen = watch(open_source(shoot_film(tmp_path / "film.ts", late)))
    assert [time for time, _ in seen] == pytest.approx([index / 30 for index in range(10)])


def test_a_film_held_upright_is_seen_upright(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        pixels = np.zeros((32, 64, 3), np.uint8)
        pixels[:, :32] = 255  # the left half is white
        film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode(None))
    # The matrix of the track's header: turn clockwise, as telephones write it.
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    turned = (0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(each.to_bytes(4, signed=True) for each in turned)
    path.write_bytes(data)
    pixels = next(open_source(path).shots()).read()
    assert pixels.shape == (64, 32, 3)
    assert pixels[:28].min() > 200
    assert pixels[36:].max() < 50


def test_damage_within_a_film_costs_only_the_frames_that_it_hit(shoot_film, watch, tmp_path):
    path = shoot_film(tmp_path / "film.ts", [index / 30 for index in range(300)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    seen = watch(open_source(path))
    assert 200 < len(seen) < 300
    assert seen[-1][0] == pytest.approx(299 / 30, abs=0.05)


def test_a_source_that_is_closed_gives_no_more(shoot_film, tmp_path):
    source = open_source(shoot_film(tmp_path / "film.mp4", NTSC))
    shots = source.shots()
    next(shots)
    source.close()
    source.close()
    assert list(shots) == []


# --- what cannot be watched ---


def _sound_only(path):
    with av.open(str(path), "w") as film:
        stream = film.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        film.mux([*stream.encode(silence), *stream.encode(None)])


def _no_frame(path):
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        film.start_encoding()


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("none.mp4", lambda path: None, "there is no file {path}"),
        ("folder.mp4", lambda path: path.mkdir(), "{path} is a folder"),
        ("empty.mp4", lambda path: path.touch(), "{path} is empty"),
        ("text.mp4", lambda path: path.write_text("x" * 5000), "{path} is no video, or a damaged"),
        ("sound.m4a", _sound_only, "{path} holds only sound"),
        ("short.mp4", _no_frame, "{path} holds no video"),
        ("short.mkv", _no_frame, "{path} holds no picture that can be read"),
    ],
)
def test_a_file_that_is_no_video_is_refused_in_one_sentence(tmp_path, name, make, said):
    path = tmp_path / name
    make(path)
    with pytest.raises(StreamError) as caught:
        open_source(str(path))
    assert caught.value.code == "bad_source"
    assert caught.value.message.startswith(said.format(path=path))
    assert caught.value.hint


def test_a_film_torn_in_half_is_refused_as_damaged(shoot_film, tmp_path):
    path = shoot_film(tmp_path / "film.mp4", NTSC)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StreamError, match="no video, or a damaged one"):
        open_source(path)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rtsp://camera/1", "rtsp streams cannot be watched"),
        ("http://127.0.0.1:1/none", "cannot be opened (Connection refused)"),
    ],
)
def test_an_address_that_cannot_be_watched_says_why(address, said):
    with pytest.raises(StreamError) as caught:
        open_source(address)
    assert caught.value.code == "bad_source"
    assert said in caught.value.message


# --- streams ---


def test_pictures_of_a_network_camera_come_in_order_and_its_end_is_no_failure(
    serve, watch, picture
):
    url = serve(lambda handler: send_pictures(handler, map(picture, range(12))))
    source = open_source(url)
    assert isinstance(source, FilmSource)
    assert source.live
    assert source.duration is None
    seen = watch(source)
    times = [time for time, _ in seen]
    assert times == sorted(times)
    assert [number for _, number in seen] == [*range(12)]


def test_a_stream_that_changes_its_size_goes_on(serve):
    sizes = [(32, 48), (32, 48), (64, 80), (64, 80), (64, 80)]
    pictures = [np.zeros((*size, 3), np.uint8) for size in sizes]
    source = open_source(serve(lambda handler: send_pictures(handler, pictures)))
    seen = [shot.read().shape[:2] for shot in source.shots()]
    assert (32, 48) in seen
    assert seen[-1] == (64, 80)


def test_a_file_on_a_server_is_a_file(serve, watch, shoot_film, tmp_path):
    body = shoot_film(tmp_path / "film.mkv", NTSC).read_bytes()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    source = open_source(serve(answer))
    assert not source.live
    assert [number for _, number in watch(source)] == [*range(45)]


def test_a_broadcast_is_handed_on_as_fast_as_it_plays_however_it_arrives(
    serve, watch, shoot_film, tmp_path
):
    body = shoot_film(tmp_path / "film.ts", NTSC).read_bytes()

    def answer(handler):  # all at once, and its length is not said
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(body)

    source = open_source(serve(answer))
    assert source.live
    began = time.monotonic()
    seen = watch(source)
    assert time.monotonic() - began > 1.4
    assert [number for _, number in seen] == [*range(45)]
    assert [moment for moment, _ in seen] == pytest.approx(NTSC, abs=1e-3)


def test_a_stream_that_is_closed_is_let_go_of(serve, picture):
    # Some cameras show their pictures to one at a time.
    left = threading.Event()

    def answer(handler):
        with suppress(OSError):
            send_pictures(handler, map(picture, itertools.cycle(range(12))))
        left.set()

    source = open_source(serve(answer))
    shots = source.shots()
    next(shots)
    source.close()
    assert left.wait(PATIENCE)
    assert next(shots, None) is None
    source.close()


def test_a_stream_that_stalls_is_given_up(serve, watch, picture, monkeypatch):
    monkeypatch.setattr(film_source, "READ_TIMEOUT", 0.5)
    over = threading.Event()

    def answer(handler):
        send_pictures(handler, map(picture, range(12)))
        handler.wfile.flush()
        over.wait(PATIENCE)

    url = serve(answer)
    seen = watch(FilmSource(url), problem="stalled")
    over.set()
    assert len(seen) > 5


# --- cameras ---


def test_a_camera_read_by_opencv(serve, watch, picture):
    url = serve(lambda handler: send_pictures(handler, map(picture, range(12))))
    source = Camera(url)
    assert source.live
    seen = watch(source, problem="source_lost")
    times = [time for time, _ in seen]
    assert times[0] == 0
    assert times == sorted(times)
    assert [number for _, number in seen] == [*range(12)]


def test_a_camera_that_is_not_there_says_which_are(monkeypatch, tmp_path):
    for number, name in ((2, "Desk"), (0, "Lid")):
        (tmp_path / f"video{number}").mkdir()
        (tmp_path / f"video{number}" / "name").write_text(f"{name}\n")
    monkeypatch.setattr(camera, "_LISTED", tmp_path)
    with pytest.raises(StreamError) as caught:
        open_source("webcam:77")
    assert caught.value.code == "no_camera"
    assert str(caught.value) == "there is no camera 77: there are webcam:0 (Lid), webcam:2 (Desk)"


def test_a_camera_that_is_there_but_taken_is_another_matter(monkeypatch, tmp_path):
    (tmp_path / "video77").mkdir()
    (tmp_path / "video77" / "name").write_text("Desk\n")
    monkeypatch.setattr(camera, "_LISTED", tmp_path)
    for name in ("webcam:77", "/dev/video77"):
        with pytest.raises(StreamError, match="is there but cannot be opened"):
            open_source(name)


def test_a_machine_without_cameras_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(camera, "_LISTED", tmp_path / "video4linux")
    with pytest.raises(StreamError, match="this machine has none"):
        open_source("/dev/video77")
