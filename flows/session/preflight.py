"""Mistakes in params.yaml that its types can't show, found before any work begins."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.data.sources.settings import IngestSettings
from components.models.catalogue import OWN_ARCHITECTURES, PACKAGED, REGISTERED
from components.models.scenarios import Advice, advise
from components.shared.errors import DataError, SettingsError
from components.shared.files import write_text
from flows.project.dvc import data_version, stage_params
from flows.project.model_names import is_version, parse_address, parse_version
from flows.project.outputs import Output
from flows.project.params import Params, override, read_overridden, read_params, resolved_text
from flows.project.project import Project
from flows.project.repository import require_dvc

logger = logging.getLogger(__name__)


def check_arguments(
    project: Project,
    *,
    overrides: Sequence[str] | None = None,
    data: str | None = None,
    models: Sequence[str] = (),
    trains: bool = False,
    exports: bool = False,
    out: str | None = None,
    overwrite: bool = False,
    stages: bool = True,
    values: Mapping[str, Any] | None = None,
    ingest: bool = False,
) -> None:
    """Finds mistakes in what the user typed before any server starts and before anything is written.

    `data` is a source that `ingest` brings in, `models` are versions and architectures; with `trains` the versions that
    a training starts from or learns from are looked up too, with `stages` whether DVC can work here. Raises
    SettingsError or DataError.
    """
    if out is not None:
        Output(Path(out), overwrite=overwrite).check()
    params = _for_this_run(project, read_overridden(project.params, overrides or []), values or {})
    _check(params, project, exports=exports)
    if data is not None:
        from components.data.sources import check_location

        check_location(data, params.ingest)
    elif ingest and data_version(project) is None:
        first_source(project, params.ingest)
    settings = {"model.weights": params.model.weights, "train.teacher": params.train.teacher}
    for setting, address in settings.items() if trains else ():
        if address is not None and address.startswith(REGISTERED):
            _check_version(project, *parse_address(address, setting=setting), where=f"params.yaml: {setting}: ")
    for model in models:
        if is_version(model):
            _check_version(project, *parse_version(model, own=params.register.name))
        else:
            check_architecture(params, project, model)
    if stages:
        require_dvc(project)


def first_source(project: Project, settings: IngestSettings) -> str:
    """The source that a project without data begins with; DataError where its settings name none."""
    if settings.first_source is None:
        raise DataError(f"{project.root} has no data yet; bring yours in: --data FOLDER, with one folder a class")
    return settings.first_source


def check_folds(params: Params) -> None:
    """Raises SettingsError where the settings ask for no folds."""
    if params.split.folds == 0:
        raise SettingsError(
            "params.yaml: split.folds: is 0, so that there are no folds; --set split.folds=5 makes five"
        )


def check_architecture(params: Params, project: Project, name: str) -> None:
    """Raises SettingsError where nothing of this name can be trained with these params."""
    try:
        check_names(params.of_architecture(name), project)
    except SettingsError as problem:
        raise SettingsError(str(problem).removeprefix("params.yaml: model.architecture: ")) from None


def _check_version(project: Project, name: str, wanted: str, *, where: str = "") -> None:
    # Imports MLflow, which takes a second.
    from flows.tracking import registry, runs

    tracking = runs.existing_registry(project)
    if tracking is None:
        raise SettingsError(f"{where}{name} has no version yet; `darkroom run` makes one")
    try:
        registry.get_version(tracking, name, wanted)
    except SettingsError as problem:
        raise SettingsError(f"{where}{problem}") from None


def resolve_params(
    project: Project, overrides: list[str] | None, *, values: Mapping[str, Any] | None = None, exports: bool = False
) -> Params:
    """params.yaml with the overrides written into it; it stays as it was when anything in it is wrong.

    `values`, such as {"train.epochs": 3}, are in what is returned alone. With `exports` this machine also measures the
    exported files, so it must have their provider.
    """

    for change in override(project.params, overrides or [], check=partial(_check, project=project, exports=exports)):
        logger.info(change)
    params = _for_this_run(project, read_params(project.params), values or {})
    _check(params, project, exports=exports)
    _log_choice(params)
    for name, value in (values or {}).items():
        logger.info(f"for this run alone: {name} {value}")
    return params


def _for_this_run(project: Project, params: Params, values: Mapping[str, Any]) -> Params:
    """The params with values of one run; SettingsError for those that DVC's stages read from params.yaml themselves."""
    for name in values:
        if any(
            f"{name}.".startswith(f"{read}.") or f"{read}.".startswith(f"{name}.") for read in stage_params(project)
        ):
            raise SettingsError(
                f"--with {name}: the data stages read it from params.yaml, so write it there with --set"
            )
    try:
        changed = params.with_values(values)
        if values:
            # With the run its settings are kept as a params.yaml that holds them.
            resolved_text(project.params, changed)
    except SettingsError as problem:
        raise SettingsError(str(problem).replace("params.yaml: ", "--with ", 1) if values else str(problem)) from None
    return changed


@contextlib.contextmanager
def restore_params_on_error(project: Project) -> Iterator[None]:
    """params.yaml is again what it was where the block finds that what the user asked for can't be done."""
    before = project.params.read_text(encoding="utf-8") if project.params.exists() else None
    try:
        yield
    except (SettingsError, DataError):
        if before is not None and project.params.read_text(encoding="utf-8") != before:
            write_text(project.params, before)
            logger.info("params.yaml is again as it was")
        raise


def _check(params: Params, project: Project, *, exports: bool) -> None:
    check_names(params, project)
    if exports and params.quantize.provider != "cpu":
        # Imports onnxruntime, which not every run needs.
        from components.serving.providers import check_provider

        check_provider(params.quantize.provider)


def _log_choice(params: Params) -> None:
    advice = _advice(params)
    if advice is not None:
        logger.info(f"model.scenario {params.model.scenario}: {advice.architecture}, {advice.reason}")


def _advice(params: Params) -> Advice | None:
    """Why model.scenario chose the architecture; raises SettingsError where that can't take the images."""
    model = params.model
    if model.scenario is None:
        return None
    return advise(model.scenario, image_size_px=params.preprocess.image_size_px, with_weights=model.weights is not None)


def check_names(params: Params, project: Project) -> None:
    """Raises SettingsError for an architecture or a weights file that doesn't exist, or a scenario without a model."""
    _advice(params)
    if params.model.architecture not in (*OWN_ARCHITECTURES, *PACKAGED):
        # Imports torch, which takes seconds: only where a name of torchvision's is to be looked up.
        from components.models import architectures

        architectures.check_architecture(params.model.architecture)
    if params.train.teacher is not None:
        parse_address(params.train.teacher, setting="train.teacher")
    ood = params.evaluate.ood
    if ood is not None and not (project.root / ood).is_dir():
        raise SettingsError(f"params.yaml: evaluate.ood: {ood} isn't there; give a folder of images, or null")
    weights = params.model.weights
    if weights is not None and weights.startswith(REGISTERED):
        parse_address(weights, setting="model.weights")
    elif weights not in (None, "imagenet") and not (project.root / str(weights)).is_file():
        raise SettingsError(
            f"params.yaml: model.weights: {weights} isn't there; give null, imagenet, an existing file or "
            "models:/NAME@ALIAS"
        )
