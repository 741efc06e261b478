"""Tests of fconv."""

import os

SLOW = os.environ.get("FCONV_TEST_PROFILE") == "slow"
"""Whether this is the run that may take hours."""
