"""Each fold is scored by a model that was trained without it, once; real trainings, without a server or DVC."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from projects import QUICK, REPOSITORY, isolate, prepared_from, write_shapes

from components.shared.errors import SettingsError
from flows.experiments.cross_validate import CrossValidated, ScoreFold, images_by_fold, show_folds, validate_folds
from flows.project.dvc import data_paths
from flows.project.params import override
from flows.session.preflight import check_folds
from flows.session.session import Prepared, Session, open_session
from flows.steps.step import Results

SETTINGS = (
    *QUICK,
    "preprocess.image_size_px=16",
    "model.architecture=lenet5",
    "train.epochs=1",
    "train.batch_size=16",
    "train.augment=false",
    "finetune.epochs=0",
    "augment.policy=none",
    "split.folds=2",
    "validate.images_per_class.at_least=1",
    "register.name=shapes",
)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Prepared]]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        folder = tmp_path_factory.mktemp("folds")
        project = folder / "project"
        project.mkdir()
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy(REPOSITORY / name, project / name)
        override(project / "params.yaml", list(SETTINGS), check=lambda _: None)
        session = open_session(str(project))
        yield session, prepared_from(session, write_shapes(folder / "shapes", each=24))


@pytest.fixture(scope="module")
def found(ready: tuple[Session, Prepared]) -> CrossValidated:
    return validate_folds(*ready, ready[0].project.root / "out.parquet")


def test_each_image_of_train_and_val_is_predicted_once_by_a_model_that_has_not_seen_it(
    ready: tuple[Session, Prepared], found: CrossValidated
) -> None:
    split = pq.read_table(data_paths(ready[0].project).split / "split.parquet").to_pylist()
    fold_of = {row["path"]: row["fold"] for row in split if row["split"] in ("train", "val")}
    predicted = pq.read_table(found.predictions).to_pylist()
    assert {row["path"]: row["fold"] for row in predicted} == fold_of
    assert len(predicted) == len(fold_of)
    for fold, images in enumerate(images_by_fold(ready[0])):
        assert {image.path for image in images if image.split == "val"} == {
            path for path, own in fold_of.items() if own == fold
        }


def test_the_table_has_each_fold_its_mean_and_its_spread(
    found: CrossValidated, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (one.accuracy for one in found.folds)
    assert found.mean["accuracy"] == pytest.approx((first + second) / 2)
    assert found.spread["accuracy"] == pytest.approx(abs(first - second) / 2**0.5)
    sentence = show_folds(found)
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["0", "1", "mean", "standard"]
    assert f"accuracy {found.mean['accuracy']:.4f} ±" in sentence


def test_what_is_trained_is_reused_and_nothing_packed_stays(
    ready: tuple[Session, Prepared], found: CrossValidated, tmp_path: Path
) -> None:
    session, prepared = ready
    results = Results(prepared)
    for fold, images in enumerate(images_by_fold(session)):
        assert ScoreFold(fold, images, "any").run(session, results) == found.folds[fold]
    assert {time.state for time in results.times} == {"reused"}
    assert not list((session.project.work / "folds").iterdir())
    again = validate_folds(session, prepared, tmp_path / "again.parquet")
    assert pq.read_table(again.predictions).equals(pq.read_table(found.predictions))


def test_without_folds_the_setting_is_named(ready: tuple[Session, Prepared]) -> None:
    params = ready[0].params.with_values({"split.folds": 0})
    with pytest.raises(SettingsError, match=r"split\.folds: is 0, .*; --set split\.folds=5 makes five"):
        check_folds(params)
