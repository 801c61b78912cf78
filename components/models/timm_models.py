"""The networks of timm, an optional extra: `timm/NAME`."""

from typing import Any
from urllib.error import URLError

from torch import Tensor, nn

from components.models.catalogue import TIMM_PREFIX
from components.shared.errors import SettingsError, first_line, nearest

_LICENCE_UNKNOWN = "none stated"


def timm_name(architecture: str) -> str:
    """The name without `timm/`; raises SettingsError where timm isn't installed or doesn't know it."""
    name, timm = architecture.removeprefix(TIMM_PREFIX), _timm()
    # NAME or NAME.WEIGHTS
    if not timm.is_model(name.split(".")[0]):
        raise SettingsError(
            f"params.yaml: model.architecture: {architecture} is unknown to timm {timm.__version__}"
            f"{nearest(name, timm.list_models())}"
        )
    return name


def build_timm(architecture: str, *, num_classes: int, image_size_px: int) -> nn.Module:
    """Fresh weights. Raises whatever timm does where it can't build for this size."""
    name = timm_name(architecture)
    fixed = getattr(_configuration(name), "fixed_input_size", False)
    size = {"img_size": image_size_px} if fixed else {}
    model: nn.Module = _timm().create_model(name, pretrained=False, num_classes=num_classes, **size)
    return model


def published_timm(architecture: str) -> tuple[dict[str, Tensor], list[float], list[float], str]:
    """Weights, the mean and deviation of the images that they were trained on, and their licence."""
    name = timm_name(architecture)
    configuration = _configuration(name)
    if configuration is None or not configuration.has_weights:
        raise SettingsError(f"params.yaml: model.weights: timm has no weights of {name}; use null")
    try:
        state: dict[str, Tensor] = _timm().create_model(name, pretrained=True).state_dict()
    # Hub and HTTP clients each have kinds of their own; all mean that there is no file.
    except (URLError, OSError, RuntimeError, ValueError) as problem:
        raise SettingsError(
            f"params.yaml: model.weights: timm's weights of {name} can't be fetched "
            f"({first_line(problem)}); use null, or a file that you have"
        ) from None
    licence = configuration.license or _LICENCE_UNKNOWN
    return state, list(configuration.mean), list(configuration.std), licence


def _configuration(name: str) -> Any:
    return _timm().get_pretrained_cfg(name)


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise SettingsError(
            f"params.yaml: model.architecture: {TIMM_PREFIX} needs timm, which isn't installed: "
            "pip install 'darkroom[timm]'"
        ) from None
    return timm
