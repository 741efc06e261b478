"""The command line as functions: weights carried over, compared and listed; machines examined."""
