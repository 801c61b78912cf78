"""The served model: one ONNX file with a model card in its metadata. Needs only onnxruntime and the image packages.

Letters: B images, H height, W width, C channels, T logits.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.images.preprocessing import PreprocessSettings, square_of
from components.serving.model_file import check_model_file, metadata_of
from components.serving.providers import ProviderMissing, open_session, runtime_reason
from components.shared.errors import DataError, ServiceError, SettingsError
from components.shared.settings import Settings
from components.task.task import DEFAULT_RULE, DecisionRule, Task
from components.task.task_types import task_from_record

INPUT, OUTPUT = "images", "logits"
_METADATA_KEY = "darkroom"
_TYPED: dict[str, Callable[[str, dict[str, Any]], Settings]] = {
    "labels": task_from_record,
    "preprocess": PreprocessSettings.from_section,
    "decision_rule": DecisionRule.from_section,
}


@dataclass(frozen=True)
class ModelCard:
    """Description of a model, stored in the metadata of its ONNX file."""

    architecture: str
    labels: Task
    preprocess: PreprocessSettings
    format: str
    """fp32, fp16 or int8."""
    data_version: str
    run_id: str
    decision_rule: DecisionRule = DEFAULT_RULE
    code_version: str = ""
    """Git revision of the project that trained the model; empty if it was in no repository."""
    mean: list[float] | None = None
    """Mean of the training images' red, green and blue, from 0 to 1; the graph itself subtracts it and divides by
    `std`. None for an ensemble whose members have different ones."""
    std: list[float] | None = None
    calibration_digest: str | None = None
    """Digest of the training images that calibrated int8; None for other formats."""
    qat_epochs: int = 0
    """Epochs of quantization-aware fine-tuning after the run's training; 0 if the weights are the run's own."""
    provider: str = "cpu"
    """Execution provider on which the file was measured and chosen, and serves if it is available."""

    @property
    def classes(self) -> list[str]:
        return self.labels.classes

    def to_metadata(self) -> dict[str, str]:
        typed = {name: getattr(self, name).model_dump() for name in _TYPED}
        return {_METADATA_KEY: json.dumps(vars(self) | typed, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], name: str) -> "ModelCard":
        try:
            record: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
            return cls(**record | {name: typed(name, record[name]) for name, typed in _TYPED.items()})
        except (KeyError, ValueError, TypeError, AttributeError, SettingsError):
            raise ServiceError(
                f"{name} is no model of Darkroom: its metadata has no model card; give the .onnx file that "
                "`darkroom quantize` or `darkroom run` wrote, or models:/NAME@ALIAS"
            ) from None


class OnnxClassifier:
    """Checks the file, then classifies decoded squares.

    A requested `provider` must be available. Without a request it is the file's own; if that is not available the CPU
    computes, and `fallback_reason` says so.
    """

    provider: str
    fallback_reason: str | None = None
    """Why the CPU computes instead of the model's own provider; None if it doesn't have to."""

    def __init__(
        self, file: Path, *, expected_sha256: str | None = None, threads: int = 0, provider: str | None = None
    ) -> None:
        if not file.is_file():
            raise ServiceError(f"{file} does not exist; give an existing .onnx file or models:/NAME@ALIAS")
        content = file.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        if expected_sha256 is not None and self.sha256 != expected_sha256:
            raise ServiceError(f"{file} is not the registered file: its SHA-256 is {self.sha256}")
        check_model_file(content, file)
        self.card = ModelCard.from_metadata(metadata_of(content), str(file))
        # From the checked bytes, for the file could change in between.
        self._session = self._open(content, file, provider, threads)
        self._check_shapes(file)

    def _open(self, content: bytes, file: Path, requested: str | None, threads: int) -> Any:
        self.provider = requested or self.card.provider
        try:
            return open_session(content, file, self.provider, threads=threads)
        except ProviderMissing as problem:
            if requested is not None:
                raise
            self.fallback_reason = (
                f"the model was measured on {self.provider}, but {problem.reason}; it runs on cpu instead, where "
                "speed and numbers differ"
            )
        self.provider = "cpu"
        return open_session(content, file, self.provider, threads=threads)

    def logits(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [B, T] of uint8 RGB squares of the model's size; raises DataError for other arrays.

        Raises ServiceError if the graph fails on this number of images.
        """
        side = self.card.preprocess.image_size_px
        if images_BHWC.dtype != np.uint8 or images_BHWC.shape[1:] != (side, side, 3):
            raise DataError(
                f"the model takes uint8 images of [B, {side}, {side}, 3], not {images_BHWC.dtype} of "
                f"{list(images_BHWC.shape)}; make squares of the image files first"
            )
        try:
            logits_BT: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: images_BHWC})[0]
        except MemoryError:
            raise
        # onnxruntime's own exceptions share no base but Exception.
        except Exception as problem:
            raise ServiceError(
                f"the model fails on {len(images_BHWC)} images at once: {runtime_reason(problem)}; export it again"
            ) from None
        return logits_BT

    def square(self, content: bytes) -> NDArray[np.uint8]:
        """An image file's content as the square that the model takes; raises UndecodableImage."""
        return square_of(content, self.card.preprocess)

    def _check_shapes(self, file: Path) -> None:
        """Raises ServiceError if the model card does not describe this network."""
        side = self.card.preprocess.image_size_px
        inputs = {one.name: (one.type, one.shape[1:]) for one in self._session.get_inputs()}
        if inputs != {INPUT: ("tensor(uint8)", [side, side, 3])}:
            raise ServiceError(f"{file} does not take images of {side}×{side}, as its model card says; export it again")
        if isinstance(batch := self._session.get_inputs()[0].shape[0], int):
            raise ServiceError(f"{file} takes only {batch} images at once; export it again for any number")
        if (flaw := self.card.labels.flaw()) is not None:
            raise ServiceError(f"{file} has a model card that contradicts itself: {flaw}; export it again")
        width = {one.name: one.shape[-1] for one in self._session.get_outputs()}.get(OUTPUT)
        if width != self.card.labels.num_logits:
            raise ServiceError(
                f"{file} gives {width or 'no'} logits, while its list of classes needs {self.card.labels.num_logits}; "
                "export it again with the classes that it was trained on"
            )
        thresholds = self.card.decision_rule.thresholds
        if thresholds is not None and len(thresholds) != len(self.card.classes):
            raise ServiceError(
                f"{file} has {len(thresholds)} thresholds for {len(self.card.classes)} classes; export it again"
            )
        of_sets, wanted = self.card.decision_rule.set_thresholds, self._options()
        if of_sets is not None and [len(one) for one in of_sets] != wanted:
            raise ServiceError(
                f"{file} has {sum(map(len, of_sets))} thresholds of prediction sets, should have {sum(wanted)}; "
                "export it again"
            )

    def _options(self) -> list[int]:
        """How many options each decision on an image has."""
        decisions, options = self.card.labels.decisions(np.zeros((1, len(self.card.classes)), np.float32)).shape[1:]
        return [options] * decisions
