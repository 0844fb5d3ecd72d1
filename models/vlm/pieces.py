"""Token ids to pieces of text, as they come."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

BROKEN = "\ufffd"


class Pieces:
    """Cuts what is said into pieces that, joined, are the whole decoded at once.

    A character whose bytes are not all there yet is held back.

    Args:
        tokenizer: decodes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._told = 0

    def tell(self, ids: Sequence[int], *, final: bool = False) -> str:
        """What is new.

        Args:
            ids: of all that was said from the beginning.
            final: there is no more, so nothing is held back.
        """
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        whole = text if final else text.rstrip(BROKEN)
        piece = whole[self._told :]
        self._told = max(self._told, len(whole))
        return piece
