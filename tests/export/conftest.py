"""Small models with batch norms that have seen something, exported once."""

import io

import numpy as np
import pytest
import torch
from exported_model import Exported
from PIL import Image

from components.data.images.preprocessing import PreprocessSettings
from components.export.onnx_export import export_onnx
from components.models.classifier import ImageClassifier, ModelSpec
from components.serving.onnx_classifier import ModelCard
from components.task.single_label import SingleLabel

SIDE = 16


@pytest.fixture(scope="session", params=["plain", "resnet18"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    file = tmp_path_factory.mktemp("onnx") / f"{request.param}.onnx"
    torch.manual_seed(0)
    spec = ModelSpec(
        architecture=request.param,
        labels=SingleLabel.of([["cat"], ["dog"], ["Ä/ö"]]),
        preprocess=PreprocessSettings(image_size_px=SIDE, resize="pad", max_megapixels=10),
        mean=[0.5, 0.4, 0.3],
        std=[0.25, 0.2, 0.1],
    )
    model = ImageClassifier(spec).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randint(0, 256, (16, SIDE, SIDE, 3), dtype=torch.uint8))
    card = ModelCard(
        architecture=spec.architecture,
        labels=spec.labels,
        preprocess=spec.preprocess,
        format="fp32",
        data_version="d" * 32,
        run_id="r" * 32,
    )
    export_onnx(model, file, card=card)
    return Exported(model, file, card)


@pytest.fixture(scope="session")
def image_files() -> list[bytes]:
    """Photographs of noise in several formats and sizes."""
    random = np.random.default_rng(0)
    contents = []
    for number in range(9):
        height, width = (int(side) for side in random.integers(10, 60, 2))
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        image.save(stream, ("JPEG", "PNG", "WEBP")[number % 3])
        contents.append(stream.getvalue())
    return contents
