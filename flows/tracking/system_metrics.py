"""What a machine is busy with while a run works on it."""

import contextlib
from collections.abc import Iterator

from flows.tracking.runs import Tracking

_SAMPLE_SECONDS, _SAMPLES = 10.0, 6
"""Between looks at the machine, and looks whose mean is sent: about one value a minute."""


@contextlib.contextmanager
def system_metrics(tracking: Tracking, run_id: str) -> Iterator[None]:
    """Sends processor, memory, disk, network and GPUs of this machine to the run's page, also within an epoch.

    By MLflow's own monitor, in a thread; a resumed run resumes its curves.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id,
        sampling_interval=_SAMPLE_SECONDS,
        samples_before_logging=_SAMPLES,
        resume_logging=True,
        tracking_uri=tracking.client.tracking_uri,
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
