"""Looking at a network and its pictures beyond one map: what occlusion changes, objects against their context."""

from attrib.analysis.agreement import Agreement, agreement
from attrib.analysis.context import ObjectContext, object_context
from attrib.analysis.correspondence import correspondence, sign_distances
from attrib.analysis.correspondence_result import Correspondence
from attrib.analysis.occlusion import CleanValues, OcclusionMaps, PixelMaps, occlusion_maps
from attrib.analysis.segment import Segmentation, segment

__all__ = [
    "Agreement",
    "CleanValues",
    "Correspondence",
    "ObjectContext",
    "OcclusionMaps",
    "PixelMaps",
    "Segmentation",
    "agreement",
    "correspondence",
    "object_context",
    "occlusion_maps",
    "segment",
    "sign_distances",
]
