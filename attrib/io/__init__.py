"""Files in: pictures, models with their own preprocessing and class names, weights.

torchvision is imported only when a torchvision name is asked for, timm only for ``timm:``.
"""

from attrib.io.images import as_array, as_image, as_rgb, list_images, load_image
from attrib.io.loaded import LoadedModel
from attrib.io.models import demo_images, demo_model, load_model
from attrib.io.preprocess import Preprocess
from attrib.io.samples import Sample, Samples, open_samples, samples_again
from attrib.io.stream import Stream
from attrib.io.weights import load_weights, model_hash, read_weights

__all__ = [
    "LoadedModel",
    "Preprocess",
    "Sample",
    "Samples",
    "Stream",
    "as_array",
    "as_image",
    "as_rgb",
    "demo_images",
    "demo_model",
    "list_images",
    "load_image",
    "load_model",
    "load_weights",
    "model_hash",
    "open_samples",
    "read_weights",
    "samples_again",
]
