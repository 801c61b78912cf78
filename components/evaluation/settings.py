"""What is evaluated: the section `evaluate` of params.yaml."""

from pydantic import Field

from components.shared.settings import Settings


class EvaluateSettings(Settings):
    """params.yaml: evaluate."""

    top_k: int = Field(ge=2)
    """A hit when the true class, or one of a set, is among the k most probable ones."""
    worst_errors: int = Field(ge=0)
    """Most confident mistakes to show as pictures."""
    bootstrap_resamples: int = Field(ge=0, le=100_000)
    """Resampled test splits behind the 95% intervals; more is steadier and slower, 0 leaves the intervals out."""
    min_slice_images: int = Field(ge=1)
    """Slices with fewer test images are left out; larger looks at fewer, surer ones."""
    robustness_images: int = Field(ge=0)
    """Test images that are scored again under each corruption; more is surer and slower, 0 leaves it out."""
    ood: str | None
    """A folder of images unlike the training data; null: noise and shuffled test images are made."""
    inspected_images: int = Field(ge=0)
    """Images that are shown in each list of the error analysis; 0 leaves the lists and the heat maps out."""
    embedding_map_images: int = Field(ge=0)
    """Test images on the map of the embedding; more takes longer, 0 leaves it out."""
    seed: int = Field(ge=0)
    """Another seed draws other test splits, corruptions and samples."""
