"""Training from a job to a model, resumed where it was cut off; reports each epoch to whoever asks."""

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
from components.models.layer_groups import main_head, parts
from components.shared.errors import SettingsError
from components.shared.files import write_json
from components.training.activation_checkpointing import checkpoint_activations
from components.training.batch_halving import CHECKPOINTS, HISTORY, halved, is_out_of_memory, too_little_memory
from components.training.cached_features import HeadOnFeatures, use_cached
from components.training.callbacks import (
    BestStates,
    KeepLast,
    Patience,
    Reporter,
    Snapshots,
    TimeLimit,
    best_checkpoint,
    mode_of,
)
from components.training.checkpoints import SafetensorsCheckpoints, read_checkpoint
from components.training.class_balance import class_weights
from components.training.diagnosis import diagnose
from components.training.distillation import open_teacher
from components.training.distributed import Group, check_batch, check_images, device_here, group_of, trainer_options
from components.training.epoch_report import SCORES, EpochReport, FitResult
from components.training.failure_broadcast import Alarm, Leave
from components.training.gpu_cache import GpuCachedBatches, caches_on_gpu
from components.training.ignored_settings import without_effect
from components.training.initial_model import initial_model
from components.training.job_plan import Plan, digest_of, read_plan, write_plan
from components.training.learner import Learner
from components.training.lr_finder import find_rate
from components.training.numerics import Numerics, apply_numerics, choose_numerics
from components.training.objective import Objective
from components.training.optimizers import peak_rate
from components.training.quantization_aware import RoundedClassifier
from components.training.resume import Identity, ResumableBatches, identity_of
from components.training.settings import TrainingJob
from components.training.unfreezing import Unfreezing
from components.training.weight_averaging import greedy_soup

logger = logging.getLogger(__name__)

MODEL = "model"
RATE_TEST = "rate.json"
MEMBERS = "members"


def fit(
    job: TrainingJob,
    *,
    on_epoch: Callable[[EpochReport], None],
    on_step: Callable[[int, int], None] = lambda done, total: None,
    leave: Leave | None = None,
) -> FitResult:
    """Trains, or goes on from where the job was cut off, to the same weights as an unbroken run on a CPU.

    `leave` is called, from another thread, where one of several processes can't go on.
    Raises SettingsError where the job's folder holds a checkpoint of other data or settings.
    """
    _quieten()
    group = group_of(job.train)
    file = Path(job.decoded) if job.decoded else decoded_file(Path(job.output), "train")
    with decoded_once(open_split(Path(job.data), "train"), file) as split:
        halvings = 0
        while True:
            try:
                return _Training(job, split, group, leave, halvings=halvings).run(on_epoch, on_step)
            except RuntimeError as problem:
                if not is_out_of_memory(problem):
                    raise
                # Several processes begin anew together, or not at all.
                if group.world > 1:
                    raise too_little_memory(job, halvings) from problem
                halvings = halved(job, halvings, world=1)
            # Lightning's objects stand in cycles, and images that they hold may fill the device.
            gc.collect()


class _Training:
    """One attempt at a job: with a batch that may turn out too large."""

    def __init__(
        self, job: TrainingJob, split: PackedSplit, group: Group, leave: Leave | None, *, halvings: int
    ) -> None:
        pl.seed_everything(job.train.seed, verbose=False)
        self._job, self._group, self._leave = job, group, leave
        self._output = Path(job.output)
        self._identity: Identity = identity_of(job)
        self._last = KeepLast(self._output / CHECKPOINTS, minutes=job.train.checkpoint_minutes, identity=self._identity)
        self._start = self._last.where_to_go_on()
        self._plan = read_plan(self._output, self._identity)
        self._halvings = self._plan.halvings if self._plan is not None else halvings
        self._split = split
        self._val = open_split(Path(job.data), "val")
        check_images(len(split), group)
        self._model = self._whole = initial_model(job)
        if group.world == 1:
            self._train_on_features()
        elif job.train.cache_features == "on":
            raise SettingsError(
                "params.yaml: train.cache_features: is on, but features are cached by one process alone; set it to "
                "auto, or train on one device"
            )
        elif job.train.cache_features == "auto" and job.freezes_backbone:
            logger.info(
                "the frozen backbone works on every image in every epoch, for one process alone caches features"
            )
        if job.rounding is not None:
            self._model = RoundedClassifier(self._whole, job.rounding, self._split)
        if job.train.activation_checkpointing and self._model is self._whole:
            checkpoint_activations(self._model.net)
        task = self._model.spec.labels
        weights = class_weights(job.train.class_weights, self._split.target, task)
        self._objective = Objective(job, task, weights, open_teacher(Path(job.teacher), task) if job.teacher else None)

    def run(self, on_epoch: Callable[[EpochReport], None], on_step: Callable[[int, int], None]) -> FitResult:
        job, plan = self._job, self._plan or self._made_plan()
        apply_numerics(self._model.net, Numerics(plan.precision, plan.channels_last, plan.compile))
        learner = Learner(self._model, job, plan, self._objective)
        reporter = Reporter(self._output / HISTORY, job.epochs, on_epoch, on_step)
        best = best_checkpoint(self._output / CHECKPOINTS, job.train.monitor)
        model_soup_size = (
            BestStates(self._output / CHECKPOINTS, job.train.monitor, job.train.model_soup_size)
            if job.train.model_soup_size
            else None
        )
        # The last one saves last, for it keeps what the others know.
        around = [reporter, *self._around(), best, *([model_soup_size] if model_soup_size else []), self._last]
        trainer = self._trainer(plan, around)
        if self._start is not None:
            logger.info(f"going on from the last checkpoint in {job.step}")
        for sentence in without_effect(job, cached=self._cached, cache_on_gpu=plan.cache_on_gpu):
            logger.info(sentence)
        validation = self._validation_batches()
        trainer.fit(learner, self._training_batches(plan, trainer), validation, ckpt_path=self._start)
        learner.load_state_dict(read_checkpoint(Path(best.best_model_path))["state_dict"])
        best_epoch = _best_epoch(reporter.history, job.train.monitor)
        scores = {name: getattr(reporter.history[best_epoch - 1], name) for name in SCORES}
        if model_soup_size is not None:
            scores = self._make_soup(learner, trainer, model_soup_size.best_first(), validation)
        if self._group.leads:
            save_classifier(self._finished(learner.judged), self._output / MODEL)
        diagnosis = diagnose(
            reporter.history,
            train_chance=self._objective.of_a_guess(self._split.target, self._split.weight_N),
            val_chance=self._model.spec.labels.chance_loss(job.model.level_weights),
            section=job.section,
        )
        logger.info(diagnosis.sentence)
        return FitResult(self._output / MODEL, reporter.history, best_epoch, scores, diagnosis)

    def _train_on_features(self) -> None:
        cached = use_cached(
            self._job,
            self._whole,
            self._split,
            self._val,
            batch_size=self._batch_size,
            device=device_here(),
        )
        if cached is not None:
            self._model, self._split, self._val = cached.head, cached.train, cached.val

    def _finished(self, judged: ImageClassifier) -> ImageClassifier:
        """The whole network, with the head that was trained on its features put back."""
        if self._cached:
            main_head(self._whole.net).load_state_dict(main_head(judged.net).state_dict())
            return self._whole
        return judged

    @property
    def _cached(self) -> bool:
        return isinstance(self._model, HeadOnFeatures)

    @property
    def _batch_size(self) -> int:
        return self._job.train.batch_size >> self._halvings

    def _made_plan(self) -> Plan:
        """What this machine does best."""
        job = self._job
        check_batch(job.train, self._group, job.train.batch_size)
        order = self._order(job.train.batch_size)
        trial = training_loader(self._split, batch_size=self._batch_size, seed=job.train.seed, augment=None, workers=0)
        if self._group.world == 1:
            steps = job.epochs * len(order) << self._halvings
            numerics = choose_numerics(job, self._model, self._objective, next(iter(trial)), steps=steps)
        else:
            numerics = _named_numerics(job)
        plan = Plan(
            identity=digest_of(self._identity),
            learning_rate=peak_rate(job, self._found_rate(trial)),
            precision=numerics.precision,
            channels_last=numerics.channels_last,
            compile=numerics.compile,
            fused=numerics.fused,
            cache_on_gpu=caches_on_gpu(job, self._split, device_here()),
            halvings=self._halvings,
        )
        if self._group.leads:
            write_plan(plan, self._output)
        return plan

    def _found_rate(self, batches: Iterable[Batch]) -> float:
        if self._job.learning_rate != "auto":
            return self._job.learning_rate
        if self._group.world > 1:
            raise SettingsError(
                "params.yaml: train.learning_rate: is auto, which one process alone can find; give a number, or train "
                "on one device"
            )
        test = find_rate(self._job, self._model, self._objective, batches)
        write_json(self._output / RATE_TEST, asdict(test))
        logger.info(
            f"the learning rate is {test.found:.2g}, where a range test of {len(test.rates)} steps learned fastest"
        )
        return test.found

    def _order(self, batch_size: int) -> ShuffledBatches:
        return ShuffledBatches(len(self._split), batch_size, self._job.train.seed, **self._dealing())

    def _dealing(self) -> dict[str, Any]:
        balanced = self._job.train.sampling == "balanced"
        return {
            "shares_N": self._model.spec.labels.sampling_weights(self._split.target) if balanced else None,
            "rank": self._group.rank,
            "world": self._group.world,
        }

    def _training_batches(self, plan: Plan, trainer: pl.Trainer) -> ResumableBatches | GpuCachedBatches:
        settings, progress = self._job.train, trainer.fit_loop.epoch_loop.batch_progress.current
        augment = self._job.augment if self._job.draws else None

        def place() -> tuple[int, int]:
            return trainer.current_epoch, progress.ready

        if plan.cache_on_gpu:
            order = self._order(self._batch_size)
            return GpuCachedBatches(self._split, order, place, device=device_here(), augment=augment)
        loader = training_loader(
            self._split,
            batch_size=self._batch_size,
            seed=settings.seed,
            augment=augment,
            workers=0 if self._cached else settings.loader_workers,
            **self._dealing(),
        )
        return ResumableBatches(loader, place)

    def _validation_batches(self) -> DataLoader[Batch]:
        return evaluation_loader(self._val, batch_size=self._batch_size, rank=self._group.rank, world=self._group.world)

    def _around(self) -> list[Callback]:
        settings = self._job.train
        found: list[Callback] = []
        if self._group.world > 1 and self._leave is not None:
            found.append(Alarm(self._group, self._make_room, self._leave))
        if settings.patience:
            found.append(Patience(settings.monitor, settings.patience))
        if settings.time_limit_minutes:
            found.append(TimeLimit(settings.time_limit_minutes))
        if self._unfreezes:
            found.append(self._unfreezing())
        if self._job.schedule == "cyclic":
            found.append(Snapshots(self._output / MEMBERS, settings.cycles))
        return found

    def _make_room(self) -> None:
        halved(self._job, self._halvings, world=self._group.world)

    @property
    def _unfreezes(self) -> bool:
        return self._job.step == "finetune" and self._job.finetune.unfreeze_every_n_epochs > 0

    def _unfreezing(self) -> Unfreezing:
        settings = self._job.finetune
        return Unfreezing(
            every=settings.unfreeze_every_n_epochs,
            most=settings.unfreeze_last_n or len(parts(self._model.net)),
            freeze_batch_norm=settings.freeze_batch_norm,
        )

    def _trainer(self, plan: Plan, callbacks: list[Callback]) -> pl.Trainer:
        settings = self._job.train
        # `deterministic` fills new memory with NaN, for who reads it before writing: nothing here does, and it took 7%
        # of a step of MobileNetV3-small.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return pl.Trainer(
            **trainer_options(self._group, unfreezes=self._unfreezes),
            max_epochs=self._job.epochs,
            precision=plan.arithmetic,
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
        """Gives the learner the weights of the soup; its scores on validation."""
        monitor = self._job.train.monitor
        sign = -1.0 if mode_of(monitor) == "min" else 1.0

        def scores_of(state: dict[str, torch.Tensor]) -> dict[str, float]:
            learner.load_state_dict(state)
            (scores,) = trainer.validate(learner, validation, verbose=False)
            return {name: float(scores[name]) for name in SCORES}

        model_soup_size, chosen = greedy_soup(
            [read_checkpoint(file)["state_dict"] for file in files],
            lambda state: sign * scores_of(state)[f"val_{monitor}"],
        )
        scores = scores_of(model_soup_size)
        logger.info(
            f"a soup of {len(chosen)} of the {len(files)} best checkpoints: {monitor} {scores[f'val_{monitor}']:.4f}"
        )
        return scores


def _named_numerics(job: TrainingJob) -> Numerics:
    """Without measuring, which processes that train together would not agree on."""
    settings = job.train
    names = ("precision", "channels_last", "compile")
    if left := [f"train.{name}" for name in names if getattr(settings, name) == "auto"]:
        logger.info(
            f"several processes don't measure what is faster: {' and '.join(left)}, which auto leaves to that, stay at "
            "fp32 and off; name them to have it otherwise"
        )
    precision = "fp32" if settings.precision == "auto" else settings.precision
    return Numerics(precision, settings.channels_last == "on", settings.compile == "on")


def _best_epoch(history: list[EpochReport], monitor: str) -> int:
    sign = -1 if mode_of(monitor) == "min" else 1
    return max(history, key=lambda report: sign * getattr(report, f"val_{monitor}")).epoch


def _quieten() -> None:
    """Lightning's own notices (no GPU, few workers) are not for the user of a pipeline."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
