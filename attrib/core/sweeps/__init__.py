"""Scores under masks: many masks in batches, and the search for the one mask that matters."""
