"""Pre-training on one domain and training in another, with the source's model as initial weights and as teacher."""

import shutil
from pathlib import Path

import pytest
import torch
from logged import logged
from PIL import Image, ImageOps
from projects import REPOSITORY, isolate, prepared_from, write_shapes

from components.models.classifier import load_classifier
from components.shared.errors import SettingsError
from components.shared.files import read_json
from flows.experiments.features import write_features
from flows.project.params import override
from flows.session.session import Prepared, Session, open_session
from flows.steps.step import Results
from flows.steps.train import Train, train_fingerprint
from flows.tracking import runs

SETTINGS = [
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    "train.epochs=1",
    "train.batch_size=16",
    "train.augment=false",
    "augment.copies=0",
    "augment.policy=none",
    "validate.images_per_class={at_least: 2, level: stop}",
]
FROM_SOURCE = [
    "register.name=target",
    "model.weights=models:/source@champion",
    "train.teacher=models:/source@champion",
    # So small that what is learned leaves the weights where they were.
    "train.learning_rate=0.0000001",
]


def opened(folder: Path, images: Path, settings: list[str]) -> tuple[Session, Prepared]:
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    override(folder / "params.yaml", [*SETTINGS, *settings], check=lambda _: None)
    session = open_session(str(folder))
    return session, prepared_from(session, images)


def negatives(source: Path, target: Path) -> Path:
    """The same shapes, dark on a bright ground."""
    for file in source.rglob("*.png"):
        inverted = target / file.relative_to(source)
        inverted.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(file)).save(inverted)
    return target


def test_two_lines_carry_a_model_to_another_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    shapes = write_shapes(tmp_path / "shapes", each=24)
    source, prepared = opened(tmp_path / "source", shapes, ["register.name=source"])
    run_id = Train().run(source, Results(prepared)).run_id
    client = source.tracking.client
    client.create_registered_model("source")
    for _ in range(2):
        client.create_model_version("source", source=f"runs:/{run_id}/model", run_id=run_id, tags={"step": "train"})
    client.set_registered_model_alias("source", "champion", "1")
    start = load_classifier(runs.fetch(source.tracking, run_id, "model", step="train"))

    monkeypatch.chdir(source.project.root)
    written = write_features("models:/source@champion", weights=None, image_size_px=None, out=tmp_path / "f.onnx")
    assert written.features == 84
    with pytest.raises(SettingsError, match="models:/source: should read NAME@ALIAS"):
        write_features("models:/source", weights=None, image_size_px=None, out=tmp_path / "f.onnx")

    target, prepared = opened(tmp_path / "target", negatives(shapes, tmp_path / "negatives"), FROM_SOURCE)
    with logged() as messages:
        trained = Train().run(target, Results(prepared))
    assert any("the weights are those of models:/source/1" in message for message in messages)
    found = load_classifier(runs.fetch(target.tracking, trained.run_id, "model", step="train"))
    assert found.spec.mean == start.spec.mean, "normalization follows the weights"
    for name, value in start.state_dict().items():
        assert torch.allclose(found.state_dict()[name].float(), value.float(), atol=1e-4), name
    (job,) = (target.project.work / "train").glob("*/job.json")
    assert load_classifier(Path(read_json(job)["teacher"])).spec == start.spec
    before = train_fingerprint(target, prepared)
    client.set_registered_model_alias("source", "champion", "2")
    assert train_fingerprint(target, prepared) != before, "another champion is another start"
