"""Settings that a training passes over, so that nobody waits for what they would do."""

from components.training.settings import TrainingJob


def without_effect(job: TrainingJob, *, cached: bool, cache_on_gpu: bool) -> list[str]:
    """A sentence for each of them.

    `cached`: the head trains on cached features; `cache_on_gpu`: the images stay on the device.
    """
    settings = job.train
    found = []
    if job.progressive_resizing != settings.progressive_resizing:
        found.append(f"train.progressive_resizing is for train alone: {job.section} sees full images from the start")
    if job.schedule != settings.schedule:
        found.append(f"train.schedule: {settings.schedule} is for train alone: {job.section} follows one cosine")
    if job.schedule == "one_cycle" and settings.warmup_epochs:
        found.append("train.warmup_epochs has no effect, for one_cycle climbs by itself")
    if cached and settings.activation_checkpointing:
        found.append("train.activation_checkpointing has no effect: a head on cached features stores few activations")
    if settings.loader_workers and (cached or cache_on_gpu):
        found.append(f"train.loader_workers has no effect, for {'features' if cached else 'images'} stay in memory")
    return found
