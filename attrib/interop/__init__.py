"""Bridges to other libraries, one module each: `attrib.interop.captum`."""
