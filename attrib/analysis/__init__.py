"""Looking at a network and its pictures beyond one map: what occlusion changes, objects against their context."""

from attrib.analysis.context import ObjectContext, object_context
from attrib.analysis.occlusion import CleanValues, OcclusionMaps, PixelMaps, occlusion_maps

__all__ = ["CleanValues", "ObjectContext", "OcclusionMaps", "PixelMaps", "object_context", "occlusion_maps"]
