"""A small model as it ships, and image files good and bad."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from components.data.images.preprocessing import PreprocessSettings
from components.export.onnx_export import export_onnx
from components.models.classifier import ImageClassifier, ModelSpec
from components.serving.onnx_classifier import ModelCard
from components.task.single_label import SingleLabel
from components.task.task import DecisionRule

CLASSES = ["cat", "dog, big", "Ä/ö"]
LABELS = SingleLabel.of([[name] for name in CLASSES])


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("serving") / "model.onnx"
    torch.manual_seed(0)
    preprocess = PreprocessSettings(image_size_px=16, resize="crop", max_megapixels=1)
    spec = ModelSpec(architecture="lenet5", labels=LABELS, preprocess=preprocess, mean=[0.5] * 3, std=[0.05] * 3)
    card = ModelCard(
        architecture="lenet5",
        labels=LABELS,
        preprocess=preprocess,
        format="fp32",
        data_version="d",
        run_id="r",
        decision_rule=DecisionRule(coverage=0.9, set_thresholds=[[0.3] * 3], ood_threshold=5.0, ood_keep=0.95),
    )
    export_onnx(ImageClassifier(spec), file, card=card)
    return file


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than a batch holds, including every type of bad file."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for number in range(70):
        pixels = random.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 18)).save(folder / f"{number:02d}.png")
    (folder / "sub").mkdir()
    Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / "sub" / 'ä, "b".JPG', "JPEG")
    whole = (folder / "sub" / 'ä, "b".JPG').read_bytes()
    (folder / "bad_cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bad_empty.png").write_bytes(b"")
    (folder / "bad_text.png").write_text("no image\n")
    Image.new("RGB", (1001, 1000)).save(folder / "bad_large.png")
    (folder / "notes.txt").write_text("left out")
    return folder
