"""export.json: the exported files of a model, what was measured of each, and which one would be served and why."""

from dataclasses import dataclass
from typing import ClassVar

from components.records.record import Record
from components.records.scores import Interval
from components.shared.processor import Processor

EXPORT = "export.json"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one decoded image."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Parity:
    """An exported file compared with the PyTorch model, from raw image files on."""

    images: int
    max_logit_difference: float
    """Over all images and batches of 1, 2 and 7."""
    agreement: float
    """Fraction of the images with the same prediction."""


@dataclass(frozen=True)
class MeasuredFile:
    """A file on the validation split and on the machine that exported it."""

    recipe: str
    """fp32, fp16, or the quantization recipe of an int8 file."""
    qat_epochs: int
    """Epochs of quantization-aware fine-tuning before it."""
    size_bytes: int
    validation_accuracy: float
    agreement: float
    """Fraction of validation images with the prediction of fp32."""
    latency: Latency
    images_per_second: float
    """At the best batch size."""
    best_batch: int
    peak_mib: float | None
    """Peak memory of the process; None where the system doesn't report it."""


@dataclass(frozen=True)
class ScoresOnTest:
    """A file on the test split."""

    sha256: str
    """Of the file that was scored."""
    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class ExportedFile:
    measured: MeasuredFile
    parity: Parity
    test: ScoresOnTest

    @property
    def sha256(self) -> str:
        return self.test.sha256


class ExportRecord(Record):
    TITLE: ClassVar[str] = "export record"
    REMEDY: ClassVar[str] = "export the model again with `darkroom quantize`"

    formats: dict[str, ExportedFile]
    """By format: fp32, int8 and, where it runs, fp16."""
    int8_variants: dict[str, MeasuredFile]
    """Every int8 file that was tried, by recipe."""
    skipped: dict[str, str]
    """Formats that don't run on this machine, and why."""
    served: str
    """Format of the file that would be served."""
    reasons: list[str]
    """Why that one, a sentence each."""
    calibration_digest: str | None
    """Fingerprint of the images that calibrated int8; None where nothing was calibrated."""
    processor: Processor
    """On which everything was measured."""

    @property
    def served_file(self) -> ExportedFile:
        return self.formats[self.served]

    def file_of(self, sha256: str) -> ExportedFile | None:
        """The file with these bytes; None where the export made others."""
        return next((one for one in self.formats.values() if one.sha256 == sha256), None)
