"""What an exported model must keep: the section `quantize` of params.yaml."""

from typing import Literal

from pydantic import Field

from components.shared.settings import Settings
from components.training.settings import QatSettings


class QuantizeSettings(Settings):
    """params.yaml: quantize."""

    serve: Literal["auto", "fp32", "fp16", "int8"]
    """auto: the fastest format here within the limits below | fp32 | fp16 | int8: that one if it is, else fp32."""
    search_trials: int = Field(ge=0)
    """Further quantization recipes to try where the first lose too much accuracy; more takes longer."""
    qat: QatSettings
    """Quantization-aware training, where all recipes lose too much; epochs: 0 for none."""
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"]
    """cpu | cuda | tensorrt | openvino: ONNX Runtime's execution provider, for measuring and serving."""
    calibration_images: int = Field(ge=8)
    """Training images that calibrate the int8 ranges; more is steadier and slower."""
    max_accuracy_drop: float = Field(ge=0, le=1)
    """int8 is served if it loses at most this accuracy against fp32 on validation; larger allows more loss."""
    min_agreement: float = Field(ge=0, le=1)
    """Least fraction of validation images with the same prediction by int8 and fp32.

    At the gate: of `parity_images` with the same prediction by the served file and torch.
    """
    max_logit_difference: float = Field(gt=0)
    """Largest difference between torch's logits and those of ONNX fp32 from the same image file."""
    parity_images: int = Field(ge=8)
    """Real image files on which parity is measured."""
    latency_runs: int = Field(ge=10)
    """Timed single images; more is steadier."""


def after_epochs(qat_epochs: int) -> str:
    """A clause on quantization-aware fine-tuning; empty where there was none."""
    epochs = "epoch" if qat_epochs == 1 else "epochs"
    return f" after {qat_epochs} {epochs} of quantization-aware fine-tuning" if qat_epochs else ""
