"""Images that a network makes: one loop, and what it is set up with."""

from attrib.core.synth.loop import synthesize
from attrib.core.synth.moves import Move
from attrib.core.synth.parameters import Fourier, Generated, Parameters, Pixels
from attrib.core.synth.penalties import L2, AlphaNorm, CentreBias, Penalty, TotalVariation
from attrib.core.synth.projections import (
    Ball,
    Blur,
    Bounds,
    ClipSmallContributions,
    ClipSmallPixels,
    Decay,
    Projection,
)
from attrib.core.synth.record import NotFiniteError, Step, Synthesis, Unfinished
from attrib.core.synth.search import OnStep, Search
from attrib.core.synth.space import PixelSpace
from attrib.core.synth.views import Jitter, Rotate, Scale, View

__all__ = [
    "L2",
    "AlphaNorm",
    "Ball",
    "Blur",
    "Bounds",
    "CentreBias",
    "ClipSmallContributions",
    "ClipSmallPixels",
    "Decay",
    "Fourier",
    "Generated",
    "Jitter",
    "Move",
    "NotFiniteError",
    "OnStep",
    "Parameters",
    "Penalty",
    "PixelSpace",
    "Pixels",
    "Projection",
    "Rotate",
    "Scale",
    "Search",
    "Step",
    "Synthesis",
    "TotalVariation",
    "Unfinished",
    "View",
    "synthesize",
]
