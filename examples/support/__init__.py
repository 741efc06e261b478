"""What the examples share: their flags, the loop around a training step, and pictures of results."""
