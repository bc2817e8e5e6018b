"""The network as it is found: its layers, where they hold their locations, and what a pass of it costs."""
