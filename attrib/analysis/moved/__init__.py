"""What layers, scores and maps make of pictures that are shifted, scaled and turned."""
