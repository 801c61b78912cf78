"""Work that another worker is to do."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prefect.exceptions import ObjectNotFound

from components.shared.errors import ServiceError
from flows.steps import remote_training


@pytest.fixture
def with_two_deployments(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise ObjectNotFound(Exception())

    @contextlib.contextmanager
    def client(**_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(read_deployment_by_name=refuse)

    monkeypatch.setattr(remote_training, "get_client", client)
    monkeypatch.setattr(remote_training, "registered_deployments", lambda: {"train/gpu": "", "pipeline/daily": ""})


@pytest.mark.usefixtures("with_two_deployments")
@pytest.mark.parametrize(
    ("name", "hint"), [("train/gup", r"did you mean train/gpu\?"), ("zebra", "register it with `darkroom deploy`")]
)
def test_an_unknown_deployment_is_named_with_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(ServiceError, match=f"there is no deployment {name}; {hint}"):
        remote_training.require_deployment(name)
