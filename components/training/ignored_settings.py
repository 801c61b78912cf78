"""Settings without effect in a training, so that nobody waits for what they would do."""

from components.training.settings import TrainingJob


def ineffective_settings(job: TrainingJob, *, cached: bool, cache_on_gpu: bool) -> list[str]:
    """A sentence for each setting without effect.

    `cached`: the head trains on cached features; `cache_on_gpu`: the images are cached on the GPU.
    """
    settings = job.train
    notes = []
    if job.progressive_resizing != settings.progressive_resizing:
        notes.append(
            f"train.progressive_resizing applies to train alone: {job.section} uses full-size images from the start"
        )
    if job.schedule != settings.schedule:
        notes.append(f"train.schedule: {settings.schedule} applies to train alone: {job.section} follows one cosine")
    if job.schedule == "one_cycle" and settings.warmup_epochs:
        notes.append("train.warmup_epochs has no effect: one_cycle has its own warm-up")
    if cached and settings.activation_checkpointing:
        notes.append("train.activation_checkpointing has no effect: a head on cached features stores few activations")
    if settings.loader_workers and (cached or cache_on_gpu):
        notes.append(f"train.loader_workers has no effect: {'features' if cached else 'images'} stay in memory")
    return notes
