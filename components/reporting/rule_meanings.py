"""What each rule on the data measures, for pages."""

_MEANINGS = {
    "images": "images that can be decoded",
    "images_per_class": "images that can be decoded, in each class of the data",
    "imbalance": "largest class over smallest",
    "decodable_fraction": "of all files that stand where an image belongs",
    "conflicting_labels": "share of the images whose bytes also carry another label",
    "side_px": "the shorter side, in pixels",
    "aspect": "width over height",
    "brightness": "mean luma, 0 black to 1 white",
    "contrast": "deviation of the luma, of 0 to 1; one colour has 0",
    "sharpness": "variance of the Laplacian; blur has little",
    "known_classes": "labels that are on the list, with images of each of them",
    "unique_paths": "no file is listed twice",
    "labels_present": "no image is without a label",
    "drift": "stability index of each measured column against the baseline; above 0.25 it is another distribution",
    "class_drift": "the same of the class mix",
}


def meaning(rule: str) -> str:
    """With its unit; empty for a rule that isn't known here."""
    return _MEANINGS.get(rule, "")
