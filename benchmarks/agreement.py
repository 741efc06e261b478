"""Check that libraries computed the same thing; only then do their times say anything."""

from __future__ import annotations

import numpy as np

# Of results and of the loss in float32, relative to the largest element: PyTorch's sum of a million numbers,
# as in the gradient of a bias, is wrong by more than half of it.
ALLOWED = 2e-4
ALLOWED_TRAINING = 1e-6  # of two steps in float64: losses, and the momentum of each parameter

Way = tuple[str, str]  # a library and a memory order
Outcome = dict[str, np.ndarray]


def disagreements(outcomes: dict[Way, Outcome]) -> dict[Way, str]:
    """Compare all with one, PyTorch where it is there, otherwise the first; tell those that differ."""
    if not outcomes:
        return {}
    judge = next((way for way in outcomes if way[0] == "torch"), next(iter(outcomes)))
    found = {}
    for way, outcome in outcomes.items():
        error, name = difference(outcome, outcomes[judge])
        if not error <= 1:
            found[way] = (
                f"disagrees with {judge[0]} ({judge[1]}) in {name}: {error:.3g} times the difference allowed"
            )
    return found


def difference(outcome: Outcome, other: Outcome) -> tuple[float, str]:
    """Return the largest difference, in units of what is allowed, and the name of the array it is in.

    Running statistics and the like, which the other does not have, are passed over. What is not
    finite gives infinity.

    Examples
    --------
    >>> error, name = difference({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.0001])})
    >>> round(error, 2), name
    (0.25, 'y')
    """
    worst, where = 0.0, ""
    # A bias before batch norm has the gradient 0, and rounding gives each library another 1e-17.
    moved = [np.abs(theirs).max() for name, theirs in other.items() if name.startswith("momentum ")]
    least = 1e-6 * max(moved, default=0.0)
    for name, theirs in other.items():
        ours = outcome.get(name)
        allowed = ALLOWED_TRAINING if name == "loss" or name.startswith("momentum ") else ALLOWED
        if ours is None or ours.shape != theirs.shape or not (np.isfinite(ours) & np.isfinite(theirs)).all():
            return float("inf"), name
        largest = max(np.abs(theirs).max(), least if name.startswith("momentum ") else 0.0)
        error = float(np.abs(ours - theirs).max() / (allowed * largest or 1e-300))
        if error > worst:
            worst, where = error, name
    return worst, where
