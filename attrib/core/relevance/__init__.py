"""Signals other than gradients: handed down to what excited a unit, attention, and what constants contribute."""
