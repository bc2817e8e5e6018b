"""What occlusion changes: windows everywhere, objects against their context."""
