"""Numerics are what the settings name, or what was fastest here; the model is left as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from logged import logged

from components.data.packed.loaders import Batch
from components.data.packed.packing import read_dataset
from components.models.classifier import ImageClassifier, new_classifier
from components.shared.errors import SettingsError
from components.training.lr_finder import find_learning_rate
from components.training.numerics import Numerics, choose_numerics
from components.training.objective import Objective
from components.training.settings import TrainingJob

MakeJob = Callable[..., TrainingJob]


def chosen(job: TrainingJob, steps: int) -> tuple[Numerics, list[str], ImageClassifier, ImageClassifier]:
    model, before = (model_of(job) for _ in range(2))
    objective = Objective(job, model.spec.labels, None)
    with logged() as messages:
        return choose_numerics(job, model, objective, batch_of(), steps=steps), messages, model, before


def model_of(job: TrainingJob) -> ImageClassifier:
    torch.manual_seed(0)
    data = read_dataset(Path(job.data))
    return new_classifier(job.model, labels=data.labels, preprocess=job.preprocess, mean=data.mean, std=data.std)[0]


def batch_of(seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (16,), generator=random)
    images = torch.randint(0, 120, (16, 16, 16, 3), generator=random) + 60 * target[:, None, None, None]
    return Batch(images.to(torch.uint8), target, torch.ones(16))


def test_a_short_training_is_not_held_up_by_measuring(make_job: MakeJob, tmp_path: Path) -> None:
    numerics, said, *_ = chosen(make_job(tmp_path), steps=2)
    assert numerics == Numerics("fp32", False, False)
    assert said == []


def test_a_long_one_takes_what_was_fastest_and_says_how_fast(make_job: MakeJob, tmp_path: Path) -> None:
    numerics, said, model, before = chosen(make_job(tmp_path, model={"architecture": "plain"}), steps=10**9)
    assert "minutes: measuring" in said[0]
    assert said[1].startswith(f"{numerics} is fastest on this machine (fp32: ")
    assert "fp32, channels last: " in said[1]
    assert "optimizer not fused: " in said[1]
    assert not numerics.compile
    for one, other in zip(model.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other)


class Stopwatch:
    """In place of seconds_per_step: a machine of a given speed, that is busy while some of the times are taken."""

    def __init__(self, seconds: dict[Numerics, float], busy: range = range(0)) -> None:
        self.seconds, self.busy, self.asked = seconds, busy, list[Numerics]()

    def __call__(self, *arguments: object, **_: object) -> float:
        numerics = arguments[-1]
        assert isinstance(numerics, Numerics)
        self.asked.append(numerics)
        return self.seconds[numerics] * (10 if len(self.asked) - 1 in self.busy else 1)


PLAIN, LAST = Numerics(), Numerics(channels_last=True)
PLAIN_LOOSE, LAST_LOOSE = Numerics(fused=False), Numerics(channels_last=True, fused=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has more to choose from")
@pytest.mark.parametrize(
    ("seconds", "fastest"),
    [
        ({PLAIN: 1.0, LAST: 1.2, PLAIN_LOOSE: 1.1}, PLAIN),
        ({PLAIN: 1.0, LAST: 0.8, LAST_LOOSE: 0.9}, LAST),
        ({PLAIN: 1.0, LAST: 0.8, LAST_LOOSE: 0.6}, LAST_LOOSE),
        ({PLAIN: 1.0, LAST: 1.2, PLAIN_LOOSE: 0.9}, PLAIN_LOOSE),
        ({PLAIN: 1.0, LAST: 0.96, PLAIN_LOOSE: 0.96}, PLAIN),
    ],
    ids=["neither", "layout", "both", "optimizer", "within the noise"],
)
# The first time shows how long training takes, the next four are of the layout.
@pytest.mark.parametrize("busy", [range(0), range(1, 3), range(2, 4), range(3, 5)], ids=str)
def test_the_fastest_is_chosen_also_where_the_machine_is_busy_for_a_moment(
    seconds: dict[Numerics, float],
    fastest: Numerics,
    busy: range,
    make_job: MakeJob,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Stopwatch(seconds, busy)
    monkeypatch.setattr("components.training.numerics.seconds_per_step", watch)
    job = make_job(tmp_path, train={"precision": "fp32"})
    assert chosen(job, steps=10**9)[0] == fastest
    assert watch.asked[1:5] == [PLAIN, LAST] * 2


def test_what_the_settings_name_is_not_measured(make_job: MakeJob, tmp_path: Path) -> None:
    named = {"precision": "bf16", "channels_last": "on", "compile": "off"}
    numerics, said, *_ = chosen(make_job(tmp_path, train=named), steps=10**9)
    assert (numerics, said) == (Numerics("bf16", True, False), [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU multiplies fp16")
def test_fp16_without_a_gpu_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"train\.precision: is fp16, which needs a GPU; use auto, fp32 or bf16"):
        chosen(make_job(tmp_path, train={"precision": "fp16"}), steps=1)


def test_a_range_test_finds_a_rate_at_which_the_loss_falls(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    model, before = model_of(job), model_of(job)
    state = torch.get_rng_state()
    test = find_learning_rate(job, model, Objective(job, model.spec.labels, None), [batch_of(0), batch_of(1)])
    assert 1e-5 < test.found < 0.5
    assert test.found in test.rates
    assert min(test.losses) < test.losses[0]
    assert test.rates == sorted(test.rates)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before.parameters(), strict=True))
