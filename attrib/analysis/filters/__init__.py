"""Filters as pictures, and what is wrong with them."""
