"""The engine: a plan for each shape of a convolution, made by the first offer that serves it."""
