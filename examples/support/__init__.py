"""Parts that the examples share: flags, the loop around a training step, and pictures of results."""
