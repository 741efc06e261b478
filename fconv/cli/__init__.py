"""The command `fconv`: parsing and printing; the work is done by the library.

Nothing else in the library imports this package, and click is needed for it alone.
"""

from fconv.cli.app import main

__all__ = ["main"]
