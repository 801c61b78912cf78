"""Networks trained and exported from a folder of real images as `darkroom run` does it, without its servers.

work/data/      raw, validated, split and packed images, with the params.yaml that they were made with
work/NAME/      train and finetune (each resumes from its last checkpoint), then export, with QAT where int8 needs it

Existing files are reused: give other settings another folder. int8.py makes it, predict.py and serving.py have it
made in a process of its own and read it.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from photographs import photographs
from training_data import REPOSITORY, augment_settings, new_job

from components.data.packed.loaders import open_split
from components.data.packed.packing import DATASET, read_dataset
from components.data.raw.dataset import RawImages
from components.data.raw.ingest import write_raw
from components.data.sources import IngestSettings, find
from components.evaluation.settings import PredictSettings
from components.export.exporter import Images, export_model
from components.export.settings import QuantizeSettings
from components.models.classifier import ImageClassifier, load_classifier
from components.records.export import EXPORT, ExportRecord, ScoresOnTest
from components.serving.onnx_classifier import ModelCard
from components.shared.files import read_json, sha256_of_record, write_json
from components.shared.progress import silent
from components.training.fit import MODEL
from components.training.process import RESULT
from components.training.quantization_aware import qat_settings
from components.training.settings import FakeQuantization, TrainingJob
from flows.project.child_process import Event, last_lines, run_child
from flows.project.params import override, read_params
from flows.project.sections import read_section
from flows.stages.augment import augment
from flows.stages.split import split
from flows.stages.validate import ValidatePaths, validate

SPLITS = {"train": 0.55, "val": 0.1, "test": 0.35}
"""A large test split, so that half a point of accuracy is several images."""


def prepared(source: Path, work: Path, *, side_px: int) -> Path:
    """The packed splits of the folder's images, split again: duplicates stay in one split."""
    data = work / "data"
    packed = data / "augmented"
    if (packed / DATASET).is_file():
        return packed
    shutil.rmtree(data, ignore_errors=True)
    (data / "reference").mkdir(parents=True, exist_ok=True)
    params = data / "params.yaml"
    shutil.copy(REPOSITORY / "params.yaml", params)
    override(
        params,
        [
            f"preprocess.image_size_px={side_px}",
            f"split.fractions={SPLITS}",
            "split.given=ignore",
            "augment.flips=horizontal",
            "augment.copies=0",
        ],
        check=lambda _: None,
    )
    write_raw(find(str(source), read_section(params, "ingest", IngestSettings)), data / "raw", progress=silent)
    validate(
        ValidatePaths(params, data / "raw", data / "reference", data / "validated", report=data / "validation.json"),
        silent,
    )
    _say(split(params, data / "validated", data / "split", silent))
    _say(augment(params, data / "raw", data / "split", packed, silent))
    return packed


def trained(name: str, data: Path, work: Path, *, epochs: int, learn_side_px: int, batch_size: int) -> ImageClassifier:
    """The network trained on images of that side and tuned for one epoch on whole ones."""
    side_px = read_dataset(data).image_size_px
    job = new_job(
        data,
        work / name / "train",
        side_px=side_px,
        architecture=name,
        augment=augment_settings("basic", flips="horizontal"),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=0.001,
        image_size_px=min(learn_side_px, side_px),
        precision="fp32",
        channels_last="on",
        compile="off",
        checkpoint_minutes=1.0,
    )
    finetune = job.finetune.model_copy(update={"epochs": 1, "learning_rate": 0.0003})
    start = finished(job)
    tuning = {"step": "finetune", "start_from": str(start), "output": str(work / name / "finetune")}
    return load_classifier(finished(job.model_copy(update={**tuning, "finetune": finetune})))


def exported(model: ImageClassifier, data: Path, folder: Path, *, qat_epochs: int) -> ExportRecord:
    """Writes the model's files into the folder, int8 as it is chosen on this machine; returns what was measured.

    Accuracy chooses: a network that was trained for minutes has so many close calls that agreement says little.
    """
    record = folder / EXPORT
    if not record.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        spec = model.spec
        settings = read_params(REPOSITORY / "params.yaml").quantize
        qat = settings.qat.model_copy(update={"epochs": qat_epochs})
        settings = settings.model_copy(update={"min_agreement": 0.9, "qat": qat})
        found = export_model(
            model,
            folder,
            card=ModelCard(spec.architecture, spec.labels, spec.preprocess, "fp32", "benchmark", "benchmark"),
            images=Images(
                train=open_split(data, "train"),
                val=open_split(data, "val"),
                raw=[image.content for image in test_images(data.parent, settings.parity_images)],
            ),
            settings=settings,
            predict=PredictSettings(),
            fine_tune=partial(_aware, settings, data, folder.parent),
        )
        # The test scores are measured apart.
        found.as_record({name: ScoresOnTest("", {}, {}) for name in found.formats}).write(record)
    return ExportRecord.read(record)


def _aware(settings: QuantizeSettings, data: Path, work: Path, rounding: FakeQuantization) -> ImageClassifier:
    """The tuned model after quantization-aware fine-tuning, as `darkroom quantize` does it."""
    tuned = TrainingJob.from_section("job", read_json(work / "finetune" / "job.json"))
    start = str(work / "finetune" / MODEL)
    changes: dict[str, Any] = {
        "step": "qat",
        "start_from": start,
        "teacher": start,
        "output": str(work / "qat" / sha256_of_record(rounding.model_dump())[:12]),
        "train": qat_settings(tuned.train).model_copy(update={"image_size_px": None}),
        "qat": settings.qat,
        "rounding": rounding,
    }
    return load_classifier(finished(tuned.model_copy(update=changes)))


def finished(job: TrainingJob) -> Path:
    """The folder of the job's model, trained in a process of its own, from where it was cut off."""
    output, name = Path(job.output), job.model.architecture
    if not (output / RESULT).is_file():
        write_json(output / "job.json", job.model_dump())

        def log_epoch(event: Event) -> None:
            if event["event"] == "epoch":
                _say(f"{name}: {job.step} {event['epoch']}/{event['epochs']}: accuracy {event['val_accuracy']:.3f}")

        log = output / "log.txt"
        command = [sys.executable, "-m", "components.training.process", str(output / "job.json")]
        if run_child(command, folder=REPOSITORY, log=log, on_event=log_epoch).exit_code:
            sys.exit(f"{name}: {job.step} failed: {last_lines(log)}")
    return output / MODEL


@dataclass(frozen=True)
class TestImage:
    label: str
    content: bytes
    """Of the file as it came."""


def test_images(folder: Path, count: int) -> list[TestImage]:
    """Spread evenly over the test split of work/data; all of it where it has no more."""
    table = pq.read_table(folder / "split" / "split.parquet")
    table = table.filter(pc.equal(table["split"], "test")).select(["label", "shard", "offset", "size_bytes"])
    places = np.linspace(0, len(table) - 1, min(count, len(table))).astype(int)
    with RawImages(folder / "raw") as store:
        return [TestImage(row.pop("label"), store.read(**row)) for row in table.take(places).to_pylist()]


def add_flags(parser: argparse.ArgumentParser, *, network: str) -> None:
    """What `ready` reads."""
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--network", default=network)
    parser.add_argument("--making", default="", metavar="FLAGS", help="of int8.py, for what isn't in WORK yet")


@dataclass(frozen=True)
class Ready:
    """What int8.py has left of a network."""

    model: ImageClassifier
    data: Path
    """The packed splits."""
    files: dict[str, Path]
    """The ONNX files by format, int8 the one that this machine chose."""
    verdict: str
    """Which of them would be served, and why."""
    images: list[TestImage]


def ready(flags: argparse.Namespace, scratch: Path, *, images: int) -> Ready:
    """The network in --work (else in `scratch`), made there from the folder's images where it isn't yet."""
    work = flags.work or scratch / "work"
    folder = work / flags.network
    export = folder / "export"
    if not (export / EXPORT).is_file():
        _make(flags, work, photographs(flags.folder, scratch))
    elif flags.making:
        sys.exit(f"{folder} is there already: --making changes nothing; leave it out, or give another --work")
    record = ExportRecord.read(export / EXPORT)
    agreement = record.formats["int8"].measured.agreement
    return Ready(
        model=load_classifier(folder / "finetune" / MODEL),
        data=work / "data" / "augmented",
        files={form: export / f"model_{form}.onnx" for form in record.formats},
        verdict=f"{'; '.join(record.reasons)}; int8 agrees with fp32 on {agreement:.4f} of validation",
        images=test_images(work / "data", images),
    )


def _make(flags: argparse.Namespace, work: Path, pictures: Path) -> None:
    maker = [sys.executable, str(Path(__file__).with_name("int8.py")), str(pictures), "--work", str(work)]
    wanted = ["--networks", flags.network, "--until", "export", *shlex.split(flags.making)]
    if code := subprocess.run([*maker, *wanted]).returncode:
        sys.exit(code)


def _say(sentence: str) -> None:
    print(sentence, flush=True)
