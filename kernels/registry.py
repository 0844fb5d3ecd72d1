"""Which implementation of each operation runs on which device: decided once, at load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from longtake.kernels.reference import BlockMap, Quantized


@dataclass(frozen=True)
class Kernels:
    """A bound table: one callable for each operation.

    The contracts (shapes, dtypes) are those of the functions of the same names in
    :mod:`longtake.kernels.reference`. ``names`` says which implementation stands behind each, for
    the record of what determined a film's bytes.
    """

    attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    attention_fp8: Callable[[Tensor, Tensor, Tensor], Tensor]
    block_attention: Callable[[Tensor, Tensor, Tensor, BlockMap], Tensor]
    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    rope: Callable[[Tensor, Tensor], Tensor]
    gated_add: Callable[[Tensor, Tensor, Tensor], Tensor]
    linear_gelu: Callable[[Tensor, Tensor, Tensor], Tensor]
    gated_layer_norm: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]
    ]
    added_modulate: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    gated_modulate: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    norm_rope_write: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float, Tensor, Tensor, Tensor, Tensor], Tensor
    ]
    norm_silu_write: Callable[[Tensor, Tensor | None, Tensor | None, Tensor, float, Tensor], Tensor]
    quantize: Callable[[Tensor], Quantized]
    gated_layer_norm_int8: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Quantized]
    ]
    added_modulate_int8: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Quantized]]
    gated_modulate_int8: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Quantized]
    ]
    gelu_int8: Callable[[Tensor], Quantized]
    int8_linear: Callable[[Quantized, Tensor, Tensor, Tensor], Tensor]
    names: Mapping[str, str]


@dataclass(frozen=True)
class Implementation:
    """One way to run an operation.

    Attributes:
        operation: the name of a field of :class:`Kernels`.
        name: unique within the operation, e.g. ``"cpu"``.
        module: of this package.
        function: in the module; of the operation's name where it is not given.
        devices: the device types it runs on; empty means any.
        dtypes: the dtypes of activations it runs on; empty means any.
        library: that has to be there to be imported, if any.
        capability: the least compute capability of an NVIDIA GPU that it runs on, its first number.
    """

    operation: str
    name: str
    module: str
    function: str | None = None
    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = ()
    library: str | None = None
    capability: int = 0

    @property
    def run(self) -> Callable[..., Any]:
        """The function itself; its module is imported only now, as its library may be missing."""
        module = import_module(f"longtake.kernels.{self.module}")
        function: Callable[..., Any] = getattr(module, self.function or self.operation)
        return function

    def refusal(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why it cannot run there, or None when it can."""
        if self.devices and device.type not in self.devices:
            return f"runs on {' or '.join(self.devices)}, not on {device.type}"
        if self.dtypes and dtype not in self.dtypes:
            return f"takes {' or '.join(map(str, self.dtypes))}, not {dtype}"
        if self.capability and device.type == "cuda" and torch.cuda.is_available():
            major, minor = torch.cuda.get_device_capability(device)
            if major < self.capability:
                return (
                    f"needs compute capability {self.capability}.0, and the GPU has {major}.{minor}"
                )
        if self.library and find_spec(self.library) is None:
            package = _PACKAGES.get(self.library, self.library)
            return f"needs {package}, which is not installed"
        return None


# Libraries that are installed under another name than they are imported by.
_PACKAGES = {"cudnn": "nvidia-cudnn-frontend"}
OPERATIONS = tuple(field.name for field in fields(Kernels) if field.name != "names")

# On a CPU nothing was faster than the reference of the one, and the other is for GPUs.
_REFERENCE_ONLY = {"norm_silu_write", "attention_fp8"}
# One call of torch's instead of a pass for each operation of the reference.
_ONE_CALL = ("rms_norm", "gated_add", "linear_gelu")
# Where a Triton kernel is: the rest of the operations has none.
_TRITON = {
    "block_attention": "triton_attention",
    "rope": "triton_rope",
    "gated_layer_norm": "triton_rows",
    "added_modulate": "triton_rows",
    "gated_modulate": "triton_rows",
    "norm_rope_write": "triton_rope",
    "norm_silu_write": "triton_taps",
    "quantize": "triton_rows",
    "gated_layer_norm_int8": "triton_rows",
    "added_modulate_int8": "triton_rows",
    "gated_modulate_int8": "triton_rows",
    "gelu_int8": "triton_rows",
    "int8_linear": "triton_gemm",
}
# Before Ampere Triton multiplies no int8; before Hopper nothing of ours does 8-bit floating point.
_AMPERE, _SINCE_AMPERE = 8, {"int8_linear"}
_HOPPER = 9
_HALVES = (torch.bfloat16, torch.float16)
# Later entries win where they can run; the reference always can.
_IMPLEMENTATIONS = (
    *(Implementation(op, "reference", "reference") for op in OPERATIONS),
    *(
        Implementation(op, "cpu", "cpu", devices=("cpu",))
        for op in OPERATIONS
        if op not in _REFERENCE_ONLY
    ),
    *(
        Implementation("attention", name, "sdpa", name, ("cuda",), _HALVES)
        for name in ("cudnn", "flash")
    ),
    Implementation("attention", "efficient", "sdpa", "efficient", ("cuda",)),
    Implementation("attention", "sdpa", "cpu", "fused_attention", ("cuda", "mps")),
    Implementation("attention_fp8", "sdpa", "sdpa", devices=("cuda",), capability=_HOPPER),
    Implementation(
        *("attention_fp8", "cudnn", "cudnn_fp8"),
        devices=("cuda",),
        library="cudnn",
        capability=_HOPPER,
    ),
    # It asks the host what is seen, which a GPU that is to run ahead cannot wait for.
    Implementation("block_attention", "sdpa", "cpu", devices=("mps",)),
    *(Implementation(op, "one_call", "cpu", devices=("cuda",)) for op in _ONE_CALL),
    Implementation("linear_gelu", "cublas", "cublas", devices=("cuda",), dtypes=_HALVES),
    *(
        Implementation(
            *(op, "triton", module),
            devices=("cuda",),
            library="triton",
            capability=_AMPERE if op in _SINCE_AMPERE else 0,
        )
        for op, module in _TRITON.items()
    ),
)


def implementations(operation: str) -> tuple[Implementation, ...]:
    """Every implementation of one operation, the reference first.

    Raises:
        ValueError: there is no such operation.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"no operation {operation!r}; there are {', '.join(OPERATIONS)}")
    return tuple(each for each in _IMPLEMENTATIONS if each.operation == operation)


def bind(
    device: torch.device, dtype: torch.dtype, overrides: Mapping[str, str] | None = None
) -> Kernels:
    """Choose the implementation of every operation for one device and dtype.

    Args:
        device: where the tensors will live.
        dtype: the dtype of activations.
        overrides: operation -> implementation name, chosen whatever else would be.

    Raises:
        ValueError: an override names nothing, or names what cannot run here (it says why).
    """
    overrides = overrides or {}
    for operation in overrides:
        implementations(operation)
    chosen = {op: _choose(op, device, dtype, overrides.get(op)) for op in OPERATIONS}
    return Kernels(
        **{op: each.run for op, each in chosen.items()},
        names={op: each.name for op, each in chosen.items()},
    )


def _choose(
    operation: str, device: torch.device, dtype: torch.dtype, override: str | None
) -> Implementation:
    candidates = implementations(operation)
    if override is None:
        return next(each for each in reversed(candidates) if not each.refusal(device, dtype))
    for each in candidates:
        if each.name == override:
            refusal = each.refusal(device, dtype)
            if refusal:
                raise ValueError(f"kernel {operation}={override} {refusal}")
            return each
    names = ", ".join(each.name for each in candidates)
    raise ValueError(f"no kernel {operation}={override}; there are {names}")
