"""What an exported model must keep: the section `quantize` of params.yaml."""

from typing import Literal

from pydantic import Field

from components.shared.settings import Settings
from components.training.settings import QatSettings


class QuantizeSettings(Settings):
    """params.yaml: quantize."""

    serve: Literal["auto", "fp32", "fp16", "int8"]
    """auto: the quickest form here that keeps what it must keep; a name: that form if it does, else fp32."""
    search_trials: int = Field(ge=0)
    """Further ways to int8 that are tried where the first lose too much; more takes longer."""
    qat: QatSettings
    """Fine-tuning with the rounding simulated, where all of them lose too much."""
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"]
    """ONNX Runtime's execution provider that measures and would serve."""
    calibration_images: int = Field(ge=8)
    """Training images that fix the int8 ranges; more is steadier and slower."""
    max_accuracy_drop: float = Field(ge=0, le=1)
    """int8 ships when it loses at most this accuracy against fp32 on the validation split; larger lets more through."""
    min_agreement: float = Field(ge=0, le=1)
    """Least share of validation images to which int8 gives the label of fp32; at the gate, of `parity_images` to which
    the served file gives that of torch."""
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
