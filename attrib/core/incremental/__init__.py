"""Replay a recorded model, and only what a local mask can change (exact)."""
