"""Register the very file that would be served as a new version, with its lineage."""

from dataclasses import dataclass

from prefect import flow

from components.files import read_json, sha256_of_file, write_json
from flows.evaluate import evaluate_model
from flows.finetune import finetune_model
from flows.prepare import Prepared, prepare_data
from flows.quantize import Exported, quantize_model, served_file
from flows.session import Session, StepTime, open_session, timed
from flows.tasks import step
from flows.tracking import registry, runs
from flows.train import train_model

_FINGERPRINT = "fingerprint"


@dataclass(frozen=True)
class Registered:
    version: str
    time: StepTime


@step("register")
def register_model(session: Session, prepared: Prepared, exported: Exported) -> Registered:
    """One version a file: the same file from the same run is not registered twice."""
    name = session.params.register.name
    with timed("register") as watch:
        file = served_file(session, exported)
        sha256 = sha256_of_file(file)
        mark = f"{exported.run_id} {sha256}"
        found = registry.find_version(session.tracking, name, _FINGERPRINT, mark)
        if found is None:
            found = _register(session, prepared, exported, sha256, mark)
        else:
            watch.reused()
        watch.note = f"{name} version {found.number} ({exported.record['served']}, SHA-256 {sha256[:12]})"
    return Registered(found.number, watch.time())


def _register(session: Session, prepared: Prepared, exported: Exported, sha256: str, mark: str) -> registry.Version:
    name, served = session.params.register.name, exported.record["served"]
    file = served_file(session, exported)
    lineage = read_json(runs.fetch(session.tracking, exported.run_id, "lineage") / "lineage.json")
    record = lineage | {"run_id": exported.run_id, "served": served, "sha256": sha256}
    target = session.project.work / "runs" / exported.run_id / "registered.json"
    write_json(target, record)
    runs.store(session.tracking, exported.run_id, target, "lineage")
    from components.serving.classifier import OnnxClassifier

    return registry.register(
        session.tracking,
        name,
        run_id=exported.run_id,
        model_file=file,
        classes=OnnxClassifier(file).card.classes,
        tags={
            "served": served,
            "sha256": sha256,
            "data_version": prepared.data_version,
            "split_digest": prepared.split_digest,
            "git": str(lineage["git"]),
            "processor": str(lineage["machine"]["processor"]),
            _FINGERPRINT: mark,
        },
        description=f"{served} ONNX of run {exported.run_id}; not judged yet",
    )


@flow(name="register")
def register(overrides: list[str] | None = None, project: str | None = None) -> str:
    """Registers alone; what comes before is brought up to date first. Returns the version."""
    session = open_session(project, overrides)
    prepared = prepare_data(session.project)
    trained = finetune_model(session, prepared, train_model(session, prepared))
    exported = quantize_model(session, prepared, evaluate_model(session, prepared, trained))
    return register_model(session, prepared, exported).version
