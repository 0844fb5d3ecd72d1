"""The Python client: steer a take that another machine makes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from longtake.app.client_dial import Address
from longtake.app.client_inbox import Receipt
from longtake.app.client_link import Link
from longtake.app.closing import Closing
from longtake.app.download import download
from longtake.app.frames import Frame
from longtake.app.outputs import check_output, write_whole
from longtake.app.upload import upload
from longtake.app.wire import Metrics

FILM = (".mp4",)
STILL = (".png",)


def _say_place(position: int) -> None:
    logging.getLogger(__name__).warning("place %d in the server's queue", position)


def connect(
    url: str, *, token: str | None = None, queued: Callable[[int], object] = _say_place
) -> RemoteSession:
    """Connect to a server, and wait for a place.

    Args:
        url: e.g. ``ws://127.0.0.1:7860``; ``wss://`` for a server with TLS; ``http://`` and
            ``https://`` mean the same, so that the address of the page does, too.
        token: the server's access token, if it has one and ``url`` does not hold it.
        queued: called with the place in the queue (1 is the next) whenever that changes; logs it
            by default.

    Raises:
        StreamError: ``bad_url``, ``unreachable``, or as the server refuses: ``bad_token``,
            ``bad_version``, ``busy``.
    """
    address = Address.of(url)
    return RemoteSession(Link(address, token or address.token, queued))


class RemoteSession(Closing):
    """A place on a server; made by :func:`connect`. Methods may be called from any thread.

    It plays live: frames come no faster than they play, and where nobody takes them the film
    stops, after a while for good. A lost connection is made again, within the time that the
    server allows, and no frame is lost by that.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self._link.ready.rate

    @property
    def time(self) -> float:
        """Seconds of the take handed out so far."""
        shown = self._link.inbox.shown
        return (shown.index + 1) / self.rate if shown else 0.0

    @property
    def metrics(self) -> Metrics | None:
        """The server's newest measurements of the take, about one a second."""
        return self._link.inbox.metrics

    @property
    def receipts(self) -> list[Receipt]:
        """Of every prompt that came into force: its chunk, time and milliseconds to be seen."""
        with self._link.changed:
            return list(self._link.inbox.receipts)

    def open(
        self, prompt: str, *, seed: int = 0, start: str | Path | None = None, **settings: int | str
    ) -> None:
        """Begin a take; the one before it ends.

        Args:
            prompt: in force from the first frame.
            seed: of its noise; the same seed, prompts and settings make the same film.
            start: a picture or a clip of at most 5 s with its first frames, which is sent to the
                server; made from the prompt where left out.
            settings: ``steps``, ``window``, ``sink``, ``switch``.

        Raises:
            StreamError: the prompt, the file or a setting does not fit.
        """
        link = self._link
        if start is not None:
            start = upload(link.address.files, link.ready, link.token, Path(start))
        self._ask("open", prompt=prompt, seed=seed, start=start, settings=settings)

    def prompt(self, text: str, *, at: float = 0.0, transition: int = 0) -> None:
        """Change the prompt, from the next chunk on or from the first one at or after ``at``.

        What the server has to say of it (words that its model doesn't know) is warned of.

        Args:
            text: the new prompt.
            at: presentation time in seconds.
            transition: chunks over which it takes over from the one before; at 0 it does at once.

        Raises:
            StreamError: ``bad_prompt``, ``bad_time``, ``unsupported``.
        """
        self._ask("prompt", text=text, at=at, transition=transition)

    def set(self, *, at: float = 0.0, **settings: int | str) -> None:
        """Change ``steps``, ``window``, ``sink`` or ``switch``; times as in ``prompt``.

        Raises:
            StreamError: ``bad_setting``, ``bad_time``.
        """
        self._ask("set", settings=settings, at=at)

    def pause(self) -> None:
        """Stop at the next chunk boundary."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._ask("resume")

    def restart(self, *, seed: int | None = None) -> None:
        """Begin another take with the prompt and settings in force, and perhaps another seed."""
        self._ask("restart", seed=seed)

    def frames(self, seconds: float) -> Iterator[Frame]:
        """The next seconds of film, frame by frame, exactly round(seconds * rate) of them.

        They come as they are made, at most as fast as they play; while the take is paused, none.

        Raises:
            StreamError: the take or the session ended, or the server paused the film because
                nothing was asked for a while (``idle``; :meth:`resume` goes on). The frames
                before were handed out.
        """
        for _ in range(round(seconds * self.rate)):
            yield self._link.next_frame()

    def save(self, path: str | Path, seconds: float | None = None) -> None:
        """Fetch the take, or its last seconds, as an MP4; it goes on meanwhile.

        A file of that name is kept, as ``name.1.mp4``.

        Args:
            path: ends in ``.mp4``.
            seconds: the last so many that came; the whole take by default. In both cases as far
                as the server keeps it.

        Raises:
            StreamError: nothing was made yet, or the file cannot be fetched or written.
        """
        self._fetch(Path(path), FILM, "save", seconds=seconds)

    def still(self, path: str | Path) -> None:
        """Fetch the last frame that was handed out as a PNG; the newest one if none was.

        Raises:
            StreamError: as in :meth:`save`.
        """
        with self._link.changed:
            shown = self._link.inbox.shown
        self._fetch(Path(path), STILL, "still", frame=shown.model_dump() if shown else None)

    def close(self) -> None:
        """End the session; what was saved stays."""
        self._link.close()

    def _ask(self, kind: str, **fields: Any) -> None:  # noqa: ANN401
        answer = self._link.request(kind, **fields)
        if answer.note:
            warnings.warn(answer.note, stacklevel=3)

    def _fetch(self, path: Path, suffixes: tuple[str, ...], kind: str, **fields: Any) -> None:  # noqa: ANN401
        # Before the server is put to work.
        check_output(path, suffixes)
        saved = self._link.request(kind, **fields).file
        assert saved is not None
        link = self._link
        write_whole(path, suffixes, partial(download, link.address.files, saved, link.token))
