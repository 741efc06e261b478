"""Readers of files under millions of damaged ones: ``python -m tests.fuzz --help``."""
