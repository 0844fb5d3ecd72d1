"""What the captioner's probe is told, and that it learns to read it."""

from __future__ import annotations

import math

import torch

from longtake.training.probe import UNKNOWN, Probe, labels
from longtake.training.valley.captions import values_of
from longtake.training.valley.world import ATTRIBUTES, COUNTS, NAMES

SCENE = values_of([1, 2, 0, 3, 4, 1, 5, 1, 2, 3, 4])


def test_labels_are_the_values_of_what_shows() -> None:
    assert labels(SCENE) == [1, 2, 0, 3, 4, 1, 5, 1, 2, 3, 4]
    alone = labels(SCENE | {"companion": "none", "motion": "rests"})
    hidden = {name for name, value in zip(NAMES, alone, strict=True) if value == UNKNOWN}
    assert hidden == {"companion_colour", "speed"}
    assert labels({}) == [UNKNOWN] * len(ATTRIBUTES)


def test_it_learns_to_read_all_attributes() -> None:
    torch.manual_seed(0)
    probe = Probe(64)
    scenes = torch.stack([torch.randint(count, (40,)) for count in COUNTS], 1)
    scenes[::3, 7] = UNKNOWN
    hidden = torch.randn(40, 64)
    optimizer = torch.optim.Adam(probe.parameters(), 0.05)
    first, _ = probe(hidden, scenes)
    assert abs(first.item() - sum(map(math.log, COUNTS)) / len(COUNTS)) < 0.4
    for _ in range(200):
        optimizer.zero_grad()
        loss, right = probe(hidden, scenes)
        loss.backward()
        optimizer.step()
    assert float(right) > 0.99


def test_what_is_unknown_counts_for_nothing() -> None:
    torch.manual_seed(0)
    probe, hidden = Probe(8), torch.randn(3, 8)
    nothing = torch.full((3, len(COUNTS)), UNKNOWN)
    assert [value.item() for value in probe(hidden, nothing)] == [0, 0]
    assert [value.item() for value in probe(hidden[:0], nothing[:0])] == [0, 0]
    one = nothing.clone()
    one[1, 0] = 2
    loss, _ = probe(hidden, one)
    wanted = -probe.linear(probe.norm(hidden[1]))[: COUNTS[0]].log_softmax(0)[2]
    torch.testing.assert_close(loss, wanted)
