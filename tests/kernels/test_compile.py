"""Every Triton kernel compiles for an H100; no GPU is needed for that."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# Types by argument; whatever is not named is an int32 that 16 divides.
SCRIPT = """
from triton import compile as compiled
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from longtake.kernels import triton_attention, triton_gemm, triton_rope, triton_rows, triton_taps

HALF = "x y gate shift factor total q k v q_weight k_weight keys values bias out".split()
TYPES = dict.fromkeys(HALF, "*bf16") | {"scales": "*fp32", "rotation": "*fp32", "eps": "fp32"}
TYPES |= {"block_keys": "*i32", "counts": "*i32", "softmax_scale": "fp32"}
TYPES |= {"x_scale": "*fp32", "weight_scale": "*fp32", "weight": "*i8", "slots": "*i64"}


def check(kernel, constants, stages=3, capability=90, **types):
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else (TYPES | types).get(name, "i32")
        for name in names
    }
    places = {(names.index(name),): value for name, value in constants.items()}
    even = [
        i
        for i, name in enumerate(names)
        if not signature[name].startswith(("constexpr", "fp32", "tensordesc"))
    ]
    source = ASTSource(kernel, signature, places, {(i,): [["tt.divisibility", 16]] for i in even})
    options = {"num_stages": stages, "num_warps": 8}
    result = compiled(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert result.asm["cubin"]
    return result.asm["ptx"]


for quantize in (False, True):
    flags = {"GATED": True, "MODULATE": True, "QUANTIZE": quantize, "BLOCK": 2048}
    check(triton_rows._norm, flags, out="*i8" if quantize else "*bf16")
check(triton_rows._activate, {"GELU": True, "HEAD": 8192, "TAIL": 1024}, out="*i8")
check(triton_rope._rope, {"HEAD": 128, "BLOCK": 2048})
write = {"HEAD": 128, "BLOCK": 2048}
check(triton_rope._norm_rope_write, write)
small = dict.fromkeys(("out", "keys", "values"), "*fp8e4nv")
assert "cvt.rn.satfinite.e4m3x2" in check(triton_rope._norm_rope_write, write, **small)
taps = {"CHANNELS": 96, "TAPS": 3, "ADD": True, "BIASED": True, "ROWS": 32, "BLOCK": 128}
check(triton_taps._norm_silu_write, taps, residual="*bf16", weight="*bf16")
tile = {"INPUTS": 1536, "WIDTH": 1536, "SIDE": 128, "GROUP": 4, "DESCRIBED": True}
shape = {"HEAD": 128, "STEP": 128, "WIDTH": 128, "ROWS": 128, "KEYS": 64, "EVEN": True}
shape["DESCRIBED"] = True
keys = "tensordesc<bf16[1, 64, 128]>"
queries = "tensordesc<bf16[1, 128, 128]>"
made = check(triton_attention._attend, shape, stages=2, q=queries, k=keys, v=keys)
assert ".f32.bf16.bf16" in made
assert "cp.async.bulk.tensor" in made
small = {name: kind.replace("bf16", "fp8e4nv") for name, kind in {"q": queries, "k": keys}.items()}
made = check(triton_attention._attend, shape, stages=2, v=small["k"], **small)
assert ".f32.e4m3.e4m3" in made
assert ".f32.f16.f16" in made
tiles = dict.fromkeys(("x", "weight"), "tensordesc<i8[128, 128]>")
made = check(triton_gemm._linear, tile, out="tensordesc<bf16[128, 128]>", **tiles)
assert "wgmma" in made
assert ".s32.s8.s8" in made
assert made.count("cp.async.bulk.tensor") > 1
# On an A100, which has no unit that moves tiles, loads are still many bytes wide and on their way
# while others are multiplied.
made = check(triton_attention._attend, shape | {"DESCRIBED": False}, stages=2, capability=80)
assert made.count("cp.async.cg") >= 8
made = check(triton_gemm._linear, tile | {"DESCRIBED": False}, capability=80, x="*i8")
assert made.count("cp.async.cg") >= 8
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_every_kernel_compiles_and_int8_products_run_on_tensor_cores(tmp_path):
    # In a process of its own: in this one kernels may be the interpreter's.
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
