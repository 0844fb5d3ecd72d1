"""What Triton's interpreter (3.6) needs to run every kernel."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    """Its numbers are arrays of one element, which NumPy 2.4 takes for no loop's bound; it
    multiplies the bits of bfloat16 as if they were whole numbers; and what it rounds up to 8-bit
    floating point loses its carry, and is not held within the range as a GPU holds it."""
    if find_spec("triton") is None:
        return
    # Here, as only what imports it after the variable is set gets the interpreter.
    from triton import language as tl  # noqa: PLC0415
    from triton.runtime import interpreter  # noqa: PLC0415

    patch_tensor, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot
    convert = interpreter.InterpreterBuilder.create_fp_to_fp

    def patched(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def widened(each):
        if each.dtype.scalar != tl.bfloat16:
            return each
        wide = (each.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, tl.float32)

    def exact_dot(self, a, b, *rest):
        return dot(self, widened(a), widened(b), *rest)

    def rounded(self, each, dtype, mode):
        if dtype.scalar != tl.float8e4nv:
            return convert(self, each, dtype, mode)
        narrow = torch.from_numpy(widened(each).data).clamp(-448, 448).to(torch.float8_e4m3fn)
        return interpreter.TensorHandle(narrow.view(torch.uint8).numpy(), dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_fp_to_fp", rounded)
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", exact_dot)
