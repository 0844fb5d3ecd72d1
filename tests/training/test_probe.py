"""What the captioner's probe is told, and that it learns to read it."""

from __future__ import annotations

import math

import torch

from longtake.training.probe import UNKNOWN, Probe, changes_of, labels
from longtake.training.valley.captions import values_of
from longtake.training.valley.world import ATTRIBUTES, COUNTS, NAMES

SCENE = values_of([1, 2, 0, 3, 4, 1, 5, 1, 2, 3, 4])


def test_labels_are_the_values_of_what_shows() -> None:
    assert labels(SCENE) == [1, 2, 0, 3, 4, 1, 5, 1, 2, 3, 4]
    alone = labels(SCENE | {"companion": "none", "motion": "rests"})
    hidden = {name for name, value in zip(NAMES, alone, strict=True) if value == UNKNOWN}
    assert hidden == {"companion_colour", "speed"}
    assert labels({}) == [UNKNOWN] * len(ATTRIBUTES)


def test_a_change_is_one_of_the_second_before() -> None:
    alone = SCENE | {"companion": "none"}
    seconds = [SCENE, SCENE, SCENE | {"colour": "red"}, alone, SCENE]
    clips = torch.tensor([[labels(scene) for scene in seconds], [labels({})] * 5])
    changed, nothing = changes_of(clips)
    assert (changed[0] == UNKNOWN).all()
    assert not changed[1].any()
    named = [
        {name: value for name, value in zip(NAMES, row, strict=True) if value}
        for row in changed[2:].tolist()
    ]
    # A colour that does not show has not become another one.
    gone = {"companion": 1, "companion_colour": UNKNOWN}
    assert named == [{"colour": 1}, {"colour": 1, **gone}, gone]
    assert (nothing == UNKNOWN).all()


def test_it_learns_to_read_all_attributes_and_their_changes() -> None:
    torch.manual_seed(0)
    probe = Probe(64)
    scenes = torch.stack([torch.randint(count, (4, 10)) for count in COUNTS], -1)
    scenes[:, ::3, 7] = UNKNOWN
    hidden = torch.randn(40, 64)
    optimizer = torch.optim.Adam(probe.parameters(), 0.05)
    first = probe(hidden, scenes)["seen"].item()
    assert abs(first - sum(map(math.log, COUNTS)) / len(COUNTS)) < 0.4
    for _ in range(200):
        optimizer.zero_grad()
        found = probe(hidden, scenes)
        (found["seen"] + found["changed"]).backward()
        optimizer.step()
    assert found["right_seen"].item() > 0.99
    assert found["right_changed"].item() > 0.99


def test_what_is_unknown_counts_for_nothing() -> None:
    torch.manual_seed(0)
    probe, hidden = Probe(8), torch.randn(3, 8)
    nothing = torch.full((1, 3, len(COUNTS)), UNKNOWN)
    assert not any(value.item() for value in probe(hidden, nothing).values())
    assert not any(value.item() for value in probe(hidden[:0], nothing[:, :0]).values())
    some = nothing.clone()
    # One attribute for a second, one that changes and one that stays.
    known = {(1, 0): 2, (0, 3): 5, (1, 3): 7, (1, 4): 6, (2, 4): 6}
    for (second, column), value in known.items():
        some[0, second, column] = value
    found, normed = probe(hidden, some), probe.norm(hidden)
    logits = probe.linear(normed).split(COUNTS, -1)
    each = [
        logits[column][second].log_softmax(0)[value] for (second, column), value in known.items()
    ]
    torch.testing.assert_close(found["seen"], -torch.stack(each).mean())
    odds = probe.changes(normed)
    wanted = -odds[1, 3].sigmoid().log() - (1 - odds[2, 4].sigmoid()).log()
    torch.testing.assert_close(found["changed"], wanted)
