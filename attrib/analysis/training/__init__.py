"""Features while a network learns, and networks that lack a part."""
