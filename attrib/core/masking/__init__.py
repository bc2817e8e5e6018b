"""What is hidden, by what it is replaced, and how many masks go through a model at once."""
