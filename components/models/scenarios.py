"""The architecture that suits a purpose, the size of the images, and the initial weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from components.models.catalogue import SMALL_IMAGE_PX, Scenario
from components.shared.errors import SettingsError, nearest


@dataclass(frozen=True)
class Advice:
    architecture: str
    reason: str
    """One sentence, with what the architecture costs at this size."""


def advise(scenario: str, *, image_size_px: int, with_weights: bool) -> Advice:
    """The architecture for a scenario. Raises SettingsError for an unknown scenario, and a transfer without weights."""
    # torch takes seconds to import, and whoever reads params.yaml needs the name alone.
    from components.models.costs import costs

    name, why = _choice(scenario, small=image_size_px < SMALL_IMAGE_PX, with_weights=with_weights)
    cost = costs(name, image_size_px=image_size_px)
    computation = f"{cost.macs / 1e6:,.0f} million multiply-adds an image of {image_size_px} px"
    return Advice(name, f"{why} ({cost.parameters / 1e6:.1f} million parameters, {computation})")


def resolve_scenario(section: Mapping[str, Any], *, image_size_px: int) -> dict[str, Any]:
    """The section `model` with the architecture of its scenario in place of null.

    Raises SettingsError where both or neither of them is set, and as `advise` does.
    """
    architecture, scenario = section.get("architecture"), section.get("scenario")
    if scenario is None:
        if "architecture" in section and architecture is None:
            raise SettingsError(
                "params.yaml: model: neither architecture nor scenario is set; set architecture to a name such as "
                "plain, or scenario to a purpose such as mobile"
            )
        return dict(section)
    if architecture is not None:
        raise SettingsError(
            f"params.yaml: model: architecture ({architecture}) and scenario ({scenario}) are both set; set "
            "architecture to null to let the scenario choose, or scenario to null"
        )
    try:
        name, _ = _choice(
            scenario, small=image_size_px < SMALL_IMAGE_PX, with_weights=section.get("weights") is not None
        )
    except SettingsError as problem:
        raise SettingsError(f"params.yaml: model: {problem}") from None
    return {**section, "architecture": name}


def _choice(scenario: str, *, small: bool, with_weights: bool) -> tuple[str, str]:
    match scenario:
        case "mobile":
            return "mobilenet_v3_small", "the fewest operations of the nets that were searched for on phones"
        case "edge":
            return "mobilenet_v3_large", "made for small processors, with room for more accuracy than on a phone"
        case "real_time" if small and not with_weights:
            return "plain", "six convolutions one after another, which is what takes least time on small images"
        case "real_time":
            return "resnet18", "few, plain convolutions: they run near a processor's peak and gain most from int8"
        case "server" if small and not with_weights:
            return "resnet18", "the small-image stem keeps a last map of 4 × 4, and more depth gains little there"
        case "server":
            return "resnet50", "accurate for what it costs, in batches and in int8 alike"
        case "max_accuracy" if with_weights:
            return "convnext_base", "among the most accurate convolutional nets, where there are weights to start from"
        case "max_accuracy":
            return (
                "wide_resnet50_2",
                "of what learns from scratch the widest residual net; transformers need more images",
            )
        case "transfer" if with_weights:
            return "resnet50", "its features carry over to most images, frozen or fine-tuned"
        case "transfer":
            raise SettingsError("transfer needs weights to start from: set model.weights, or choose another scenario")
    known = get_args(Scenario)
    raise SettingsError(f"scenario {scenario}: unknown{nearest(str(scenario), known)} ({', '.join(known)})")
