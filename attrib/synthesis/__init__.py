"""Images made by a network: what excites it, what it remembers of a picture, what it dreams, what fools it."""

from attrib.synthesis.adversarial import attack, smallest_eps
from attrib.synthesis.ascent import Ascent, ascend
from attrib.synthesis.attacked import Adversarial
from attrib.synthesis.change import AttributionChange
from attrib.synthesis.deepdream import Dream, dream
from attrib.synthesis.facets import Facets, facets
from attrib.synthesis.fooling import Fooling, fool
from attrib.synthesis.inversion import Inversion, Prior, invert
from attrib.synthesis.recipes import RECIPES, Recipe

__all__ = [
    "RECIPES",
    "Adversarial",
    "Ascent",
    "AttributionChange",
    "Dream",
    "Facets",
    "Fooling",
    "Inversion",
    "Prior",
    "Recipe",
    "ascend",
    "attack",
    "dream",
    "facets",
    "fool",
    "invert",
    "smallest_eps",
]
