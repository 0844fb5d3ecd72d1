from __future__ import annotations

import pytest
import torch

from longtake.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 24, 8), (2, 8, 24)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices).float())
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_step_is_that_of_torchs_own_muon() -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = [(12, 12), (12, 12), (24, 8), (8, 24)]
    ours = [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]
    theirs = [each.detach().clone().requires_grad_() for each in ours]
    muon = Muon(ours, rate=0.02, decay=0.1)
    reference = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            gradient = torch.randn(one.shape, generator=draw)
            one.grad, other.grad = gradient.clone(), gradient.clone()
        muon.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)
