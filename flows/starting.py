"""Models that a training starts from or learns from: a registered version as a folder of its weights."""

from dataclasses import dataclass
from pathlib import Path

from components.errors import SettingsError
from components.files import sha256_of_file
from components.models.catalogue import IMAGENET, REGISTERED
from flows.addresses import parse_address
from flows.session import Session
from flows.tracking import registry, runs

_WEIGHTS, _SPEC = "model.safetensors", "model.json"


@dataclass(frozen=True)
class RegisteredModel:
    run_id: str
    """The run that trained it."""
    name: str
    """models:/NAME/VERSION, whatever alias it was asked for by."""
    folder: Path
    """model.safetensors and model.json; of an ensemble folders of such, one a member."""

    @property
    def weights(self) -> Path:
        return self.folder / _WEIGHTS

    @property
    def digest(self) -> str:
        members = sorted(file.parent for file in self.folder.rglob(_WEIGHTS))
        return " ".join(sha256_of_file(member / name) for member in members for name in (_WEIGHTS, _SPEC))


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


def starting_weights(session: Session) -> tuple[str | None, str | None]:
    """What the training is to load, as a setting, and a mark of what that is: of an alias the version and digest."""
    weights = session.params.model.weights
    if weights is None or weights == IMAGENET:
        return weights, weights
    if weights.startswith(REGISTERED):
        model = registered_model(session, weights, setting="model.weights")
        return str(model.weights), f"{model.name} {model.digest}"
    file = session.project.root / weights
    beside = file.with_name(_SPEC)
    return weights, sha256_of_file(file) + (f" {sha256_of_file(beside)}" if beside.is_file() else "")


def teacher_model(session: Session) -> RegisteredModel | None:
    """The model that train.teacher names, fetched."""
    address = session.params.train.teacher
    return registered_model(session, address, setting="train.teacher", ensembles=True) if address is not None else None


def teacher_mark(session: Session) -> dict[str, str]:
    """For a fingerprint: the version and digest of the teacher; empty where there is none."""
    teacher = teacher_model(session)
    return {"teacher": f"{teacher.name} {teacher.digest}"} if teacher is not None else {}
