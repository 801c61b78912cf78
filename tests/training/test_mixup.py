"""Mixed images: what is blended, pasted and erased has the stated weights, and is the same each time."""

import numpy as np
import pytest
import torch
from torch import Tensor

from components.training.mixup import Mixed, mix

NONE = {"mixup": 0.0, "cutmix": 0.0, "random_erasing": 0.0}


def images(count: int = 6, side: int = 16) -> Tensor:
    """Image b has the value 10 b everywhere."""
    return (10 * torch.arange(count, dtype=torch.uint8)).view(-1, 1, 1, 1).expand(count, side, side, 3).contiguous()


def mixed(seed: int = 1, **settings: float) -> Mixed:
    torch.manual_seed(seed)
    return mix(images(), **(NONE | settings), random=np.random.default_rng(seed))


def test_nothing_is_mixed_where_nothing_is_asked_for() -> None:
    result = mixed()
    assert torch.equal(result.images_BHWC, images())
    assert result.partner_B is None


def test_a_blend_has_the_stated_weights_of_both_images() -> None:
    result = mixed(mixup=1.0)
    assert result.partner_B is not None
    own = result.own_weight
    wanted = own * images().float() + (1 - own) * images()[result.partner_B].float()
    assert torch.allclose(result.images_BHWC, wanted, atol=1e-3)
    assert 0 < own < 1


def test_a_pasted_window_covers_what_is_not_the_images_own_weight() -> None:
    for seed in range(20):
        result = mixed(seed, cutmix=1.0)
        assert result.partner_B is not None
        assert result.images_BHWC.dtype == torch.uint8
        mixed_B = result.partner_B != torch.arange(6)
        foreign = (result.images_BHWC != images()).float().mean(dim=(1, 2, 3))[mixed_B]
        assert foreign == pytest.approx(torch.full_like(foreign, 1 - result.own_weight), abs=1e-6)


def test_each_of_both_ways_comes_where_both_are_asked_for() -> None:
    types = [mixed(seed, mixup=1.0, cutmix=1.0).images_BHWC.dtype for seed in range(20)]
    assert set(types) == {torch.float32, torch.uint8}


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_a_single_image_stays_as_it_is(way: str) -> None:
    result = mix(images(2)[1:], **(NONE | {way: 1.0}), random=np.random.default_rng(0))
    assert torch.allclose(result.images_BHWC.float(), images(2)[1:].float())


def test_erasing_makes_a_hole_in_a_fraction_of_the_images_and_leaves_the_batch_as_it_was() -> None:
    before = images()
    result = mix(before, mixup=0, cutmix=0, random_erasing=1.0, random=np.random.default_rng(0))
    changed = (result.images_BHWC != before).any(dim=-1).float().mean(dim=(1, 2))
    assert (changed > 0).all()
    assert (changed < 0.5).all()
    assert torch.equal(before, images())
    assert torch.equal(mixed(random_erasing=0.0).images_BHWC, images())


def test_equal_random_states_mix_alike_and_others_do_not() -> None:
    settings = {"mixup": 0.4, "cutmix": 1.0, "random_erasing": 0.5}
    assert torch.equal(mixed(3, **settings).images_BHWC, mixed(3, **settings).images_BHWC)
    assert not torch.equal(mixed(3, **settings).images_BHWC, mixed(4, **settings).images_BHWC)
