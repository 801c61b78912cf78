"""The one way in for weights: what fits is loaded, what doesn't is named, and no file runs code."""

import pickle
import re
import socket
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer

from components.models.architectures import build
from components.models.stems import Stem
from components.models.weights import LoadedWeights, backbone_fits, load_weights, pretrained_weights, read_weights
from components.shared.errors import SettingsError

STEMS: tuple[Stem, ...] = ("dense", "small")


def network(num_classes: int = 3, name: str = "plain") -> nn.Module:
    return build(name, num_classes=num_classes, image_size_px=32)


def load_named(model: nn.Module, weights: str, *, architecture: str) -> LoadedWeights:
    state = pretrained_weights(architecture).state if weights == "imagenet" else read_weights(Path(weights))
    return load_weights(model, state, source=weights, architecture=architecture)


def same(left: nn.Module, right: nn.Module, prefix: str = "") -> bool:
    other = right.state_dict()
    return all(torch.equal(value, other[key]) for key, value in left.state_dict().items() if key.startswith(prefix))


@pytest.mark.parametrize("reader", ["torch.load", "components.models.weights.load_file"])
def test_a_lack_of_memory_is_no_fault_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    file = tmp_path / ("weights.pth" if reader == "torch.load" else "weights.safetensors")
    file.touch()

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reader, full)
    with pytest.raises(MemoryError):
        read_weights(file)


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pth with state_dict"])
def test_weights_of_a_file_fill_the_network(tmp_path: Path, ending: str) -> None:
    source, target = network(), network()
    assert not same(source, target)
    file = tmp_path / f"weights.{ending.split()[0]}"
    if ending == "safetensors":
        save_file(source.state_dict(), file)
    else:
        torch.save({"state_dict": source.state_dict()} if "with" in ending else source.state_dict(), file)
    loaded = load_named(target, str(file), architecture="plain")
    assert same(source, target)
    assert not loaded.new_head


def test_a_head_of_other_classes_starts_afresh_and_the_rest_is_loaded(tmp_path: Path) -> None:
    source, target = network(7), network(3)
    head = target.classifier.weight.clone()  # type: ignore[union-attr, operator]
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    loaded = load_named(target, str(tmp_path / "w.safetensors"), architecture="plain")
    assert loaded.new_head
    assert loaded.skipped == ["classifier.bias", "classifier.weight"]
    assert same(target, source, "features")
    assert torch.equal(target.classifier.weight, head)  # type: ignore[union-attr]


def test_weights_without_a_head_are_enough(tmp_path: Path) -> None:
    source, target = network(), network()
    state = {key: value for key, value in source.state_dict().items() if not key.startswith("classifier")}
    save_file(state, tmp_path / "w.safetensors")
    assert load_named(target, str(tmp_path / "w.safetensors"), architecture="plain").new_head
    assert same(target, source, "features")


def test_weights_that_do_not_fit_are_refused_with_their_keys(tmp_path: Path) -> None:
    state = network().state_dict()
    state["features.block1.0.weight"] = torch.zeros(2, 2)
    state["extra.weight"] = torch.zeros(1)
    del state["features.block2.0.weight"]
    save_file(state, tmp_path / "w.safetensors")
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(SettingsError) as refused:
        load_named(target, str(tmp_path / "w.safetensors"), architecture="plain")
    for text in (
        "model.weights",
        "doesn't fit plain",
        "1 missing (features.block2.0.weight)",
        "1 unknown (extra.weight)",
        "1 of another shape (features.block1.0.weight)",
    ):
        assert text in str(refused.value)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_weights_of_another_architecture_name_only_some_keys(tmp_path: Path) -> None:
    save_file(network(name="resnet18").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(SettingsError, match=r"\d+ missing \(.* and \d+ more\), \d+ unknown \(.* more\)") as refused:
        load_named(network(), str(tmp_path / "w.safetensors"), architecture="plain")
    assert len(str(refused.value)) < 1500


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["torch", "plain pickle", "named safetensors"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    mark = tmp_path / "it ran"
    file = tmp_path / ("w.safetensors" if form == "named safetensors" else "w.pth")
    if form == "torch":
        torch.save({"weight": torch.zeros(1), "attack": Attack(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(SettingsError, match=r"model\.weights: w\.") as refused:
        read_weights(file)
    assert is_one_sentence_of_ours(refused)
    assert not mark.exists()
    torch.load(file, weights_only=False) if form == "torch" else pickle.loads(file.read_bytes())
    assert mark.exists(), "the attack would not have worked anyway"


@pytest.mark.parametrize(
    "content", [b"", b"no weights", b'{"a": 1}', b"PK\x03\x04 broken"], ids=["empty", "text", "JSON", "broken zip"]
)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_file_that_holds_no_weights_is_refused_in_one_sentence(tmp_path: Path, ending: str, content: bytes) -> None:
    file = tmp_path / f"w.{ending}"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"model\.weights: w\.{ending}") as refused:
        read_weights(file)
    assert is_one_sentence_of_ours(refused)


def is_one_sentence_of_ours(refused: pytest.ExceptionInfo[SettingsError]) -> bool:
    """torch advises to load with weights_only set to False, and guesses in further sentences."""
    text = str(refused.value)
    return not any(sign in text for sign in ("weights_only", "\x1b", "\n", ". "))


def test_a_whole_model_is_no_state_dict(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "model.pth")
    with pytest.raises(SettingsError, match=r"save its state_dict as \.safetensors"):
        read_weights(tmp_path / "model.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(SettingsError, match="no state_dict of tensors"):
        read_weights(tmp_path / "list.pth")


def test_a_missing_file_is_named_with_what_else_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="isn't there; give null, imagenet or an existing file"):
        read_weights(tmp_path / "w.pth")


NAME = "squeezenet1_1"


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it has downloaded; there is no way out of this test."""

    def refuse(*_: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def cached(torch_home: Path) -> Path:
    url = torchvision.models.get_model_weights(NAME).DEFAULT.url
    return torch_home / "hub" / "checkpoints" / url.rpartition("/")[2]


def test_published_weights_come_from_torchs_own_cache_with_a_new_head(torch_home: Path) -> None:
    source = build(NAME, num_classes=1000, image_size_px=64)
    torch.save(source.state_dict(), cached(torch_home))
    target = build(NAME, num_classes=3, image_size_px=64)
    loaded = load_named(target, "imagenet", architecture=NAME)
    assert loaded.new_head
    assert loaded.skipped == ["classifier.1.bias", "classifier.1.weight"]
    assert same(target, source, "features")


def test_published_weights_in_the_cache_run_no_code(torch_home: Path) -> None:
    mark = torch_home / "it ran"
    torch.save({"attack": Attack(mark)}, cached(torch_home))
    with pytest.raises(SettingsError, match=r"model\.weights: .* \(it holds more than tensors\); delete ") as refused:
        load_named(network(name=NAME), "imagenet", architecture=NAME)
    assert "weights_only" not in str(refused.value)
    assert not mark.exists()


def test_a_broken_file_in_the_cache_is_named(torch_home: Path) -> None:
    torch.save(build(NAME, num_classes=1000, image_size_px=64).state_dict(), cached(torch_home))
    cached(torch_home).write_bytes(cached(torch_home).read_bytes()[:5000])
    with pytest.raises(SettingsError, match=r"model\.weights"):
        load_named(network(name=NAME), "imagenet", architecture=NAME)


def test_without_network_published_weights_are_refused_with_the_remedy(torch_home: Path) -> None:
    assert not any((torch_home / "hub" / "checkpoints").iterdir())
    with pytest.raises(SettingsError, match=r"can't be downloaded.*use null, or a file that you have"):
        load_named(network(name=NAME), "imagenet", architecture=NAME)


def test_a_net_without_published_weights_says_so() -> None:
    with pytest.raises(SettingsError, match="plain has no published weights; use null"):
        load_named(network(), "imagenet", architecture="plain")


def transformer(side: int) -> nn.Module:
    return VisionTransformer(
        image_size=side, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=2
    )


def test_a_transformer_interpolates_its_position_embeddings() -> None:
    source, target = transformer(112), transformer(32)
    loaded = load_weights(target, source.state_dict(), source="w.pth", architecture="vit_b_16")
    places, original = target.encoder.pos_embedding, source.encoder.pos_embedding  # type: ignore[union-attr]
    assert places.shape == (1, 5, 8)  # type: ignore[union-attr]
    # The class token and the corners stay what they are.
    assert torch.allclose(places[0, [0, 1, 4]], original[0, [0, 1, 49]], atol=1e-6)  # type: ignore[index]
    assert str(loaded) == "weights from w.pth, with interpolated position embeddings"


def test_published_densenets_have_keys_of_an_older_time_and_no_counters(tmp_path: Path) -> None:
    source, target = (build("densenet121", num_classes=3, image_size_px=64) for _ in range(2))
    state = without_counters(source)
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    assert set(old) != set(state)
    torch.save(old, tmp_path / "w.pth")
    load_named(target, str(tmp_path / "w.pth"), architecture="densenet121")
    assert same(source, target)


def test_weights_without_counters_show_the_stem_that_they_were_trained_with() -> None:
    state = without_counters(build("resnet18", num_classes=3, image_size_px=32, stem="dense"))
    fits = {stem: backbone_fits(build("resnet18", num_classes=2, image_size_px=32, stem=stem), state) for stem in STEMS}
    assert fits == {"dense": True, "small": False}


def without_counters(model: nn.Module) -> dict[str, torch.Tensor]:
    """As files were before torch 0.4.1."""
    return {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}


def test_weights_that_are_not_finite_are_refused_with_their_keys(tmp_path: Path) -> None:
    state = network().state_dict()
    state["features.block2.0.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(SettingsError, match=r"numbers that aren't finite in features\.block2\.0\.weight; use weights"):
        load_named(network(), str(tmp_path / "w.safetensors"), architecture="plain")
