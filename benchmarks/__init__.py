"""Measurements of attrib against its peers; each script says what it does with ``--help``."""
