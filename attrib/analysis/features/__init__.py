"""Feature spaces: a bank of features, neighbours in it, and its picture."""
