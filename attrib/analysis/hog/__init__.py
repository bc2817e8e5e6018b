"""Seeing as features see: turning them back into pictures, HOG's above all."""

from attrib.analysis.hog.dictionary import DictionaryInverter, fit_dictionary, sparse_codes
from attrib.analysis.hog.inverter import Fidelity, Inverter
from attrib.analysis.hog.ridge import RidgeInverter, fit_ridge
from attrib.analysis.hog.views import HOGViews, see_hog

__all__ = [
    "DictionaryInverter",
    "Fidelity",
    "HOGViews",
    "Inverter",
    "RidgeInverter",
    "fit_dictionary",
    "fit_ridge",
    "see_hog",
    "sparse_codes",
]
