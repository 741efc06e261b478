"""The heart: geometry of windows, the windows themselves, contraction, and the convolution engine."""
