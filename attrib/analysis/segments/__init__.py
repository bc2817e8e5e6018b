"""Objects cut out of pictures by the colours that a map points at."""
