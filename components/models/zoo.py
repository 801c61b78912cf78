"""The zoos of torchvision and timm; a network of timm is `timm/NAME`, or NAME where torchvision has no such name."""

from functools import cache
from typing import Any
from urllib.error import URLError

from torch import Tensor, nn

from components.models.catalogue import OWN_ARCHITECTURES, TIMM_PREFIX
from components.shared.errors import SettingsError, first_line

_LICENCE_UNKNOWN = "none stated"


@cache
def torchvision_names() -> list[str]:
    """torchvision's classification models."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def timm_name(architecture: str) -> str | None:
    """timm's own name of an architecture, perhaps with `.WEIGHTS`; None where it isn't timm's."""
    if not architecture.startswith(TIMM_PREFIX) and architecture in (*OWN_ARCHITECTURES, *torchvision_names()):
        return None
    import timm

    name = architecture.removeprefix(TIMM_PREFIX)
    return name if timm.is_model(name.split(".")[0]) else None


def timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


def build_timm(name: str, *, num_classes: int, image_size_px: int, dropout: float | None) -> nn.Module:
    """A network with fresh weights. Raises whatever timm does where it can't build for this size."""
    import timm

    fixed = getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False)
    size: dict[str, Any] = {"img_size": image_size_px} if fixed else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, drop_rate=dropout, **size)
    return model


def pretrained_timm(name: str) -> tuple[dict[str, Tensor], list[float], list[float], str]:
    """Weights, the mean and deviation of the images that they were trained on, and their licence."""
    import timm

    configuration: Any = timm.get_pretrained_cfg(name)
    if configuration is None or not configuration.has_weights:
        raise SettingsError(f"params.yaml: model.weights: timm has no weights of {name}; use null")
    try:
        state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    # Hub and HTTP clients each have errors of their own; all mean that there is no file.
    except (URLError, OSError, RuntimeError, ValueError) as problem:
        raise SettingsError(
            f"params.yaml: model.weights: timm's weights of {name} can't be fetched "
            f"({first_line(problem)}); use null, or a file that you have"
        ) from None
    return state, list(configuration.mean), list(configuration.std), configuration.license or _LICENCE_UNKNOWN
