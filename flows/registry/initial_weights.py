"""Models that a training starts from or is distilled from: a registered version as a folder of its weights."""

from dataclasses import dataclass
from pathlib import Path

from components.models.catalogue import IMAGENET, REGISTERED
from components.records.lineage import PinnedWeights
from components.shared.errors import SettingsError
from components.shared.files import sha256_of_file
from flows.project.model_names import parse_address
from flows.session.session import Session
from flows.tracking import registry, runs

_WEIGHTS, SPEC = "model.safetensors", "model.json"


@dataclass(frozen=True)
class RegisteredModel:
    run_id: str
    """The run that trained it."""
    name: str
    """models:/NAME/VERSION, also where it was asked for by an alias."""
    folder: Path
    """Holds model.safetensors and model.json; for an ensemble one such folder per member."""

    @property
    def weights(self) -> Path:
        return self.folder / _WEIGHTS

    @property
    def fingerprint(self) -> str:
        """The version and the SHA-256 of its files."""
        members = sorted(file.parent for file in self.folder.rglob(_WEIGHTS))
        digests = [sha256_of_file(member / name) for member in members for name in (_WEIGHTS, SPEC)]
        return " ".join([self.name, *digests])


def registered_model(session: Session, address: str, *, setting: str, ensembles: bool = False) -> RegisteredModel:
    """Fetches the torch model behind a registered version; raises SettingsError naming the setting that asks for it."""
    name, wanted = parse_address(address, setting=setting)
    try:
        return fetch_version(session, name, wanted, ensembles=ensembles)
    except SettingsError as problem:
        raise SettingsError(f"params.yaml: {setting}: {problem}") from None


def fetch_version(session: Session, name: str, wanted: str, *, ensembles: bool = False) -> RegisteredModel:
    """By number or alias; raises SettingsError where there is none, or an ensemble where none is wanted."""
    version = registry.get_version(session.tracking, name, wanted)
    step = version.tags.get("step", "")
    if step not in (("train", "finetune", "ensemble") if ensembles else ("train", "finetune")):
        raise SettingsError(
            f"version {version.number} of {name} holds no single network to start from; "
            "name the version of one of its members"
        )
    folder = runs.fetch(session.tracking, version.run_id, "model", step=step)
    return RegisteredModel(version.run_id, f"{REGISTERED}{name}/{version.number}", folder)


def initial_weights(session: Session) -> tuple[str | None, str | None]:
    """Where the training loads its weights from, and a fingerprint of them: for an alias its version and SHA-256."""
    weights = session.params.model.weights
    if weights is None or weights == IMAGENET:
        return weights, weights
    if weights.startswith(REGISTERED):
        model = registered_model(session, weights, setting="model.weights")
        return str(model.weights), model.fingerprint
    return weights, weights_fingerprint(session.project.root / weights)


def weights_fingerprint(weights: Path) -> str:
    """SHA-256 of a file of weights, and of the description beside it where there is one."""
    beside = weights.with_name(SPEC)
    return sha256_of_file(weights) + (f" {sha256_of_file(beside)}" if beside.is_file() else "")


def pinned_weights(session: Session) -> dict[str, PinnedWeights]:
    """The initial weights and the teacher of a training, by the setting that names them."""
    weights, found = session.params.model.weights, dict[str, PinnedWeights]()
    if weights is not None and weights.startswith(REGISTERED):
        found["model.weights"] = _pinned(registered_model(session, weights, setting="model.weights"))
    elif weights is not None and weights != IMAGENET:
        found["model.weights"] = PinnedWeights(weights_fingerprint(session.project.root / weights))
    teacher = teacher_model(session)
    return found | ({"train.teacher": _pinned(teacher)} if teacher is not None else {})


def _pinned(model: RegisteredModel) -> PinnedWeights:
    return PinnedWeights(model.fingerprint, model=model.name, run_id=model.run_id)


def teacher_model(session: Session) -> RegisteredModel | None:
    """The model that train.teacher names, fetched."""
    address = session.params.train.teacher
    return registered_model(session, address, setting="train.teacher", ensembles=True) if address is not None else None


def teacher_fingerprint(session: Session) -> dict[str, str]:
    """Version and SHA-256 of the teacher, for a fingerprint; empty where there is none."""
    teacher = teacher_model(session)
    return {"teacher": teacher.fingerprint} if teacher is not None else {}
