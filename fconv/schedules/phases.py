"""Schedules of several phases: a cycle, one schedule after another, a warm-up."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from fconv.arguments.constructors import constructor
from fconv.options import nonnegative, positive, shares, whole
from fconv.schedules.decay import (
    Schedule,
    along_cosine,
    along_line,
    constant,
    milestones_of,
    of_python_numbers,
)


@constructor
def one_cycle(
    max_lr: float,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Raise the rate to a peak and lower it again over a whole run, as OneCycleLR.

    From ``max_lr / div_factor`` to `max_lr`, then down to ``max_lr / div_factor / final_div_factor``
    at the last step; with three phases first as far down as it began, over as many steps.

    Parameters
    ----------
    max_lr : float
        The peak.
    total_steps : int
        Steps of the run. From the last one on the rate stays; torch's scheduler raises an error.
    pct_start : float
        Share of the run that goes up, from 0 to 1.
    anneal_strategy : {"cos", "linear"}
        Go along half a cosine, or a straight line.
    div_factor, final_div_factor : float
        The peak over the first rate, and the first rate over the last.
    three_phase : bool
        Come down in two phases.

    Returns
    -------
    callable
        ``schedule(count) -> float``. The momentum is not cycled.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    References
    ----------
    Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018.

    Examples
    --------
    >>> up_and_down = one_cycle(1.0, 5, pct_start=0.6, anneal_strategy="linear", div_factor=2.0)
    >>> [round(up_and_down(count), 3) for count in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """
    name = "one_cycle"
    (peak,) = nonnegative(name, max_lr=max_lr)
    div_factor, final_div_factor = positive(name, div_factor=div_factor, final_div_factor=final_div_factor)
    (rising,) = shares(name, pct_start=pct_start)
    steps = whole(name, "total_steps", total_steps)
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f'{name}: expected anneal_strategy "cos" or "linear", got {anneal_strategy!r}')
    anneal = along_cosine if anneal_strategy == "cos" else along_line
    first = peak / div_factor
    middle = [(2 * rising * steps - 2, first)] if three_phase else []
    # Where each phase ends, and at what rate.
    phases = [(rising * steps - 1, peak), *middle, (steps - 1, first / final_div_factor)]

    def schedule(count: int) -> float:
        count, start, begin = min(count, steps - 1), 0.0, first
        for end, rate in phases[:-1]:
            if count <= end:
                break
            start, begin = end, rate
        else:
            end, rate = phases[-1]
        return anneal(begin, rate, (count - start) / (end - start) if end > start else 1.0)

    return of_python_numbers(schedule)


@constructor
def join(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """Follow one schedule after another, as SequentialLR.

    Parameters
    ----------
    schedules : sequence of callable
        Two or more.
    milestones : sequence of int
        The counts, increasing, at which the second and the following ones begin. Each of them counts steps
        from its own beginning.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`; or the numbers of schedules and milestones do not fit.

    Examples
    --------
    >>> from fconv.schedules import cosine, linear
    >>> lr = join([linear(1.0, start_factor=0.0, total_iters=2), cosine(1.0, 4)], [2])
    >>> [round(lr(count), 3) for count in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    parts = list(schedules)
    starts = [0, *milestones_of("join", milestones, least=1)]
    for part in parts:
        if not callable(part):
            raise TypeError(f"join: expected schedules, functions of the step count, got {part!r}")
    if len(parts) < 2 or len(parts) != len(starts):
        raise ValueError(
            f"join: expected two schedules or more and one milestone fewer, got {len(parts)} schedules "
            f"and {len(starts) - 1} milestones"
        )
    if any(a >= b for a, b in pairwise(starts)):
        raise ValueError(f"join: expected increasing milestones, got {starts[1:]}")

    def schedule(count: int) -> float:
        at = bisect_right(starts, count) - 1
        return parts[at](count - starts[at])

    return of_python_numbers(schedule)


@constructor
def warmup(schedule: float | Schedule, steps: int) -> Schedule:
    """Warm up linearly to the first rate of a schedule, then follow it from its beginning.

    ``schedule(0) * (count + 1) / (steps + 1)`` for the first `steps` steps, then ``schedule(count - steps)``:
    no step is wasted on a rate of 0.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    schedule : float or callable
        What follows: a rate that stays, or a schedule.
    steps : int
        Steps of the rise, 1 or more.

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> from fconv.schedules import step
    >>> lr = warmup(step(1.0, 2, gamma=0.5), 3)
    >>> [lr(count) for count in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    """
    following = schedule if callable(schedule) else constant(nonnegative("warmup", schedule=schedule)[0])
    steps = whole("warmup", "steps", steps)

    def rate(count: int) -> float:
        return following(0) * (count + 1) / (steps + 1) if count < steps else following(count - steps)

    return of_python_numbers(rate)
