"""Noticing images unlike the training data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from components.data.images.preprocessing import PreprocessSettings
from components.evaluation.ood import fit_ood_threshold, folder_images, noise_images, ood_scores, shuffled_images
from components.shared.errors import DataError, SettingsError
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule

TASK = SingleLabel(classes=list("abc"))


def test_confident_answers_are_separated_from_flat_ones_and_chance_is_a_half() -> None:
    random = np.random.default_rng(0)
    known = (8 * np.eye(3)[random.integers(0, 3, 300)] + random.normal(size=(300, 3))).astype(np.float32)
    flat = random.normal(size=(200, 3)).astype(np.float32)
    threshold = fit_ood_threshold(known, TASK, keep=0.95)
    assert threshold is not None
    assert fit_ood_threshold(known[:19], TASK, keep=0.95) == TASK.ood_score(known[:19]).max()
    assert fit_ood_threshold(known[:18], TASK, keep=0.95) is None
    assert (TASK.ood_score(known) > threshold).mean() == pytest.approx(0.05, abs=0.01)
    found = ood_scores("flat", known, flat, TASK, rule=DecisionRule(), threshold=threshold)
    assert found.energy_auroc > 0.99
    assert found.max_probability_auroc > 0.95
    assert found.detected > 0.95
    other_N, energy_N = np.arange(500) >= 300, TASK.ood_score(np.concatenate([known, flat]))
    assert found.energy_auroc == pytest.approx(roc_auc_score(other_N, energy_N))
    same = ood_scores("same", known[:150], known[150:], TASK, rule=DecisionRule(), threshold=threshold)
    assert same.energy_auroc == pytest.approx(0.5, abs=0.1)
    assert same.detected < 0.15
    for low, high in (same.energy_auroc_interval, same.max_probability_auroc_interval):
        assert low < 0.5 < high
        assert 0.05 < high - low < 0.2
    assert same.detected_interval[0] < 0.05 < same.detected_interval[1]


def test_shuffled_images_keep_every_pixel_and_noise_keeps_none() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    shuffled = shuffled_images(images, seed=7)
    assert np.array_equal(np.sort(shuffled, axis=None), np.sort(images, axis=None))
    assert not np.array_equal(shuffled, images)
    assert np.array_equal(shuffled, shuffled_images(images, seed=7))
    noise = noise_images(3, 32, seed=7)
    assert noise.shape == (3, 32, 32, 3)
    assert np.array_equal(noise[:2], noise_images(2, 32, seed=7))
    assert shuffled_images(np.zeros((1, 3, 3, 3), np.uint8), seed=0).shape == (1, 3, 3, 3)


def test_a_given_folder_is_read_from_end_to_end_and_what_holds_no_image_is_refused(tmp_path: Path) -> None:
    settings = PreprocessSettings(image_size_px=8, resize="crop", max_megapixels=1)
    (tmp_path / "deep").mkdir()
    with pytest.raises(SettingsError, match=r"evaluate\.ood: .*gone isn't there; give a folder of images, or null"):
        folder_images(tmp_path / "gone", settings, most=5)
    (tmp_path / "deep" / "broken.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image either")
    with pytest.raises(DataError, match="holds no image that can be read; give another folder, or null"):
        folder_images(tmp_path, settings, most=5)
    for number in range(9):
        Image.new("RGB", (10, 8), (20 * number, 0, 0)).save(tmp_path / "deep" / f"{number}.png")
    reds = folder_images(tmp_path / "deep", settings, most=3)[:, 0, 0, 0]
    # Of ten files the first, a middle and the last, which can't be read.
    assert reds.tolist() == [0, 80]
    assert len(folder_images(tmp_path, settings, most=100)) == 9
