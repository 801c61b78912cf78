"""The loss of each label type, compared with values computed by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection

from components.shared.errors import SettingsError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.training.losses import image_losses

SINGLE = SingleLabel.of(["a", "b", "c"])
SET = MultiLabel.of([["a", "b"]])
TREE = Hierarchy.of([("fruit", "apple"), ("fruit", "pear"), ("milk", "oat")], ["coarse", "fine"])


def test_single_labels_have_the_cross_entropy() -> None:
    logits, target = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), tensor([0, 2, 1, 1])
    expected = F.cross_entropy(logits, target, label_smoothing=0.1)
    assert torch.allclose(image_losses(logits, target, SINGLE, label_smoothing=0.1).mean(), expected)


def test_sets_have_the_mean_binary_cross_entropy_of_their_labels() -> None:
    logits = tensor([[math.log(3), 0.0]])
    target = tensor([[True, False]])
    assert image_losses(logits, target, SET).item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    smoothed = image_losses(logits, target, SET, label_smoothing=0.2).item()
    assert smoothed == pytest.approx((-0.9 * math.log(0.75) - 0.1 * math.log(0.25) - math.log(0.5)) / 2)


@pytest.mark.parametrize("weights", [None, [1.0, 0.5], [0.0, 2.0]])
def test_a_hierarchy_has_the_weighted_sum_over_its_levels(weights: list[float] | None) -> None:
    logits, target = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)), tensor([0, 1, 2])
    coarse = F.cross_entropy(logits[:, :2], tensor([0, 0, 1]))
    fine = F.cross_entropy(logits[:, 2:], target)
    one, other = weights or (1.0, 1.0)
    found = image_losses(logits, target, TREE, level_weights=weights)
    assert torch.allclose(found.mean(), one * coarse + other * fine)


def test_logits_of_the_leaves_are_those_that_serving_reads() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(TREE.metric_inputs(logits), torch.from_numpy(TREE.class_logits(logits.numpy())), atol=1e-6)


def test_a_set_counts_as_right_when_all_of_it_is() -> None:
    scores = MetricCollection(SET.validation_metrics(), prefix="val_")
    # The metrics take numbers between 0 and 1 for probabilities: these logits are all of that kind.
    logits = tensor([[0.6, 0.1], [0.2, 0.9], [-0.5, 0.8]])
    scores.update(SET.metric_inputs(logits), tensor([[True, True], [True, False], [False, True]]))
    found = scores.compute()
    assert found["val_accuracy"].item() == pytest.approx(2 / 3)
    assert found["val_macro_f1"].item() == pytest.approx((1 + 4 / 5) / 2)


def test_level_weights_that_fit_no_level_are_refused() -> None:
    TREE.check_level_weights([1.0, 0.8])
    SET.check_level_weights(None)
    with pytest.raises(
        SettingsError, match=r"level_weights: has 3 numbers, .* one for each of the levels coarse, fine"
    ):
        TREE.check_level_weights([1.0, 0.8, 0.6])
    with pytest.raises(SettingsError, match=r"level_weights: is set, .* have no levels; set it to null"):
        SINGLE.check_level_weights([1.0])


def test_focal_loss_weighs_an_image_by_what_is_missing_to_certainty() -> None:
    logits, target = tensor([[math.log(6), math.log(3), 0.0]] * 2), tensor([0, 2])
    probability = tensor([0.6, 0.1])
    loss_B = image_losses(logits, target, SINGLE, kind="focal", focal_gamma=2.0)
    assert torch.allclose(loss_B, -((1 - probability) ** 2) * probability.log())
    none = image_losses(logits, target, SINGLE, kind="focal", focal_gamma=0.0)
    assert torch.allclose(none, image_losses(logits, target, SINGLE))


def test_focal_loss_of_sets_weighs_each_label() -> None:
    logits, target = tensor([[math.log(3), 0.0]]), tensor([[True, False]])
    expected = (-(0.25**2) * math.log(0.75) - 0.5**2 * math.log(0.5)) / 2
    assert image_losses(logits, target, SET, kind="focal", focal_gamma=2.0).item() == pytest.approx(expected)


def test_binary_cross_entropy_of_single_labels_sets_each_class_against_the_rest() -> None:
    logits, target = tensor([[math.log(3), 0.0, -math.log(3)]]), tensor([0])
    expected = -(math.log(0.75) + math.log(0.5) + math.log(0.75)) / 3
    assert image_losses(logits, target, SINGLE, kind="binary_cross_entropy").item() == pytest.approx(expected)


def test_class_weights_multiply_images_and_in_sets_the_labels_that_are_there() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    target, weight_K = tensor([0, 2, 1]), tensor([2.0, 1.0, 0.5])
    weighted = image_losses(logits, target, SINGLE, class_weight_K=weight_K)
    assert torch.allclose(weighted, tensor([2.0, 0.5, 1.0]) * image_losses(logits, target, SINGLE))
    logits, target = tensor([[0.0, 0.0]]), tensor([[True, False]])
    loss_B = image_losses(logits, target, SET, class_weight_K=tensor([3.0, 5.0]))
    assert loss_B.item() == pytest.approx((3 + 1) * math.log(2) / 2)
    logits, target = torch.zeros(2, 5), tensor([0, 2])
    tree_B = image_losses(logits, target, TREE, class_weight_K=tensor([2.0, 1.0, 1.0]))
    assert tree_B[0].item() == pytest.approx(2 * tree_B[1].item())
