from __future__ import annotations

import itertools

import pytest
import torch

from longtake.app.probe import Probe, probe
from longtake.models.video.load import load_generator


@pytest.mark.parametrize(
    ("step", "affordable"), [(0.01, 4), (0.1, 4), (0.15, 3), (0.25, 2), (0.3, 1), (9.0, 1)]
)
def test_a_slower_machine_affords_fewer_steps_and_never_none(step, affordable):
    assert Probe(fixed=0.1, step=step, chunk=0.75, most=4).affordable == affordable


def test_a_step_and_the_rest_are_told_apart(tiny_model, monkeypatch):
    """A second for every forward of the transformer, nothing for the rest."""
    generator = load_generator(tiny_model, torch.device("cpu"), torch.float32)
    forwards = itertools.count()
    clock = [0.0]

    def counted(original):
        def forward(*arguments):
            clock[0] = float(next(forwards) + 1)
            return original(*arguments)

        return forward

    for name in ("flow", "remember"):
        whole = counted(getattr(generator.transformer, name))
        monkeypatch.setattr(generator.transformer, name, whole)
    measured = probe(generator, now=lambda: clock[0])
    assert measured.step == pytest.approx(1.0)
    assert measured.fixed == pytest.approx(1.0)  # the clean pass
    assert measured.chunk == 1.0
    assert measured.most == 2
