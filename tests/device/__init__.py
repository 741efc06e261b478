"""CuPy's arrays: a strict stand-in for them, and what the tests of devices share."""
