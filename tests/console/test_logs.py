"""What a command logs: plain lines on standard error, more or fewer of them on request, and all of it in a file."""

import subprocess
import sys
from pathlib import Path

import pytest
from projects import REPOSITORY, clean_environment

_LOGS = """
import logging, sys
from pathlib import Path
from flows.console.logs import log_file, start_logging
start_logging(level=sys.argv[1] or None, folder=Path(sys.argv[2]), name="train")
assert log_file() is None, "a file appears with its first line"
logger = logging.getLogger("flows.steps.train")
logger.debug("a detail")
logger.info("epoch 1 of 3")
logger.warning("the disk is nearly full")
logging.getLogger("somebody.else").info("not ours")
print(log_file())
"""


def logs(folder: Path, level: str = "", **variables: str) -> tuple[list[str], Path]:
    """The lines on standard error, and the log file."""
    command = [sys.executable, "-c", _LOGS, level, str(folder)]
    environment = clean_environment(**variables)
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    return done.stderr.splitlines(), Path(done.stdout.strip())


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("", ["epoch 1 of 3", "the disk is nearly full"]),
        ("WARNING", ["the disk is nearly full"]),
        (
            "DEBUG",
            [
                "DEBUG flows.steps.train: a detail",
                "INFO flows.steps.train: epoch 1 of 3",
                "WARNING flows.steps.train: the disk is nearly full",
            ],
        ),
    ],
)
def test_the_level_chooses_what_is_shown_and_the_file_has_all_of_it(
    tmp_path: Path, level: str, shown: list[str]
) -> None:
    lines, file = logs(tmp_path / "logs", level)
    assert lines == shown
    assert "-train-" in file.name
    in_file = [line.split(" ", 2)[2] for line in file.read_text().splitlines()]
    assert in_file == [
        "DEBUG flows.steps.train: a detail",
        "INFO flows.steps.train: epoch 1 of 3",
        "WARNING flows.steps.train: the disk is nearly full",
    ]


def test_a_child_process_inherits_the_level(tmp_path: Path) -> None:
    lines, _ = logs(tmp_path, DARKROOM_LOG_LEVEL="warning")
    assert lines == ["the disk is nearly full"]


def test_only_the_newest_files_remain(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"20200101-000000-run-{number:03d}.log").touch()
    _, file = logs(tmp_path)
    remaining = sorted(tmp_path.iterdir())
    assert len(remaining) == 100
    assert remaining[-1] == file


def test_where_no_file_can_be_written_work_continues(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    lines, _ = logs(tmp_path / "logs")
    assert lines == ["epoch 1 of 3", "the disk is nearly full"]
