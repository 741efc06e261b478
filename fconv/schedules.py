"""Schedules of the learning rate: functions of the number of steps taken before.

A schedule is any function ``schedule(count) -> learning rate``: 0 is the count of an optimizer's first
step. Those made here follow torch.optim.lr_scheduler's closed forms, and give Python floats. The
first argument of each is the rate that torch's schedulers find in their optimizer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import cos, pi
from typing import Literal, TypeAlias

from fconv.arguments.constructors import constructor
from fconv.options import nonnegative, positive, shares, whole

Schedule: TypeAlias = Callable[[int], float]


def _of_python_numbers(schedule: Schedule) -> Schedule:
    """Make a schedule give the same bits for a NumPy integer as for a Python one.

    NumPy computes powers by routines of its own, which differ between processors.
    """
    return lambda count: float(schedule(count.item() if hasattr(count, "item") else count))


@constructor
def constant(lr: float) -> Schedule:
    """Keep one rate.

    Parameters
    ----------
    lr : float
        The rate, 0 or more.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError
        An option of a schedule is no number, or no integer where a count is meant.
    ValueError
        An option is out of its range.

    Examples
    --------
    >>> constant(0.1)(7)
    0.1
    """
    (lr,) = nonnegative("constant", lr=lr)
    return _of_python_numbers(lambda count: lr)


@constructor
def step(lr: float, step_size: int, *, gamma: float = 0.1) -> Schedule:
    """Multiply the rate by `gamma` every `step_size` steps, as StepLR.

    ``lr * gamma ** (count // step_size)``.

    Parameters
    ----------
    lr : float
        First rate.
    step_size : int
        Steps between two changes.
    gamma : float
        Factor of a change.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    Examples
    --------
    >>> [step(1.0, 2, gamma=0.5)(count) for count in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    lr, gamma = nonnegative("step", lr=lr, gamma=gamma)
    step_size = whole("step", "step_size", step_size)
    return _of_python_numbers(lambda count: lr * gamma ** (count // step_size))


@constructor
def multistep(lr: float, milestones: Sequence[int], *, gamma: float = 0.1) -> Schedule:
    """Multiply the rate by `gamma` at each milestone, as MultiStepLR.

    ``lr * gamma ** (number of milestones up to count)``.

    Parameters
    ----------
    lr : float
        First rate.
    milestones : sequence of int
        Counts at which the rate changes; one that stands there twice counts twice.
    gamma : float
        Factor of a change.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    Examples
    --------
    >>> [multistep(1.0, [1, 3], gamma=0.5)(count) for count in range(5)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    lr, gamma = nonnegative("multistep", lr=lr, gamma=gamma)
    places = sorted(_milestones("multistep", milestones, least=0))
    return _of_python_numbers(lambda count: lr * gamma ** bisect_right(places, count))


@constructor
def exponential(lr: float, gamma: float) -> Schedule:
    """Multiply the rate by `gamma` at every step, as ExponentialLR.

    ``lr * gamma ** count``.

    Parameters
    ----------
    lr : float
        First rate.
    gamma : float
        Factor of a step.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    Examples
    --------
    >>> exponential(1.0, 0.5)(3)
    0.125
    """
    lr, gamma = nonnegative("exponential", lr=lr, gamma=gamma)
    return _of_python_numbers(lambda count: lr * gamma**count)


@constructor
def cosine(lr: float, T_max: int, *, eta_min: float = 0.0) -> Schedule:
    """Decay the rate along half a cosine, as CosineAnnealingLR.

    ``eta_min + (lr - eta_min) * (1 + cos(pi * count / T_max)) / 2``.

    Parameters
    ----------
    lr : float
        First rate.
    T_max : int
        Steps to the lowest rate. Beyond it the rate rises again, as the cosine does.
    eta_min : float
        Lowest rate.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.

    Examples
    --------
    >>> [round(cosine(1.0, 4)(count), 3) for count in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    lr, eta_min = nonnegative("cosine", lr=lr, eta_min=eta_min)
    T_max = whole("cosine", "T_max", T_max)
    return _of_python_numbers(lambda count: _cosine(lr, eta_min, count / T_max))


@constructor
def polynomial(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """Decay the rate to 0 along a power, as PolynomialLR.

    ``lr * (1 - min(count, total_iters) / total_iters) ** power``.

    Parameters
    ----------
    lr : float
        First rate.
    total_iters : int
        Steps to the rate 0.
    power : float
        The power; 1 is a straight line.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    Examples
    --------
    >>> [polynomial(1.0, 4, 2)(count) for count in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    lr, power = nonnegative("polynomial", lr=lr, power=power)
    total_iters = whole("polynomial", "total_iters", total_iters)
    return _of_python_numbers(lambda count: lr * (1 - min(count, total_iters) / total_iters) ** power)


@constructor
def linear(
    lr: float, *, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """Change the rate linearly from one share of it to another, as LinearLR.

    ``lr * (start_factor + (end_factor - start_factor) * min(count, total_iters) / total_iters)``.

    Parameters
    ----------
    lr : float
        The rate that the factors multiply.
    start_factor, end_factor : float
        Shares of it at the first step, and from step `total_iters` on; from 0 to 1.
    total_iters : int
        Steps on the way.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    Examples
    --------
    >>> [linear(1.0, start_factor=0.0, total_iters=4)(count) for count in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    (lr,) = nonnegative("linear", lr=lr)
    start, end = shares("linear", start_factor=start_factor, end_factor=end_factor)
    total_iters = whole("linear", "total_iters", total_iters)
    return _of_python_numbers(lambda count: lr * _linear(start, end, min(count, total_iters) / total_iters))


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
    anneal = _cosine if anneal_strategy == "cos" else _linear
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

    return _of_python_numbers(schedule)


@constructor
def join(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """Follow one schedule after another, as SequentialLR.

    Parameters
    ----------
    schedules : sequence of callable
        Two or more.
    milestones : sequence of int
        The counts, increasing, at which the second and the following ones begin. Each of them counts
        from its beginning.

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
    >>> lr = join([linear(1.0, start_factor=0.0, total_iters=2), cosine(1.0, 4)], [2])
    >>> [round(lr(count), 3) for count in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    parts = list(schedules)
    starts = [0, *_milestones("join", milestones, least=1)]
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

    return _of_python_numbers(schedule)


@constructor
def warmup(schedule: float | Schedule, steps: int) -> Schedule:
    """Warm up linearly to the first rate of a schedule, then follow it from its beginning.

    ``schedule(0) * (count + 1) / (steps + 1)`` for the first `steps` steps, then ``schedule(count - steps)``:
    no step is wasted on a rate of 0.

    Parameters
    ----------
    schedule : float or callable
        What follows: a rate that stays, or a schedule.
    steps : int
        Steps of the rise, 1 or more.

    Returns
    -------
    callable
        ``schedule(count) -> float``.

    Raises
    ------
    TypeError, ValueError
        As of `constant`.

    References
    ----------
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017.

    Examples
    --------
    >>> lr = warmup(step(1.0, 2, gamma=0.5), 3)
    >>> [lr(count) for count in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    """
    following = schedule if callable(schedule) else constant(nonnegative("warmup", schedule=schedule)[0])
    steps = whole("warmup", "steps", steps)

    def rate(count: int) -> float:
        return following(0) * (count + 1) / (steps + 1) if count < steps else following(count - steps)

    return _of_python_numbers(rate)


def _milestones(name: str, milestones: Sequence[int], least: int) -> list[int]:
    if isinstance(milestones, str) or not hasattr(milestones, "__iter__"):
        raise TypeError(f"{name}: expected milestones to be a sequence of integers, got {milestones!r}")
    return [whole(name, f"milestones[{i}]", value, least) for i, value in enumerate(milestones)]


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + cos(pi * share)) / 2
