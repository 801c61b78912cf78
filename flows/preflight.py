"""What params.yaml can be wrong about that its types don't tell, found before any work begins."""

from components.errors import SettingsError
from components.models.catalogue import OWN_ARCHITECTURES, REGISTERED
from components.models.scenarios import Advice, advise
from flows.addresses import parse_address
from flows.console import say
from flows.params import Params, override, read_params
from flows.project import Project


def settle_params(project: Project, overrides: list[str] | None, *, exports: bool = False) -> Params:
    """params.yaml with the overrides written into it; it stays as it was when anything in it is wrong.

    With `exports` this machine also measures the exported files, so it must have their provider.
    """

    def check(params: Params) -> None:
        check_names(params, project)
        if exports and params.quantize.provider != "cpu":
            # Imports onnxruntime, which not every run needs.
            from components.serving.providers import check_provider

            check_provider(params.quantize.provider)

    for change in override(project.params, overrides or [], check=check):
        say(change)
    params = read_params(project.params)
    check(params)
    _tell_choice(params)
    return params


def _tell_choice(params: Params) -> None:
    advice = _advice(params)
    if advice is not None:
        say(f"model.scenario {params.model.scenario}: {advice.architecture}, {advice.reason}")


def _advice(params: Params) -> Advice | None:
    """Why model.scenario chose the architecture; raises SettingsError where that can't take the images."""
    model = params.model
    if model.scenario is None:
        return None
    return advise(model.scenario, image_size_px=params.preprocess.image_size_px, with_weights=model.weights is not None)


def check_names(params: Params, project: Project) -> None:
    """Raises SettingsError for an architecture or a weights file that doesn't exist, or a scenario without a model."""
    _advice(params)
    if params.model.architecture not in OWN_ARCHITECTURES:
        # Imports torch, which takes seconds: only where a name of torchvision's is to be looked up.
        from components.models.architectures import check_architecture

        check_architecture(params.model.architecture)
    if params.train.teacher is not None:
        parse_address(params.train.teacher, setting="train.teacher")
    unlike = params.evaluate.unlike
    if unlike is not None and not (project.root / unlike).is_dir():
        raise SettingsError(f"params.yaml: evaluate.unlike: {unlike} isn't there; give a folder of images, or null")
    weights = params.model.weights
    if weights is not None and weights.startswith(REGISTERED):
        parse_address(weights, setting="model.weights")
    elif weights not in (None, "imagenet") and not (project.root / str(weights)).is_file():
        raise SettingsError(
            f"params.yaml: model.weights: {weights} isn't there; give null, imagenet, an existing file or "
            "models:/NAME@ALIAS"
        )
