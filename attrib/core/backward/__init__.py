"""Backward passes other than the plain one: which calls are activations, and the rules that override them."""
