"""Images made by a network: what fools it, what excites it, what it remembers of a picture."""

from attrib.synthesis.adversarial import attack, smallest_eps
from attrib.synthesis.attacked import Adversarial
from attrib.synthesis.change import AttributionChange
from attrib.synthesis.fooling import Fooling, fool

__all__ = ["Adversarial", "AttributionChange", "Fooling", "attack", "fool", "smallest_eps"]
