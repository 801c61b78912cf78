"""Training from a job to a model, resumed where it was interrupted; reports each epoch to a callback."""

import gc
import logging
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from components.data.packed.decoded_cache import decoded_once
from components.data.packed.loaders import (
    Batch,
    PackedSplit,
    ShuffledBatches,
    evaluation_loader,
    open_split,
    training_loader,
)
from components.data.packed.shared_file import decoded_file
from components.models.classifier import ImageClassifier, save_classifier
from components.models.layer_groups import layer_groups, main_head
from components.records.training_plan import TrainingPlan
from components.shared.errors import SettingsError
from components.shared.files import write_json
from components.training.activation_checkpointing import checkpoint_activations
from components.training.batch_halving import CHECKPOINTS, HISTORY, halve_batch, is_out_of_memory, out_of_memory_error
from components.training.cached_features import HeadOnFeatures, use_cached
from components.training.callbacks import (
    BestCheckpoints,
    CycleSnapshots,
    EpochReporter,
    LastCheckpoint,
    Patience,
    TimeLimit,
    best_checkpoint,
    mode_of,
)
from components.training.checkpoints import SafetensorsCheckpoints, read_checkpoint
from components.training.class_balance import class_weights
from components.training.diagnosis import diagnose
from components.training.distillation import open_teacher
from components.training.distributed import (
    ProcessGroup,
    check_batch,
    check_images,
    current_device,
    process_group_of,
    trainer_options,
)
from components.training.epoch_report import SCORES, EpochReport, FitResult
from components.training.failure_broadcast import FailureBroadcast, Leave
from components.training.gpu_cache import GpuCachedBatches, caches_on_gpu
from components.training.ignored_settings import ineffective_settings
from components.training.initial_model import initial_model
from components.training.job_plan import read_plan, sha256_of_fingerprint, write_plan
from components.training.learner import Learner
from components.training.lr_finder import find_learning_rate
from components.training.numerics import Numerics, apply_numerics, choose_numerics
from components.training.objective import Objective
from components.training.optimizers import peak_rate
from components.training.quantization_aware import FakeQuantizedClassifier
from components.training.resume import Fingerprint, ResumableBatches, fingerprint_of
from components.training.settings import RANGE_TEST, TrainingJob
from components.training.unfreezing import Unfreezing
from components.training.weight_averaging import greedy_soup

logger = logging.getLogger(__name__)

MODEL = "model"
RANGE_TEST_RESULT = "rate.json"
MEMBERS = "members"


def fit(
    job: TrainingJob,
    *,
    on_epoch: Callable[[EpochReport], None],
    on_step: Callable[[int, int], None] = lambda done, total: None,
    leave: Leave | None = None,
) -> FitResult:
    """Trains, or resumes an interrupted job; on a CPU to the same weights as an uninterrupted run.

    `leave` is called, from another thread, when one of several processes fails.
    Raises SettingsError where the job's folder holds a checkpoint made with other data or settings.
    """
    _silence_lightning()
    group = process_group_of(job.train)
    file = Path(job.decoded) if job.decoded else decoded_file(Path(job.output), "train")
    with decoded_once(open_split(Path(job.data), "train"), file) as split:
        halvings = 0
        while True:
            try:
                return _Training(job, split, group, leave, halvings=halvings).run(on_epoch, on_step)
            except RuntimeError as problem:
                if not is_out_of_memory(problem):
                    raise
                # Several processes restart together, or not at all.
                if group.world > 1:
                    raise out_of_memory_error(job, halvings) from problem
                halvings = halve_batch(job, halvings, world=1)
            # Lightning's objects are in reference cycles, and images that they reference may fill the device.
            gc.collect()


class _Training:
    """One attempt at a job, with a batch that may turn out too large."""

    def __init__(
        self, job: TrainingJob, split: PackedSplit, group: ProcessGroup, leave: Leave | None, *, halvings: int
    ) -> None:
        pl.seed_everything(job.train.seed, verbose=False)
        self._job, self._group, self._leave = job, group, leave
        self._output = Path(job.output)
        self._fingerprint: Fingerprint = fingerprint_of(job)
        self._last = LastCheckpoint(
            self._output / CHECKPOINTS, minutes=job.train.checkpoint_minutes, fingerprint=self._fingerprint
        )
        self._resume_from = self._last.resume_path()
        self._plan = read_plan(self._output, self._fingerprint)
        self._halvings = self._plan.halvings if self._plan is not None else halvings
        self._split = split
        self._val = open_split(Path(job.data), "val")
        check_images(len(split), group)
        self._model = self._classifier = initial_model(job)
        if group.world == 1:
            self._train_on_features()
        elif job.train.cache_features == "on":
            raise SettingsError(
                "params.yaml: train.cache_features: is on, but several processes don't cache features; set it to "
                "auto, or train on one device"
            )
        elif job.train.cache_features == "auto" and job.freezes_backbone:
            logger.info(
                "the frozen backbone computes features in every epoch, because several processes don't cache them"
            )
        if job.rounding is not None:
            self._model = FakeQuantizedClassifier(self._classifier, job.rounding, self._split)
        if job.train.activation_checkpointing and self._model is self._classifier:
            checkpoint_activations(self._model.net)
        task = self._model.spec.labels
        weights = class_weights(job.train.class_weights, self._split.target, task)
        self._objective = Objective(job, task, weights, open_teacher(Path(job.teacher), task) if job.teacher else None)

    def run(self, on_epoch: Callable[[EpochReport], None], on_step: Callable[[int, int], None]) -> FitResult:
        job, plan = self._job, self._plan or self._new_plan()
        apply_numerics(self._model.net, Numerics(plan.precision, plan.channels_last, plan.compile))
        learner = Learner(self._model, job, plan, self._objective)
        reporter = EpochReporter(self._output / HISTORY, job.epochs, on_epoch, on_step)
        best = best_checkpoint(self._output / CHECKPOINTS, job.train.monitor)
        soup = (
            BestCheckpoints(self._output / CHECKPOINTS, job.train.monitor, job.train.model_soup_size)
            if job.train.model_soup_size
            else None
        )
        # The last one saves last, with the state of the others.
        callbacks = [reporter, *self._callbacks(), best, *([soup] if soup else []), self._last]
        trainer = self._trainer(plan, callbacks)
        if self._resume_from is not None:
            logger.info(f"{job.step} resumes from its last checkpoint")
        for sentence in ineffective_settings(job, cached=self._cached, cache_on_gpu=plan.cache_on_gpu):
            logger.info(sentence)
        validation = self._validation_batches()
        trainer.fit(learner, self._training_batches(plan, trainer), validation, ckpt_path=self._resume_from)
        learner.load_state_dict(read_checkpoint(Path(best.best_model_path))["state_dict"])
        best_epoch = _best_epoch(reporter.history, job.train.monitor)
        scores = {name: getattr(reporter.history[best_epoch - 1], name) for name in SCORES}
        if soup is not None:
            scores = self._make_soup(learner, trainer, soup.best_first(), validation)
        if self._group.is_leader:
            save_classifier(self._complete(learner.validated_model), self._output / MODEL)
        diagnosis = diagnose(
            reporter.history,
            train_chance=self._objective.chance_loss(self._split.target, self._split.weight_N),
            val_chance=self._model.spec.labels.chance_loss(job.model.level_weights),
            section=job.section,
        )
        logger.info(diagnosis.sentence)
        return FitResult(self._output / MODEL, reporter.history, best_epoch, scores, diagnosis)

    def _train_on_features(self) -> None:
        cached = use_cached(
            self._job,
            self._classifier,
            self._split,
            self._val,
            batch_size=self._batch_size,
            device=current_device(),
        )
        if cached is not None:
            # A step of a head is too small to be shared: threads would wait for each other longer than they compute.
            torch.set_num_threads(1)
            self._model, self._split, self._val = cached.head, cached.train, cached.val

    def _complete(self, trained: ImageClassifier) -> ImageClassifier:
        """The complete network, with its head where that was trained on cached features."""
        if self._cached:
            main_head(self._classifier.net).load_state_dict(main_head(trained.net).state_dict())
            return self._classifier
        return trained

    @property
    def _cached(self) -> bool:
        return isinstance(self._model, HeadOnFeatures)

    @property
    def _batch_size(self) -> int:
        return self._job.train.batch_size >> self._halvings

    def _new_plan(self) -> TrainingPlan:
        """The settings that are `auto`, resolved on this machine, and stored."""
        job = self._job
        check_batch(job.train, self._group, job.train.batch_size)
        order = self._order(job.train.batch_size)
        trial = training_loader(self._split, batch_size=self._batch_size, seed=job.train.seed, augment=None, workers=0)
        if self._group.world == 1:
            steps = job.epochs * len(order) << self._halvings
            numerics = choose_numerics(job, self._model, self._objective, next(iter(trial)), steps=steps)
        else:
            numerics = _named_numerics(job)
        plan = TrainingPlan(
            fingerprint=sha256_of_fingerprint(self._fingerprint),
            learning_rate=peak_rate(job, self._learning_rate(trial)),
            precision=numerics.precision,
            channels_last=numerics.channels_last,
            compile=numerics.compile,
            fused=numerics.fused,
            cache_on_gpu=caches_on_gpu(job, self._split, current_device()),
            halvings=self._halvings,
        )
        if self._group.is_leader:
            write_plan(plan, self._output)
        return plan

    def _learning_rate(self, batches: Iterable[Batch]) -> float:
        if self._job.learning_rate != RANGE_TEST:
            return self._job.learning_rate
        if self._group.world > 1:
            raise SettingsError(
                "params.yaml: train.learning_rate: is range_test, which needs one process; give a number, or "
                "train on one device"
            )
        test = find_learning_rate(self._job, self._model, self._objective, batches)
        write_json(self._output / RANGE_TEST_RESULT, asdict(test))
        logger.info(
            f"learning rate {test.found:.2g}: there the loss fell fastest in a range test of {len(test.rates)} steps"
        )
        return test.found

    def _order(self, batch_size: int) -> ShuffledBatches:
        return ShuffledBatches(len(self._split), batch_size, self._job.train.seed, **self._sampling_options())

    def _sampling_options(self) -> dict[str, Any]:
        balanced = self._job.train.sampling == "balanced"
        return {
            "probability_N": self._model.spec.labels.sampling_weights(self._split.target) if balanced else None,
            "rank": self._group.rank,
            "world": self._group.world,
        }

    def _training_batches(self, plan: TrainingPlan, trainer: pl.Trainer) -> ResumableBatches | GpuCachedBatches:
        settings, progress = self._job.train, trainer.fit_loop.epoch_loop.batch_progress.current
        augment = self._job.augment if self._job.augments else None

        def position() -> tuple[int, int]:
            return trainer.current_epoch, progress.ready

        if plan.cache_on_gpu:
            order = self._order(self._batch_size)
            return GpuCachedBatches(self._split, order, position, device=current_device(), augment=augment)
        loader = training_loader(
            self._split,
            batch_size=self._batch_size,
            seed=settings.seed,
            augment=augment,
            workers=0 if self._cached else settings.loader_workers,
            **self._sampling_options(),
        )
        return ResumableBatches(loader, position)

    def _validation_batches(self) -> DataLoader[Batch]:
        return evaluation_loader(self._val, batch_size=self._batch_size, rank=self._group.rank, world=self._group.world)

    def _callbacks(self) -> list[Callback]:
        settings = self._job.train
        callbacks: list[Callback] = []
        if self._group.world > 1 and self._leave is not None:
            callbacks.append(FailureBroadcast(self._group, self._make_room, self._leave))
        if settings.patience:
            callbacks.append(Patience(settings.monitor, settings.patience))
        if settings.time_limit_minutes:
            callbacks.append(TimeLimit(settings.time_limit_minutes))
        if self._unfreezes:
            callbacks.append(self._unfreezing())
        if self._job.schedule == "cyclic":
            callbacks.append(CycleSnapshots(self._output / MEMBERS, settings.cycles))
        return callbacks

    def _make_room(self) -> None:
        halve_batch(self._job, self._halvings, world=self._group.world)

    @property
    def _unfreezes(self) -> bool:
        return self._job.step == "finetune" and self._job.finetune.unfreeze_every_n_epochs > 0

    def _unfreezing(self) -> Unfreezing:
        settings = self._job.finetune
        return Unfreezing(
            every=settings.unfreeze_every_n_epochs,
            most=settings.unfreeze_last_n or len(layer_groups(self._model.net)),
            freeze_batch_norm=settings.freeze_batch_norm,
        )

    def _trainer(self, plan: TrainingPlan, callbacks: list[Callback]) -> pl.Trainer:
        settings = self._job.train
        # `deterministic` fills new memory with NaN in case somebody reads it before writing: nothing here does, and it
        # took 7% of a step of MobileNetV3-small.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return pl.Trainer(
            **trainer_options(self._group, unfreezes=self._unfreezes),
            max_epochs=self._job.epochs,
            precision=plan.lightning_precision,
            accumulate_grad_batches=settings.gradient_accumulation_steps << plan.halvings,
            gradient_clip_val=settings.gradient_clip_norm or None,
            deterministic="warn",
            callbacks=callbacks,
            plugins=[SafetensorsCheckpoints()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=self._job.output,
        )

    def _make_soup(
        self, learner: Learner, trainer: pl.Trainer, files: list[Path], validation: DataLoader[Batch]
    ) -> dict[str, float]:
        """Validation scores of the model soup, whose weights the learner gets."""
        monitor = self._job.train.monitor
        sign = -1.0 if mode_of(monitor) == "min" else 1.0

        def scores_of(state: dict[str, torch.Tensor]) -> dict[str, float]:
            learner.load_state_dict(state)
            (scores,) = trainer.validate(learner, validation, verbose=False)
            return {name: float(scores[name]) for name in SCORES}

        soup, chosen = greedy_soup(
            [read_checkpoint(file)["state_dict"] for file in files],
            lambda state: sign * scores_of(state)[f"val_{monitor}"],
        )
        scores = scores_of(soup)
        logger.info(
            f"model soup of {len(chosen)} of {len(files)} checkpoints: {monitor} {scores[f'val_{monitor}']:.4f}"
        )
        return scores


def _named_numerics(job: TrainingJob) -> Numerics:
    """The numerics of the settings, without measuring: several processes would measure different things."""
    settings = job.train
    names = ("precision", "channels_last", "compile")
    if left := [f"train.{name}" for name in names if getattr(settings, name) == "auto"]:
        logger.info(
            f"several processes don't measure which numerics are fastest: {' and '.join(left)} are auto and stay at "
            "fp32 and off; set them by name for others"
        )
    precision = "fp32" if settings.precision == "auto" else settings.precision
    return Numerics(precision, settings.channels_last == "on", settings.compile == "on")


def _best_epoch(history: list[EpochReport], monitor: str) -> int:
    sign = -1 if mode_of(monitor) == "min" else 1
    return max(history, key=lambda report: sign * getattr(report, f"val_{monitor}")).epoch


def _silence_lightning() -> None:
    """Hides Lightning's own notices (no GPU, few workers) from the user."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
