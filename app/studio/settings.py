"""What the server allows."""

from __future__ import annotations

from dataclasses import dataclass

from longtake.app.wire import HELLO_SECONDS, MAX_SECONDS, Limits


@dataclass(frozen=True)
class StudioSettings:
    """What the server allows; times are seconds of wall time where nothing else is said.

    Attributes:
        host: name or address to listen on.
        port: to listen on; 0 is any that is free.
        token: that visitors have to know, or None.
        origins: pages of other hosts that may use the server, e.g. ``https://film.example``.
        sessions: visits at a time.
        queue: visitors that may wait for a place.
        ahead: seconds of film sent beyond what the client reported; two chunks at least.
        requests: a visitor may send a second.
        refusals: requests of a connection that are refused before it is closed; ten more a second.
        stall: after which a client that does not keep up is closed.
        grace: for which a lost session can be resumed, and what it saved be fetched.
        idle: without a request after which a visitor's film is paused.
        idle_grace: after that pause in which a request keeps the session; then it ends.
        visit: after which a session ends if others wait, or None.
        hello: from connecting to ``hello``.
        closing: that a client has to take its last messages.
        start: bytes of a file that a take may begin with.
        starts: such files of a session that are kept, the newest.
        tick: between two looks at what is overdue, and between two ``metrics``.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    origins: tuple[str, ...] = ()
    sessions: int = 1
    queue: int = 16
    ahead: float = 3.0
    requests: int = 20
    refusals: int = 100
    stall: float = 20.0
    grace: float = 60.0
    idle: float = 900.0
    idle_grace: float = 300.0
    visit: float | None = 600.0
    hello: float = HELLO_SECONDS
    closing: float = 5.0
    start: int = 33_554_432
    starts: int = 4
    tick: float = 1.0

    def limits(self, rate: float, chunk: int, transition: int, *, encodes: bool) -> Limits:
        """As told to clients.

        Args:
            rate: the model's frames a second.
            chunk: its frames in a chunk.
            transition: the longest one, in chunks.
            encodes: whether its films may begin with a picture.
        """
        return Limits(
            transition=transition,
            ahead=max(2 * chunk, round(self.ahead * rate)),
            requests=self.requests,
            # The whole take is recorded.
            kept=MAX_SECONDS,
            stall=self.stall,
            grace=self.grace,
            idle=self.idle,
            idle_grace=self.idle_grace,
            visit=self.visit,
            start=self.start if encodes else 0,
        )
