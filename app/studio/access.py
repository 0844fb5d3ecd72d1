"""The access token: one comparison, however it is given."""

from __future__ import annotations

import hashlib
import hmac


def fingerprint(token: str) -> str:
    """What stands for a token where its own characters may not be, as in a cookie."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def is_let_in(token: str | None, given: str) -> bool:
    """Whether somebody knows the access token.

    Args:
        token: of the server; None where everybody is let in.
        given: the :func:`fingerprint` of what was given.

    Returns:
        After the same time for every wrong one.
    """
    return token is None or hmac.compare_digest(given.encode(), fingerprint(token).encode())
