"""Choosing a token."""

from __future__ import annotations

import torch

from longtake.models.vlm.sampling import choose, penalise


def test_the_choice_follows_the_probabilities():
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    drawn = [choose(logits, 0.8, 0, (1, 0, index)) for index in range(4000)]
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / len(drawn)
    assert torch.allclose(shares, (logits / 0.8).softmax(0), atol=0.03)


def test_only_the_likeliest_are_drawn_from():
    logits = torch.tensor([0.0, 1.0, 2.0, 1.5])
    assert {choose(logits, 2.0, 2, (1, 0, index)) for index in range(200)} == {2, 3}
    assert choose(logits, 0.0, 0, (1, 0, 0)) == 2


def test_what_was_said_is_penalised_once_whatever_its_sign():
    logits = torch.tensor([2.0, -2.0, 3.0])
    told = penalise(logits, torch.tensor([0, 1, 1]), 2.0)
    assert told.tolist() == [1.0, -4.0, 3.0]
    assert penalise(logits, torch.tensor([0]), 1.0).tolist() == logits.tolist()
