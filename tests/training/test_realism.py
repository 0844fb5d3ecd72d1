from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtake.training import realism
from longtake.training.pool import renders
from longtake.training.valley.world import Scenes, sample_attributes, sample_layout

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def films() -> tuple[Tensor, Tensor]:
    """Two sets of renders of the same rows in other layouts."""
    draw = torch.Generator().manual_seed(0)
    rows = sample_attributes(24, draw)
    both = []
    for _ in range(2):
        scenes = Scenes(rows, sample_layout(len(rows), draw))
        parts = renders(scenes, scenes, start=3.0, frames=32, change=0.0, device=CPU)
        both.append(torch.cat(list(parts)))
    return both[0], both[1]


def test_area_under_the_curve() -> None:
    assert realism.auc(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])) == 0.75
    assert realism.auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0])) == 0.5
    assert realism.auc(torch.tensor([0.0]), torch.tensor([1.0])) == 0


def test_two_sets_of_renders_cannot_be_told_apart(films: tuple[Tensor, Tensor]) -> None:
    assert realism.realism_auc(*films, 0, CPU) == pytest.approx(0.5, abs=0.15)


def test_blurred_films_can(films: tuple[Tensor, Tensor]) -> None:
    soft = F.avg_pool2d(films[0].flatten(0, 1).float(), 4)
    soft = F.interpolate(soft, scale_factor=4.0, mode="bilinear")
    blurred = soft.round().to(torch.uint8).view_as(films[0])
    kept = torch.get_rng_state()
    area = realism.realism_auc(blurred, films[1], 0, CPU)
    assert area > 0.9
    assert torch.equal(torch.get_rng_state(), kept)


def test_films_have_to_be_enough_and_long_enough(films: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="4 films"):
        realism.realism_auc(films[0][:4], films[1][:4], 0, CPU)
    with pytest.raises(ValueError, match="8 frames"):
        realism.realism_auc(films[0][:, :8], films[1][:, :8], 0, CPU)
