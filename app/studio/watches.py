"""The watches of one visit, one at a time; all of it happens on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from longtake.app import wire
from longtake.app.studio.live import LiveTake
from longtake.app.studio.watching import Captioners, ClientWatch, LiveWatch, Post
from longtake.streaming import StreamError

NO_CAPTIONER = StreamError(
    "no_model",
    "no captioner comes with this version",
    "start the studio with  --witness Qwen/Qwen2.5-VL-3B-Instruct  or a folder that holds such one",
)


class Watches:
    """What a visitor has watched.

    Args:
        captioners: the server's; None where it has none.
        post: called on the event loop with what is for the client.
        film: gives the take that runs, or raises what there is to say.
    """

    def __init__(
        self, captioners: Captioners | None, post: Post, film: Callable[[], LiveTake]
    ) -> None:
        self._captioners = captioners
        self._post = post
        self._film = film
        self._count = 0
        self._watch: LiveWatch | None = None
        self._order = asyncio.Lock()
        self._closed = False

    async def begin(self, request: wire.Watch) -> wire.Ack:
        """Begin a watch in place of the one before; if it cannot begin, that one goes on.

        Raises:
            StreamError: there is no captioner or no film, or the instruction does not fit.
        """
        captioners, loop = self._captioners, asyncio.get_running_loop()
        if captioners is None:
            raise StreamError(NO_CAPTIONER.code, NO_CAPTIONER.message, NO_CAPTIONER.hint)

        def post(message: wire.ServerMessage) -> None:
            loop.call_soon_threadsafe(self._post, message)

        async with self._order:
            witness = await asyncio.to_thread(captioners.get)
            film = self._film() if request.film else None
            watch = await asyncio.to_thread(
                witness.watch, prompt=request.prompt, seed=request.seed, live=True
            )
            if self._watch is not None:
                await asyncio.to_thread(self._watch.close)
            self._count += 1
            if film is None:
                self._watch = ClientWatch(self._count, watch, post)
            else:
                self._watch = LiveWatch(self._count, watch, post)
                film.show_to(self._watch)
            if self._closed:
                await asyncio.to_thread(self._watch.close)
        captioner = witness.captioner
        return wire.Ack(
            id=request.id,
            watch=self._count,
            fps=captioner.settings.fps,
            round=captioner.settings.round_seconds,
            pixels=min(captioner.pixels[1], wire.MAX_SHOWN_PIXELS),
        )

    def ask(self, question: str) -> None:
        """Ask about what is watched.

        Raises:
            StreamError: nothing is, or the question does not fit.
        """
        self._running.ask(question)

    def end(self) -> None:
        """Nothing more is shown.

        Raises:
            StreamError: nothing was.
        """
        self._running.end()

    def show(self, frame: wire.ShownFrame) -> None:
        """Take a frame; those of a watch before are passed over, and so are those of a film's.

        Raises:
            StreamError: ``out_of_order``: there is no such watch yet.
        """
        if frame.watch > self._count:
            problem = f"there is no watch {frame.watch} yet"
            raise StreamError("out_of_order", problem, "begin one first")
        if isinstance(self._watch, ClientWatch) and frame.watch == self._watch.number:
            self._watch.show(frame)

    async def close(self) -> None:
        """End the watch, also one that is about to begin."""
        self._closed = True
        async with self._order:
            if self._watch is not None:
                await asyncio.to_thread(self._watch.close)

    @property
    def _running(self) -> LiveWatch:
        if self._watch is None:
            raise StreamError("out_of_order", "nothing is watched yet", "begin a watch first")
        return self._watch
