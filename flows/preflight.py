"""What params.yaml can be wrong about that its types don't tell, found before any work begins."""

from components.errors import SettingsError
from components.models.catalogue import OWN_ARCHITECTURES, REGISTERED
from flows.addresses import parse_address
from flows.console import say
from flows.params import Params, override, read_params
from flows.project import Project


def settle_params(project: Project, overrides: list[str] | None) -> Params:
    """params.yaml with the overrides written into it; it stays as it was when anything in it is wrong."""

    def check(params: Params) -> None:
        check_names(params, project)

    for change in override(project.params, overrides or [], check=check):
        say(change)
    params = read_params(project.params)
    check(params)
    return params


def check_names(params: Params, project: Project) -> None:
    """Raises SettingsError for an architecture or a weights file that doesn't exist."""
    if params.model.architecture not in OWN_ARCHITECTURES:
        # Imports torch, which takes seconds: only where a name of torchvision's is to be looked up.
        from components.models.architectures import check_architecture

        check_architecture(params.model.architecture)
    if params.train.teacher is not None:
        parse_address(params.train.teacher, setting="train.teacher")
    weights = params.model.weights
    if weights is not None and weights.startswith(REGISTERED):
        parse_address(weights, setting="model.weights")
    elif weights not in (None, "imagenet") and not (project.root / str(weights)).is_file():
        raise SettingsError(
            f"params.yaml: model.weights: {weights} isn't there; give null, imagenet, an existing file or "
            "models:/NAME@ALIAS"
        )
