"""The choice of an attention by measurement; without a GPU, by times that are made up."""

from __future__ import annotations

import pytest
import torch

from longtake.kernels import AttentionShape, bind, fastest_attention, implementations
from longtake.kernels.choice import fastest
from longtake.kernels.reference import attention

GPU = [each for each in implementations("attention") if "cuda" in each.devices]


def choose(times):
    """Of the attentions for GPUs, by the times of some; the others do not run."""
    names = {each.run: each.name for each in GPU}

    def seconds_of(run, inputs):
        if names[run] not in times:
            raise RuntimeError("No available kernel. Aborting execution.")
        return times[names[run]]

    return fastest(GPU, (), seconds_of)


def test_the_attentions_for_gpus_are_there_and_torchs_own_choice_comes_last():
    assert [each.name for each in GPU] == ["cudnn", "flash", "efficient", "sdpa"]
    assert bind(torch.device("cuda"), torch.bfloat16).names["attention"] == "sdpa"


@pytest.mark.parametrize(
    ("times", "name"),
    [
        ({"cudnn": 1.0, "flash": 1.8, "efficient": 2.5, "sdpa": 1.8}, "cudnn"),
        ({"cudnn": 1.8, "flash": 1.0, "efficient": 2.5, "sdpa": 1.8}, "flash"),
        ({"efficient": 2.5, "sdpa": 2.8}, "efficient"),
        ({"cudnn": 0.96, "flash": 0.97, "sdpa": 1.0}, "sdpa"),
        ({"flash": 1.0}, "flash"),
        ({}, "sdpa"),
    ],
)
def test_the_fastest_is_chosen_where_it_is_clearly_faster(times, name):
    assert choose(times) == name


def test_running_out_of_memory_is_no_reason_to_choose_another():
    def seconds_of(run, inputs):
        raise torch.OutOfMemoryError("the card is full")

    with pytest.raises(torch.OutOfMemoryError):
        fastest(GPU, (), seconds_of)


def test_on_a_cpu_nothing_is_measured():
    shape = AttentionShape(10**9, 10**9, 10**3, 10**3)
    assert fastest_attention(shape, torch.device("cpu"), torch.float32) == {}


def test_halves_are_asked_for_where_they_are_needed():
    refused = {each.name for each in GPU if each.refusal(torch.device("cuda"), torch.float32)}
    assert refused == {"cudnn", "flash"}


@pytest.mark.parametrize("name", ["flash"])
def test_a_backend_that_a_cpu_has_too_is_the_reference(name):
    """Of the three, torch serves one on CPUs; the others are compared where there is a GPU."""
    run = next(each.run for each in GPU if each.name == name)
    q, k = torch.randn(1, 5, 2, 8), torch.randn(1, 9, 2, 8)
    torch.testing.assert_close(run(q, k, k), attention(q, k, k), rtol=1e-4, atol=1e-5)
