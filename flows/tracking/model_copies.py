"""Registered models copied into another registry, under the same names, numbers and aliases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.tracking.connection import quiet_mlflow

_EXPERIMENT = "models that a training starts from"


@dataclass(frozen=True)
class ModelCopy:
    name: str
    number: int
    alias: str | None
    """By which it was asked for; None where it was by its number."""
    step: str
    """The step that trained it: train or finetune."""
    folder: Path
    """model.safetensors and model.json."""


def copy_models(uri: str, artifacts: Path, copies: Sequence[ModelCopy]) -> None:
    """Into a registry that holds nothing yet, given by the address of its database."""
    quiet_mlflow()
    from mlflow import MlflowClient

    artifacts.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment(_EXPERIMENT, artifact_location=artifacts.as_uri())
    for name in dict.fromkeys(one.name for one in copies):
        of_name = {one.number: one for one in copies if one.name == name}
        client.create_registered_model(name)
        # The registry numbers by itself: what stands before a wanted version is a copy of it that nobody asks for.
        for number in range(1, max(of_name) + 1):
            one = of_name.get(number, of_name[max(of_name)])
            done = {"darkroom.step": one.step, f"darkroom.done.{one.step}": "copied"}
            run = client.create_run(experiment, tags=done).info.run_id
            if number in of_name:
                client.log_artifacts(run, str(one.folder), "model")
            client.create_model_version(name, source=f"runs:/{run}/model", run_id=run, tags={"step": one.step})
    for one in copies:
        if one.alias is not None:
            client.set_registered_model_alias(one.name, one.alias, str(one.number))
