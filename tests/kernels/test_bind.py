"""Choosing an implementation for every operation."""

from __future__ import annotations

import pytest
import torch

from longtake.kernels import Implementation, bind, implementations
from longtake.kernels.registry import OPERATIONS

CPU = torch.device("cpu")
DEVICES = tuple(map(torch.device, ("cpu", "cuda", "mps")))


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_implementation_that_can_run_is_bound_and_its_name_recorded(device, dtype):
    table = bind(device, dtype)
    assert tuple(table.names) == OPERATIONS
    for operation in OPERATIONS:
        fit = [each for each in implementations(operation) if not each.refusal(device, dtype)]
        assert table.names[operation] == fit[-1].name
        assert getattr(table, operation) is fit[-1].run


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_implementation_can_be_chosen_where_it_runs(operation):
    for each in implementations(operation):
        if each.refusal(CPU, torch.float32):
            continue
        table = bind(CPU, torch.float32, {operation: each.name})
        assert getattr(table, operation) is each.run
        assert table.names[operation] == each.name
        untouched = bind(CPU, torch.float32).names
        others = {op: name for op, name in table.names.items() if op != operation}
        assert others.items() <= untouched.items()


def test_all_operations_can_be_overridden_together():
    table = bind(CPU, torch.float32, dict.fromkeys(OPERATIONS, "reference"))
    assert set(table.names.values()) == {"reference"}


def test_an_override_that_cannot_run_here_says_why():
    with pytest.raises(ValueError, match=r"attention=sdpa runs on cuda or mps, not on cpu"):
        bind(CPU, torch.float32, {"attention": "sdpa"})


def test_an_unknown_operation_is_refused_with_a_list_of_those_there_are():
    with pytest.raises(ValueError, match=r"'warp'.*" + ".*".join(OPERATIONS)):
        bind(CPU, torch.float32, {"warp": "reference"})
    with pytest.raises(ValueError, match="'warp'"):
        implementations("warp")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_unknown_implementation_is_refused_with_a_list_of_those_there_are(operation):
    names = ", ".join(each.name for each in implementations(operation))
    with pytest.raises(ValueError, match=f"{operation}=abacus; there are {names}"):
        bind(CPU, torch.float32, {operation: "abacus"})


@pytest.mark.parametrize(
    ("device", "dtype", "refusal"),
    [
        ("cuda", torch.bfloat16, None),
        ("cpu", torch.bfloat16, "runs on cuda, not on cpu"),
        ("cuda", torch.float32, "takes torch.bfloat16 or torch.float16, not torch.float32"),
    ],
)
def test_a_refusal_names_what_does_not_fit(device, dtype, refusal):
    picky = Implementation(
        "quantize", "picky", "cpu", devices=("cuda",), dtypes=(torch.bfloat16, torch.float16)
    )
    assert picky.refusal(torch.device(device), dtype) == refusal


@pytest.mark.parametrize(
    ("library", "package"), [("abacus", "abacus"), ("cudnn", "nvidia-cudnn-frontend")]
)
def test_a_missing_library_is_named_as_it_is_installed(library, package, monkeypatch):
    monkeypatch.setattr("longtake.kernels.registry.find_spec", lambda name: None)
    needy = Implementation("quantize", "needy", "nowhere", library=library)
    assert needy.refusal(CPU, torch.float32) == f"needs {package}, which is not installed"


@pytest.mark.parametrize(
    ("capability", "bound", "refusal"),
    [
        ((7, 5), "reference", "needs compute capability 8.0, and the GPU has 7.5"),
        ((8, 0), "triton", None),
        ((12, 1), "triton", None),
    ],
)
def test_int8_products_are_not_for_gpus_on_which_they_cannot_be_compiled(
    monkeypatch, capability, bound, refusal
):
    pytest.importorskip("triton")
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    names = bind(cuda, torch.float16).names
    assert (names["int8_linear"], names["rope"]) == (bound, "triton")
    assert implementations("int8_linear")[-1].refusal(cuda, torch.float16) == refusal


@pytest.mark.parametrize(
    ("capability", "refusal"),
    [((8, 9), "needs compute capability 9.0, and the GPU has 8.9"), ((9, 0), None)],
)
def test_attention_in_fp8_is_for_gpus_from_hopper_on(monkeypatch, capability, refusal):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr("longtake.kernels.registry.find_spec", lambda name: name)
    reference, *others = implementations("attention_fp8")
    assert [each.name for each in others] == ["sdpa", "cudnn"]
    assert {each.refusal(cuda, torch.bfloat16) for each in others} == {refusal}
    assert reference.refusal(cuda, torch.bfloat16) is None


def test_a_numbered_device_is_of_its_type():
    assert bind(torch.device("cuda:1"), torch.float32).names == (
        bind(torch.device("cuda"), torch.float32).names
    )
