"""DVC stage: the fingerprint of each stage's code, so that a stage runs again when what it computes has changed."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from components.shared.files import write_json
from flows.project.fingerprint import code_fingerprint
from flows.project.project import STAGES


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    write_json(parser.parse_args(arguments).out, {name: code_fingerprint((f"flows.stages.{name}",)) for name in STAGES})
