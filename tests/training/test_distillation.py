"""Learning from a teacher: its answers pull, the labels pull, and both must be of the same labels."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.models.classifier import load_classifier, save_classifier
from components.shared.errors import SettingsError
from components.task.hierarchy import Hierarchy
from components.task.multi_label import MultiLabel
from components.task.single_label import SingleLabel
from components.task.task import Task
from components.training.distillation import distillation_loss
from components.training.fit import fit
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]
SINGLE = SingleLabel.of([["a"], ["b"], ["c"]])
MULTI = MultiLabel.of([["a"], ["b"], ["c"]])
TREE = Hierarchy.of([["x", "a"], ["x", "b"], ["y", "c"]], ["coarse", "fine"])


@pytest.mark.parametrize("task", [SINGLE, MULTI, TREE], ids=lambda task: task.task)
def test_a_student_that_answers_alike_has_nothing_to_learn(task: Task) -> None:
    teacher = torch.randn(4, task.num_logits, generator=torch.Generator().manual_seed(0))
    assert distillation_loss(teacher, teacher, task, temperature=3.0) == pytest.approx(0, abs=1e-5)
    student = torch.zeros_like(teacher, requires_grad=True)
    loss = distillation_loss(student, teacher, task, temperature=3.0)
    assert loss > 0
    loss.backward()
    assert distillation_loss(student - student.grad, teacher, task, temperature=3.0) < loss  # type: ignore[operator]


def test_the_softened_distance_is_that_of_the_paper() -> None:
    student, teacher = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[1.0, -1.0, 0.0]])
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum()
    assert distillation_loss(student, teacher, SINGLE, temperature=2.0) == pytest.approx(expected.item(), rel=1e-5)


@pytest.fixture(scope="module")
def teacher(make_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(make_job(tmp_path_factory.mktemp("teacher"), train={"epochs": 6}), on_epoch=lambda _: None).model


def test_a_student_learns_from_the_teacher_alone(make_job: MakeJob, teacher: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path, train={"epochs": 6, "teacher_weight": 1.0, "seed": 5})
    history = fit(job.model_copy(update={"teacher": str(teacher)}), on_epoch=lambda _: None).history
    assert history[-1].train_loss < 0.7 * history[0].train_loss


def test_a_teacher_of_other_labels_is_refused(make_job: MakeJob, teacher: Path, tmp_path: Path) -> None:
    model = copy.deepcopy(load_classifier(teacher))
    other = SingleLabel.of([["left"], ["right"], ["under"]])
    model.spec = model.spec.model_copy(update={"labels": other})
    save_classifier(model, tmp_path / "other")
    job = make_job(tmp_path / "job").model_copy(update={"teacher": str(tmp_path / "other")})
    with pytest.raises(SettingsError, match=r"train\.teacher: .*not in both: top, under.*a teacher of the same labels"):
        fit(job, on_epoch=lambda _: None)
