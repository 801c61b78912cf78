"""params.yaml: every mistake is one sentence that names the place and the remedy, and leaves the file as it was."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from logged import logged
from projects import REPOSITORY

from components.data.images.preprocessing import PreprocessSettings
from components.shared.errors import ServiceError, SettingsError
from components.training.settings import TrainSettings
from flows.project.params import Params, override, read_params, resolved_text
from flows.project.project import Project
from flows.project.sections import read_section
from flows.session.preflight import resolve_params
from flows.session.session import open_session


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def change(params: Path, assignments: list[str]) -> list[str]:
    return override(params, assignments, check=lambda _: None)


def edit(params: Path, old: str, new: str) -> None:
    text = params.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in params.yaml"
    params.write_text(text.replace(old, new))


def test_the_file_of_the_repository_is_read_into_typed_sections() -> None:
    params = read_params(REPOSITORY / "params.yaml")
    assert isinstance(params.train.epochs, int)
    assert set(params.split.fractions) == {"train", "val", "test"}
    with pytest.raises(ValueError, match="frozen"):
        params.train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("\ntrain:\n", "\ntrian:\n", "params.yaml: trian: unknown section; did you mean train?"),
        ("  warmup_epochs:", "  warmup_epoch:", "train.warmup_epoch: unknown; did you mean warmup_epochs?"),
        ("  warmup_epochs:", "  warmup_epoch:", "train.warmup_epochs: missing; add it"),
        ("    max_bits:", "    max_bit:", "split.duplicates.max_bit: unknown; did you mean max_bits?"),
        ("  patience: 0 ", "  patience: zero ", "params.yaml: train.patience: is 'zero', should be a valid integer"),
        ("  patience: 0 ", "  patience: 1.5 ", "params.yaml: train.patience: is 1.5, should be a valid integer"),
        ("  patience: 0 ", "  patience: -1 ", "train.patience: is -1, should be greater than or equal to 0"),
        ("  patience: 0 ", "  patience: yes ", "params.yaml: train.patience: is 'yes', should be a valid integer"),
        ("  optimizer: adamw ", "  optimizer: adan ", "train.optimizer: is 'adan', should be 'adamw', 'adam' or 'sgd'"),
        (
            "  learning_rate: 0.003 ",
            "  learning_rate: fast ",
            "train.learning_rate: is 'fast', should be range_test or a num",
        ),
        ("  class_weights: none ", "  class_weights: [1] ", "train.class_weights: is [1], should be none, auto or wei"),
        (
            "  devices: auto ",
            "  devices: 0 ",
            "train.devices: is 0, should be auto or a number of devices from 1 on",
        ),
        ("  weight_decay: 0.01 ", "  weight_decay: .nan ", "params.yaml: train.weight_decay: is nan, should be "),
        ("  weight_decay: 0.01 ", "  weight_decay: [1] ", "params.yaml: train.weight_decay: is [1], should be "),
        ("  freeze_backbone: false", "  freeze_backbone: no", "model.freeze_backbone: is 'no', should be a valid bool"),
        ("train: 0.7,", "train: 0.6,", "fractions that sum to 1"),
        ("train: 0.7,", "trein: 0.7,", "train has none"),
        (
            "  name: digits ",
            "  name: a/b ",
            "params.yaml: register.name: is 'a/b', should begin with a letter or digit and hold",
        ),
        ("  name: digits ", "  name: '' ", "params.yaml: register.name: is '', should have at least 1 character"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(params: Path, old: str, new: str, sentence: str) -> None:
    edit(params, old, new)
    with pytest.raises(SettingsError) as refused:
        read_params(params)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_mistakes_of_a_section_are_named_at_once(params: Path) -> None:
    edit(params, "  patience: 0 ", "  patience: -1 ")
    edit(params, "  optimizer: adamw ", "  optimizer: adan ")
    with pytest.raises(SettingsError, match=r"train\.optimizer.*train\.patience"):
        read_params(params)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "should hold sections"),
        ("- train\n", "should hold sections"),
        ("train:\n  epochs: 3\n  epochs: 4\n", "can't be read as YAML"),
        ("train:\n\tepochs: 3\n", "can't be read as YAML"),
        ("train: {epochs: 3\n", "can't be read as YAML"),
    ],
    ids=["empty", "a list", "a key twice", "tabs", "an open brace"],
)
def test_a_file_that_is_no_params_is_refused_in_one_sentence(params: Path, content: str, sentence: str) -> None:
    params.write_text(content)
    with pytest.raises(SettingsError) as refused:
        read_params(params)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_section_without_keys_is_refused(params: Path) -> None:
    params.write_text(params.read_text().partition("\npromote:")[0] + "\npromote: [1, 2]\n")
    with pytest.raises(SettingsError, match=r"promote: should be a section with keys, is \[1, 2\]"):
        read_params(params)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="isn't there; run darkroom in a project folder"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00train")
    with pytest.raises(SettingsError, match="can't be read as YAML"):
        read_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(params: Path) -> None:
    edit(params, "  weight_decay: 0.01 ", "  weight_decay: 1e-3 ")
    edit(params, "  patience: 0 ", "  patience: 010 ")
    assert read_params(params).train.weight_decay == 0.001
    assert read_params(params).train.patience == 10


def test_a_stage_reads_its_section_whatever_is_wrong_with_the_others(params: Path) -> None:
    edit(params, "  confidence: 0.95 ", "  confidence: much ")
    assert read_section(params, "train", TrainSettings).epochs >= 1
    with pytest.raises(SettingsError, match=r"promote\.confidence"):
        read_params(params)


def test_override_writes_the_value_says_so_and_keeps_every_comment(params: Path) -> None:
    before = params.read_text()
    said = change(params, ["train.epochs=2", "train.learning_rate=1e-4", "model.weights=imagenet"])
    changed = read_params(params)
    assert (changed.train.epochs, changed.train.learning_rate, changed.model.weights) == (2, 1e-4, "imagenet")
    assert said[0].startswith("params.yaml: train.epochs ")
    assert said[0].endswith(" → 2")
    assert said[2] == "params.yaml: model.weights null → imagenet"
    assert comments(params.read_text()) == comments(before)


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_override_changes_no_line_but_the_one_that_is_meant(params: Path) -> None:
    before = params.read_text().splitlines()
    change(params, ["train.seed=8"])
    after = params.read_text().splitlines()
    different = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.split("#")[0].strip() for line in different] == ["seed: 8"]


def test_override_reaches_into_nested_sections(params: Path) -> None:
    change(params, ["split.duplicates.max_bits=3", "validate.images.at_least=10", "split.fractions.train=0.70"])
    changed = read_params(params)
    assert (changed.split.duplicates.max_bits, changed.validate.images.at_least) == (3, 10)


@pytest.mark.parametrize(
    "assignment",
    [
        "train.optimizer=adamw",
        "train.augment=true",
        "model.weights=null",
        "train.seed=7",
        "train.weight_decay=0.01",
    ],
)
def test_override_with_the_value_that_stands_there_does_nothing(params: Path, assignment: str) -> None:
    before = params.read_bytes()
    assert change(params, [assignment]) == []
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (["train.learnig_rate=0.1"], "params.yaml: train.learnig_rate: unknown; did you mean learning_rate?"),
        (["trian.epochs=1"], "params.yaml: trian: unknown; did you mean train?"),
        (["train.epochs.more=1"], "params.yaml: train.epochs.more: unknown"),
        (["train.epochs"], "should read section.key=value"),
        (["epochs=1"], "should read section.key=value"),
        (["=1"], "should read section.key=value"),
        (["train.epochs=0"], "train.epochs: is 0, should be greater than or equal to 1"),
        (["train.epochs=many"], "train.epochs: is 'many', should be a valid integer"),
        (["train.epochs="], "train.epochs: is None, should be a valid integer"),
        (["train.epochs=[1"], "can't be read as a YAML value"),
        (["train.epochs=2", "train.batch_size=1"], "train.batch_size: is 1, should be greater than or equal to 2"),
        (["split.fractions.train=0.9"], "fractions that sum to 1"),
    ],
)
def test_a_bad_override_leaves_the_file_byte_for_byte(params: Path, assignments: list[str], sentence: str) -> None:
    before = params.read_bytes()
    with pytest.raises(SettingsError) as refused:
        change(params, assignments)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert params.read_bytes() == before


def test_a_pipeline_that_is_written_out_is_emptied_as_the_message_advises(params: Path) -> None:
    edit(
        params,
        "  pipeline: []  ",
        "  pipeline: # ours\n    - HorizontalFlip: {p: 0.5} # flip\n    # and\n    - Blur: {p: 0.1}\n  #  ",
    )
    edit(params, "  policy: basic  ", "  policy: pipeline  ")
    with pytest.raises(SettingsError, match=r"or the pipeline to \[\]"):
        change(params, ["augment.policy=basic"])
    change(params, ["augment.policy=basic", "augment.pipeline=[]"])
    assert read_params(params).augment.pipeline == []
    assert "  pipeline: [] # ours\n  #" in params.read_text()


def test_a_setting_that_an_older_file_lacks_is_added_to_its_section(params: Path) -> None:
    lines = params.read_text().splitlines(keepends=True)
    params.write_text("".join(line for line in lines if not line.startswith("  mixup:")))
    assert change(params, ["train.mixup=0.2"]) == ["params.yaml: train.mixup null → 0.2"]
    assert read_params(params).train.mixup == 0.2


def test_a_value_that_two_places_share_is_left_to_the_user(params: Path) -> None:
    edit(params, "  epochs: 8  ", "  epochs: &few 8  ")
    edit(params, "  epochs: 3  ", "  epochs: *few  ")
    for name in ("train.epochs", "finetune.epochs"):
        with pytest.raises(SettingsError, match="shares this value with another place"):
            change(params, [f"{name}=2"])


def test_override_of_a_broken_file_names_the_file_and_leaves_it(params: Path) -> None:
    params.write_text("train:\n  epochs: 3\n  epochs: 4\n")
    with pytest.raises(SettingsError, match="can't be read as YAML"):
        change(params, ["train.epochs=2"])
    assert params.read_text() == "train:\n  epochs: 3\n  epochs: 4\n"


def test_an_override_that_the_caller_refuses_is_not_written(params: Path) -> None:
    def refuse(changed: Params) -> None:
        assert changed.model.architecture == "resnet999"
        raise SettingsError("no such architecture")

    before = params.read_bytes()
    with pytest.raises(SettingsError, match="no such architecture"):
        override(params, ["model.architecture=resnet999"], check=refuse)
    assert params.read_bytes() == before


def test_a_scenario_stands_for_an_architecture_in_all_that_is_read(params: Path) -> None:
    change(params, ["model.architecture=null", "model.scenario=mobile"])
    read = read_params(params)
    assert read.model.architecture == "mobilenet_v3_small"
    record = read.as_record()["model"]
    assert (record["architecture"], record["scenario"]) == ("mobilenet_v3_small", "mobile")


def test_values_beside_a_scenario_leave_no_choice_that_contradicts_them(params: Path) -> None:
    change(params, ["model.architecture=null", "model.scenario=real_time"])
    read = read_params(params)

    def chosen(**values: Any) -> tuple[str, str | None]:
        model = read.with_values({f"model.{name}": value for name, value in values.items()}).model
        return model.architecture, model.scenario

    assert chosen(dropout=0.1) == ("plain", "real_time")
    assert chosen(architecture="lenet5") == ("lenet5", None)
    assert chosen(scenario="edge") == ("mobilenet_v3_large", "edge")
    assert chosen(weights="imagenet") == ("resnet18", "real_time"), "small images, but with weights to start from"
    change(params, ["model.architecture=lenet5", "model.scenario=null"])
    assert read_params(params).with_values({"model.scenario": "mobile"}).model.architecture == "mobilenet_v3_small"


def test_one_number_also_rules_the_size_of_the_images(params: Path) -> None:
    change(params, ["model.architecture=efficientnet", "model.compound=-2", "preprocess.image_size_px=auto"])
    assert read_params(params).preprocess.image_size_px == 169
    assert read_section(params, "preprocess", PreprocessSettings).image_size_px == 169
    change(params, ["model.compound=1"])
    assert read_section(params, "preprocess", PreprocessSettings).image_size_px == 258


@pytest.mark.parametrize("compound", ["9", "big"])
def test_a_size_that_follows_from_no_number_is_refused(params: Path, compound: str) -> None:
    sentence = r"preprocess\.image_size_px: is auto, the size that goes with model\.compound; give that one a number"
    with pytest.raises(SettingsError, match=sentence):
        change(params, ["preprocess.image_size_px=auto", f"model.compound={compound}"])


def test_the_choice_of_a_scenario_is_logged_with_its_reason(params: Path) -> None:
    project = Project(params.parent, params.parent / ".darkroom")
    with logged() as messages:
        resolved = resolve_params(project, ["model.architecture=null", "model.scenario=real_time"])
    assert resolved.model.architecture == "plain"
    assert any(message.startswith("model.scenario real_time: plain, six convolutions") for message in messages)


def test_a_scenario_beside_an_architecture_is_refused_and_not_written(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(SettingsError, match=r"architecture \(plain\) and scenario \(mobile\) are both set"):
        change(params, ["model.scenario=mobile"])
    assert params.read_bytes() == before


def test_a_provider_that_is_not_here_is_refused_before_any_work_of_a_run_that_exports(tmp_path: Path) -> None:
    params = Path(shutil.copy(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))
    project, before = Project(tmp_path, tmp_path / "home"), params.read_bytes()
    for provider in ("tensorrt", "openvino"):
        with pytest.raises(
            ServiceError, match=f"no {provider} provider on this machine .it has cpu.; install onnxruntime-"
        ):
            resolve_params(project, [f"quantize.provider={provider}"], exports=True)
        assert params.read_bytes() == before
    # A machine that only trains need not have it.
    assert resolve_params(project, ["quantize.provider=tensorrt"]).quantize.provider == "tensorrt"


@pytest.mark.parametrize(
    "values",
    [
        {"train.epochs": 2, "finetune.learning_rate": 0.1},
        {"quantize.qat.epochs": 0, "promote.ceilings.log_loss": 2.0, "promote.floors": None},
        {"model.scenario": "edge"},
        {"model.architecture": "lenet5", "train.class_weights": {"a": 2.0}},
        {"tune.space": {"train.dropout": [0.1, 0.2]}},
    ],
)
@pytest.mark.parametrize("scenario", [None, "mobile"])
def test_values_of_one_run_are_kept_as_a_file_that_reads_the_same(
    params: Path, values: dict[str, Any], scenario: str | None
) -> None:
    if scenario is not None:
        change(params, ["model.architecture=null", f"model.scenario={scenario}"])
    before = params.read_bytes()
    changed = read_params(params).with_values(values)
    text = resolved_text(params, changed)
    assert params.read_bytes() == before
    params.write_text(text)
    assert read_params(params) == changed
    assert comments(text) == comments(before.decode())


def test_values_of_one_run_are_in_the_session_and_not_in_the_file(params: Path) -> None:
    shutil.copy(REPOSITORY / "dvc.yaml", params.with_name("dvc.yaml"))
    before = params.read_bytes()
    session = open_session(str(params.parent), values={"train.epochs": 2, "quantize.qat.epochs": 0})
    assert (session.params.train.epochs, session.params.quantize.qat.epochs) == (2, 0)
    assert session.values == {"train.epochs": 2, "quantize.qat.epochs": 0}
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train.epoch": 2}, "--with train.epoch: unknown; did you mean epochs?"),
        ({"train.epochs": 0}, "--with train.epochs: is 0, should be greater than or equal to 1"),
        ({"train.epochs.more": 0}, "--with train.epochs.more: unknown"),
        ({"trian.epochs": 2}, "--with trian: unknown section; did you mean train?"),
        ({"train": 2}, "--with train: is a section; name a setting in it"),
        (
            {"split.seed": 2},
            "--with split.seed: the data stages read it from params.yaml, so write it there with --set",
        ),
        ({"preprocess.image_size_px": 64}, "--with preprocess.image_size_px: the data stages read it"),
        ({"model.compound": 1.0}, "--with model.compound: the data stages read it"),
        ({"ingest.separator": ";"}, "--with ingest.separator: the data stages read it"),
        ({"split": {}}, "--with split: the data stages read it"),
    ],
)
def test_a_bad_value_of_one_run_is_named(params: Path, values: dict[str, Any], sentence: str) -> None:
    shutil.copy(REPOSITORY / "dvc.yaml", params.with_name("dvc.yaml"))
    with pytest.raises(SettingsError) as refused:
        open_session(str(params.parent), values=values)
    assert str(refused.value).startswith(sentence)
