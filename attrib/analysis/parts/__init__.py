"""Whether the same parts of different pictures mean the same to a network."""
