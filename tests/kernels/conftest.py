"""What Triton's interpreter (3.6) needs to run every kernel."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch):
    """Its numbers are arrays of one element, which NumPy 2.4 takes for no loop's bound; and it
    multiplies the bits of bfloat16 as if they were whole numbers."""
    if find_spec("triton") is None:
        return
    # Here, as only what imports it after the variable is set gets the interpreter.
    from triton import language as tl  # noqa: PLC0415
    from triton.runtime import interpreter  # noqa: PLC0415

    patch_tensor, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

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

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", exact_dot)
