"""Darkroom's models in a few lines of Python.

import darkroom

model = darkroom.load("models:/digits@champion")
answer = model("photo.jpg")
print(answer.label, answer.probability, answer.out_of_distribution)
"""

from components.data.images.decoding import UndecodableImage
from components.shared.errors import DarkroomError, DataError, ServiceError, SettingsError
from flows.serving.model import ImageSource, Model, Prediction, load

__all__ = [
    "DarkroomError",
    "DataError",
    "ImageSource",
    "Model",
    "Prediction",
    "ServiceError",
    "SettingsError",
    "UndecodableImage",
    "load",
]
