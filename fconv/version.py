"""The version, which the package, its files and its documentation all take from here."""

__version__ = "0.1.0"
