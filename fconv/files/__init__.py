"""Trees in files: checkpoints, formats, locks on folders, and files that are written whole or not at all."""
