"""What is evaluated, and how sure an answer must be: the sections `evaluate` and `predict` of params.yaml."""

from pydantic import Field

from components.shared.settings import Settings


class EvaluateSettings(Settings):
    """params.yaml: evaluate."""

    top_k: int = Field(ge=2)
    """Top-k accuracy: correct where the true class, or one of several, is among the k most probable."""
    worst_errors: int = Field(ge=0)
    """Number of high-confidence errors to show as images."""
    bootstrap_resamples: int = Field(ge=0, le=100_000)
    """Bootstrap resamples behind the 95% intervals; more is steadier and slower, 0 omits the intervals."""
    min_slice_images: int = Field(ge=1)
    """Slices with fewer test images are left out; larger gives fewer slices with narrower intervals."""
    robustness_images: int = Field(ge=0)
    """Test images scored under each corruption; more is more precise and slower, 0 omits it."""
    ood: str | None
    """A folder of out-of-distribution images | null: noise and shuffled test images."""
    inspected_images: int = Field(ge=0)
    """Images in each list of the error analysis; 0 omits lists and heat maps."""
    embedding_map_images: int = Field(ge=0)
    """Test images on the map of the embedding; more takes longer, 0 omits it."""
    seed: int = Field(ge=0)
    """Another seed draws other resamples, corruptions and samples."""


class PredictSettings(Settings):
    """params.yaml: predict."""

    coverage: float | None = Field(default=0.95, gt=0.5, lt=1)
    """Fraction of images whose label stands in the prediction set; larger is more often not sure; null: no sets.

    Of several labels: the fraction of decisions on a label.
    """
    ood_keep: float | None = Field(default=0.95, gt=0.5, lt=1)
    """Fraction of images like the training images that aren't flagged as out-of-distribution; null flags none."""
