"""The one way in for weights: published ones, or a file that is never unpickled."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from components.errors import SettingsError
from components.models.parts import head_prefixes

IMAGENET = "imagenet"
_SHOWN_KEYS = 8


@dataclass(frozen=True)
class LoadedWeights:
    source: str
    new_head: bool
    """The head had another number of classes and starts afresh."""
    skipped: list[str] = field(default_factory=list)


def load_weights(model: nn.Module, weights: str, *, architecture: str) -> LoadedWeights:
    """Fills the model in place. Raises SettingsError naming the keys that don't fit."""
    state = _published(architecture) if weights == IMAGENET else read_weights(Path(weights))
    heads = head_prefixes(model)
    own = model.state_dict()
    in_head = {key for key in {*own, *state} if key.startswith(heads)}
    misfit_head = {key for key in in_head if key not in own or key not in state or own[key].shape != state[key].shape}
    skipped = sorted(in_head) if misfit_head else []
    kept = {key: tensor for key, tensor in state.items() if key not in skipped}
    _refuse_misfits(own, kept, set(skipped), weights, architecture)
    model.load_state_dict(kept, strict=False)
    return LoadedWeights(source=weights, new_head=bool(skipped), skipped=skipped)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; a pickle that would run code is refused."""
    if not path.is_file():
        raise SettingsError(f"params.yaml: model.weights: {path} isn't there; give null, imagenet or an existing file")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError) as problem:
        raise SettingsError(f"params.yaml: model.weights: {path.name} can't be read: {_first_line(problem)}") from None
    # torch raises pickle.UnpicklingError here, and other kinds on broken files.
    except Exception as problem:
        raise SettingsError(
            f"params.yaml: model.weights: {path.name} holds more than tensors and isn't loaded "
            f"({_first_line(problem)}); save its state_dict as .safetensors"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SettingsError(f"params.yaml: model.weights: {path.name} is no state_dict of tensors")
    return state


def _published(architecture: str) -> dict[str, Tensor]:
    import torchvision

    try:
        entry = torchvision.models.get_model_weights(architecture)
    except ValueError:
        raise SettingsError(f"params.yaml: model.weights: {architecture} has no published weights; use null") from None
    try:
        state: dict[str, Tensor] = entry.DEFAULT.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError) as problem:
        raise SettingsError(
            f"params.yaml: model.weights: {entry.DEFAULT.url} can't be downloaded ({_first_line(problem)}); "
            "use null, or a file that you have"
        ) from None
    # A download with another digest, a file in torch's cache that was cut short or holds more than tensors.
    except Exception as problem:
        raise SettingsError(
            f"params.yaml: model.weights: what torch's cache holds for {architecture} isn't loaded "
            f"({_first_line(problem)}); delete {_cached(entry.DEFAULT.url)}"
        ) from None
    return state


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def _refuse_misfits(
    own: dict[str, Tensor], state: dict[str, Tensor], skipped: set[str], weights: str, architecture: str
) -> None:
    missing = sorted(set(own) - set(state) - skipped)
    unknown = sorted(set(state) - set(own))
    other_shape = sorted(key for key in set(own) & set(state) if own[key].shape != state[key].shape)
    found = {"missing": missing, "unknown": unknown, "of another shape": other_shape}
    lines = [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in found.items() if keys]
    if lines:
        raise SettingsError(
            f"params.yaml: model.weights: {weights} doesn't fit {architecture}: {', '.join(lines)}; "
            "use weights of this architecture"
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN_KEYS]) + (" …" if len(keys) > _SHOWN_KEYS else "")


def _first_line(problem: BaseException) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0]
