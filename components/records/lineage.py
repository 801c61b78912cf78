"""lineage.json: what leads from the raw data to a model, and of a registered version to its file."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from components.records.record import Record

LINEAGE = "lineage.json"
UNCOMMITTED = "+changes"
"""Behind the git revision, where the working tree differed from it."""


@dataclass(frozen=True)
class Machine:
    system: str
    processor: str


@dataclass(frozen=True)
class PinnedWeights:
    """Weights that a training starts from or is distilled from: aliases move, and files change."""

    fingerprint: str
    model: str | None = None
    """models:/NAME/VERSION of a registered model; None for a file."""
    run_id: str | None = None
    """The run that trained it; None for a file."""


@dataclass(frozen=True)
class RegisteredFile:
    """The file of a registered version."""

    run_id: str
    sha256: str
    served: str
    """Its format."""
    recipe: str
    qat_epochs: int
    """Epochs of quantization-aware fine-tuning before it."""
    exported_on: str
    """The processor."""
    package_sha256: str


class LineageRecord(Record):
    TITLE: ClassVar[str] = "lineage"
    REMEDY: ClassVar[str] = "train the model again with `darkroom run`"

    git: str
    """The revision of the code, with +changes where the working tree differed; unknown outside of git."""
    code: str
    """Digest of all modules."""
    data_version: str
    raw_manifest: str
    """SHA-256 of the raw data's manifest."""
    split_digest: str
    params: dict[str, dict[str, Any]]
    """Resolved settings by section."""
    packages: dict[str, str]
    """Versions of the main packages."""
    python: str
    machine: Machine
    """On which the model was trained."""
    reference_left_out: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the reference files that are too large to be kept, by name."""
    initial_weights: dict[str, PinnedWeights] = Field(default_factory=dict)
    """By the setting that names them: model.weights, train.teacher."""
    members: list[str] = Field(default_factory=list)
    """Names of an ensemble's members."""
    file: RegisteredFile | None = None
    """None until a file of the model is registered."""

    @property
    def revision(self) -> str:
        """The git revision alone."""
        return self.git.removesuffix(UNCOMMITTED)

    @property
    def uncommitted(self) -> bool:
        """Whether the working tree differed from the revision."""
        return self.git.endswith(UNCOMMITTED)
