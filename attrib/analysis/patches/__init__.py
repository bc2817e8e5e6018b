"""What units respond to: which fire, and the patches that excite them most."""
