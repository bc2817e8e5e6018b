"""What is asked of a network: one number per example, larger is more."""
