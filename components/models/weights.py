"""Initial weights: published ones, or a file that is never unpickled."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from components.models.layer_groups import head_prefixes
from components.models.packaged_weights import HALF, NOTE, packaged_file, packaged_state
from components.models.zoo import pretrained_timm, timm_name
from components.shared.errors import SettingsError, first_line

_SHOWN_KEYS = 8
# Published DenseNets have the keys of a time when names of modules could hold dots.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
_POSITIONS = "encoder.pos_embedding"
# Of batch norms; files from before torch 0.4.1, such as published DenseNets, have none, and torch asks for none.
_COUNTER = "num_batches_tracked"
# Their builders turn ImageNet's normalization into this one inside the network, with published weights alone.
_TRANSFORMS_INPUT = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class PretrainedWeights:
    state: dict[str, Tensor]
    mean: list[float]
    """Per channel, in [0, 1], of the images that they were trained on."""
    std: list[float]
    note: str | None
    """What a user should know about where they come from."""


@dataclass(frozen=True)
class LoadedWeights:
    source: str
    new_head: bool
    """The head was made for other labels and starts from scratch."""
    skipped: list[str] = field(default_factory=list)
    other_labels: str | None = None
    """The labels that the weights were trained for, where they are known and differ."""
    interpolated_positions: bool = False
    """The position embeddings were interpolated to another number of patches."""

    def __str__(self) -> str:
        """The sentence for the log."""
        why = f", because theirs {self.other_labels}" if self.other_labels else ""
        head = f", with a new head{why}" if self.new_head else ""
        positions = ", with interpolated position embeddings" if self.interpolated_positions else ""
        return f"weights from {self.source}{head}{positions}"


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, source: str, architecture: str, other_labels: str | None = None
) -> LoadedWeights:
    """Loads the weights into the model, except for a head of other labels or another shape.

    Raises SettingsError naming the keys that don't fit or hold NaN.
    """
    own = model.state_dict()
    interpolated, state = _interpolated_positions(state, own)
    skipped = sorted(_head_keys(model, own, state) if other_labels else _misfit_head(model, own, state))
    loaded = {key: tensor for key, tensor in state.items() if key not in skipped}
    _refuse_misfits(own, loaded, set(skipped), source, architecture)
    _refuse_not_finite(loaded, source)
    model.load_state_dict(loaded, strict=False)
    return LoadedWeights(source, bool(skipped), skipped, other_labels, interpolated)


def backbone_fits(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether all but the head has the shapes of the weights."""
    own = model.state_dict()
    needed = _needed(own) - _misfit_head(model, own, state)
    return all(key in state and state[key].shape == own[key].shape for key in needed)


def _needed(own: Mapping[str, Tensor]) -> set[str]:
    return {key for key in own if not key.endswith(_COUNTER)}


def _head_keys(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> set[str]:
    return {key for key in {*own, *state} if key.startswith(head_prefixes(model))}


def _misfit_head(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> set[str]:
    """The keys of the head's last layer where the weights have another one."""
    in_head = _head_keys(model, own, state)
    misfits = (key not in own or key not in state or own[key].shape != state[key].shape for key in in_head)
    return in_head if any(misfits) else set()


def _interpolated_positions(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[bool, dict[str, Tensor]]:
    """The weights of a vision transformer with its position embeddings stretched over this image's patches.

    Bicubic, as Dosovitskiy et al. 2021 (section 3.2) fine-tune at another resolution.
    """
    given, wanted = state.get(_POSITIONS), own.get(_POSITIONS)
    if given is None or wanted is None or given.shape == wanted.shape or given.shape[2] != wanted.shape[2]:
        return False, dict(state)
    class_1D, grid_PD = given[:, :1], given[:, 1:]
    before, after = (round((count - 1) ** 0.5) for count in (given.shape[1], wanted.shape[1]))
    grid_DHW = grid_PD.reshape(before, before, -1).permute(2, 0, 1)[None]
    grid_DHW = nn.functional.interpolate(grid_DHW, size=(after, after), mode="bicubic", align_corners=True)
    stretched = torch.cat([class_1D, grid_DHW.flatten(2).transpose(1, 2)], dim=1)
    return True, {**state, _POSITIONS: stretched}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file; a pickle that would run code is refused."""
    if not path.is_file():
        raise SettingsError(f"params.yaml: model.weights: {path} isn't there; give null, imagenet or an existing file")
    try:
        if path.suffix == ".safetensors":
            return _with_present_keys(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError) as problem:
        raise SettingsError(
            f"params.yaml: model.weights: {path.name} can't be read: {_first_sentence(problem)}; fetch or save it again"
        ) from None
    # Memory is short on this machine; the file may be whole.
    except MemoryError:
        raise
    # torch raises pickle.UnpicklingError here, and other errors on broken files; its text advises to run the code.
    except Exception:
        raise SettingsError(
            f"params.yaml: model.weights: {path.name} is no file of weights, or holds more than tensors, and isn't "
            "loaded because it could run code; save its state_dict as .safetensors"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SettingsError(f"params.yaml: model.weights: {path.name} is no state_dict of tensors")
    return _with_present_keys(state)


def pretrained_weights(architecture: str) -> PretrainedWeights:
    """The weights that torchvision or timm publish, from an installed package or downloaded once.

    Raises SettingsError where there are none.
    """
    if (of_timm := timm_name(architecture)) is not None:
        if (packaged := packaged_file(of_timm)) is not None:
            note = NOTE.format(package=packaged.package)
            return PretrainedWeights(packaged_state(of_timm, packaged), HALF, HALF, note)
        state, mean, std, licence = pretrained_timm(of_timm)
        return PretrainedWeights(state, mean, std, f"the weights of {architecture} have the licence: {licence}")
    import torchvision

    try:
        entry = torchvision.models.get_model_weights(architecture).DEFAULT
    except ValueError:
        raise SettingsError(f"params.yaml: model.weights: {architecture} has no published weights; use null") from None
    transforms = entry.transforms()
    mean, std = (HALF, HALF) if architecture in _TRANSFORMS_INPUT else (transforms.mean, transforms.std)
    return PretrainedWeights(_downloaded(entry, architecture), list(mean), list(std), None)


def _downloaded(entry: Any, architecture: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (URLError, OSError) as problem:
        raise SettingsError(
            f"params.yaml: model.weights: {entry.url} can't be downloaded ({first_line(problem)}); "
            "use null, or a file that you have"
        ) from None
    # Memory is short on this machine; the file may be whole.
    except MemoryError:
        raise
    # A download with another sha256, a file in torch's cache that was cut short or holds more than tensors.
    except Exception as problem:
        unpickled = isinstance(problem, UnpicklingError)
        raise SettingsError(
            f"params.yaml: model.weights: what torch's cache holds for {architecture} isn't loaded "
            f"({'it holds more than tensors' if unpickled else _first_sentence(problem)}); delete {_cached(entry.url)}"
        ) from None
    return _with_present_keys(state)


def _with_present_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}


def _first_sentence(problem: BaseException) -> str:
    """Without the guesses and advice that follow it."""
    return first_line(problem).split(". ")[0].rstrip(".")


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def _refuse_misfits(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], skipped: set[str], weights: str, architecture: str
) -> None:
    missing = sorted(_needed(own) - set(state) - skipped)
    unknown = sorted(set(state) - set(own))
    other_shape = sorted(key for key in set(own) & set(state) if own[key].shape != state[key].shape)
    misfits = {"missing": missing, "unknown": unknown, "of another shape": other_shape}
    lines = [f"{len(keys)} {problem} ({_some(keys)})" for problem, keys in misfits.items() if keys]
    if lines:
        raise SettingsError(
            f"params.yaml: model.weights: {weights} doesn't fit {architecture}: {', '.join(lines)}; "
            "use weights of this architecture"
        )


def _refuse_not_finite(state: Mapping[str, Tensor], weights: str) -> None:
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise SettingsError(
            f"params.yaml: model.weights: {weights} holds numbers that aren't finite in {_some(sorted(broken))}; "
            "use weights from before the training diverged"
        )


def _some(keys: list[str]) -> str:
    more = len(keys) - _SHOWN_KEYS
    return ", ".join(keys[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
