"""What can be read off layers by linear classifiers."""
