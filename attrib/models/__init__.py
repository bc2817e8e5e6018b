"""Networks of papers with their switches; small ones trained in seconds on generated pictures with a known answer."""

from attrib.models.ablation import ABLATIONS, Variant
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
from attrib.models.hog import HOG
from attrib.models.textures import textures
from attrib.models.zfnet import ContrastNorm, zfnet

__all__ = [
    "ABLATIONS",
    "COLOURS",
    "HOG",
    "PAD",
    "SHAPES",
    "VOCABULARY",
    "Captioner",
    "ContrastNorm",
    "Scenes",
    "Variant",
    "coloured_shapes",
    "decode",
    "encode",
    "textures",
    "train_captioner",
    "turned",
    "zfnet",
]
