"""What people type, checked before a model meets it."""

from __future__ import annotations

from longtake.streaming import StreamError


def check_text(name: str, value: object, most: int, hint: str) -> None:
    """Refuse what is no text, too long or no Unicode; an empty text passes.

    Args:
        name: what it is called in the message.
        value: what was given.
        most: characters.
        hint: what to give instead of what is no text.

    Raises:
        StreamError: ``bad_prompt``.
    """
    if not isinstance(value, str):
        raise StreamError("bad_prompt", f"the {name} is no text", hint)
    if len(value) > most:
        problem = f"the {name} has {len(value):,} characters"
        raise StreamError("bad_prompt", problem, f"keep it to {most:,}")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise StreamError("bad_prompt", f"the {name} is no valid Unicode", "type it anew")
