"""What part of the input the units of a layer see, read off the operations that ran."""
