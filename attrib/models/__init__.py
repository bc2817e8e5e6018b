"""Small models with a known answer, for documentation and tests: trained in seconds, on generated pictures."""

from attrib.models.captioner import Captioner, train_captioner
from attrib.models.coloured_shapes import (
    COLOURS,
    PAD,
    SHAPES,
    VOCABULARY,
    Scenes,
    coloured_shapes,
    decode,
    encode,
    turned,
)

__all__ = [
    "COLOURS",
    "PAD",
    "SHAPES",
    "VOCABULARY",
    "Captioner",
    "Scenes",
    "coloured_shapes",
    "decode",
    "encode",
    "train_captioner",
    "turned",
]
