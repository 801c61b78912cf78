"""What `darkroom check` says of the machine."""

from pathlib import Path

from flows.project.machine import machine_checks


def test_a_provider_that_a_run_would_miss_is_found_before_it(tmp_path: Path) -> None:
    def state_and_remedy(provider: str | None) -> list[tuple[str, str]]:
        found = machine_checks(tmp_path, provider=provider)
        return [(check.state, check.remedy) for check in found if check.name == "provider"]

    assert state_and_remedy(None) == []
    assert state_and_remedy("cpu") == [("ok", "")]
    ((state, remedy),) = state_and_remedy("openvino")
    assert state == "bad"
    assert remedy.startswith(
        "install onnxruntime-openvino and the libraries of openvino, or choose an available provider"
    )
