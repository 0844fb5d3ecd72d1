"""Embeddings of prompts on disk, so that a prompt that is known needs no text encoder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

CAP_BYTES = 256_000_000
_NAME, _SUFFIX = "embeddings", ".safetensors"


class PromptCache:
    """A folder with a file for each prompt; where it cannot be used, prompts are just not known.

    Files are named by a hash of the encoder and the prompt's tokens: no prompt can be read from
    them. Several processes may use a folder.

    Args:
        folder: made when something is kept; others may keep theirs in it too.
        encoder: says which encoder made the embeddings, and how.
        cap: bytes of all files; the one that was not used for longest goes first.
    """

    def __init__(self, folder: Path, encoder: str, cap: int = CAP_BYTES) -> None:
        self.folder = folder
        self.cap = cap
        self._encoder = encoder

    def get(self, tokens: Sequence[int]) -> Tensor | None:
        """The embeddings of token ids, on the CPU, [tokens, d_model]; None where not known."""
        path = self._path(tokens)
        try:
            embeddings = load_file(path)[_NAME]
            os.utime(path)
        except (OSError, SafetensorError, KeyError):
            return None
        return embeddings if len(embeddings) == len(tokens) else None

    def put(self, tokens: Sequence[int], embeddings: Tensor) -> None:
        """Keep the embeddings of token ids, as :meth:`get` gives them."""
        # A full disk, say: the film goes on, and the prompt is encoded another time.
        with suppress(OSError, SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as new:
                whole = Path(new) / _NAME
                save_file({_NAME: embeddings.cpu().contiguous()}, whole)
                whole.replace(self._path(tokens))
            self._make_room()

    def _path(self, tokens: Sequence[int]) -> Path:
        key = f"{self._encoder}/{','.join(map(str, tokens))}"
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _make_room(self) -> None:
        files = [(path, path.stat()) for path in self.folder.glob(f"*{_SUFFIX}")]
        size = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if size <= self.cap:
                break
            path.unlink(missing_ok=True)
            size -= stat.st_size
