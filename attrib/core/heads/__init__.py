"""The linear layer at the end of a network: what it reads, and whether the scores are made of it alone."""
