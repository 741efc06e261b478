"""Schedules of one phase: constant, in steps, and decays along a curve."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import cos, pi
from typing import TypeAlias

from fconv.arguments.constructors import constructor
from fconv.options import nonnegative, shares, whole

Schedule: TypeAlias = Callable[[int], float]


def of_python_numbers(schedule: Schedule) -> Schedule:
    """Make a schedule give the same bits for a NumPy integer as for a Python one.

    NumPy computes powers by routines of its own, which differ between processors.
    """
    return lambda count: float(schedule(count.item() if hasattr(count, "item") else count))


def milestones_of(name: str, milestones: Sequence[int], least: int) -> list[int]:
    """Require a sequence of integers, `least` or more each."""
    if isinstance(milestones, str) or not hasattr(milestones, "__iter__"):
        raise TypeError(f"{name}: expected milestones to be a sequence of integers, got {milestones!r}")
    return [whole(name, f"milestones[{i}]", value, least) for i, value in enumerate(milestones)]


def along_line(start: float, end: float, share: float) -> float:
    """Return what lies at a share of a straight line."""
    return start + (end - start) * share


def along_cosine(start: float, end: float, share: float) -> float:
    """Return what lies at a share of half a cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2


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
    return of_python_numbers(lambda count: lr)


@constructor
def step(lr: float, step_size: int, *, gamma: float = 0.1) -> Schedule:
    """Multiply the rate by `gamma` every `step_size` steps, as StepLR.

    ``lr * gamma ** (count // step_size)``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        First rate.
    step_size : int
        Steps between two changes.
    gamma : float
        Factor of a change.

    Examples
    --------
    >>> [step(1.0, 2, gamma=0.5)(count) for count in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    lr, gamma = nonnegative("step", lr=lr, gamma=gamma)
    step_size = whole("step", "step_size", step_size)
    return of_python_numbers(lambda count: lr * gamma ** (count // step_size))


@constructor
def multistep(lr: float, milestones: Sequence[int], *, gamma: float = 0.1) -> Schedule:
    """Multiply the rate by `gamma` at each milestone, as MultiStepLR.

    ``lr * gamma ** (number of milestones up to count)``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        First rate.
    milestones : sequence of int
        Counts at which the rate changes; one that stands there twice counts twice.
    gamma : float
        Factor of a change.

    Examples
    --------
    >>> [multistep(1.0, [1, 3], gamma=0.5)(count) for count in range(5)]
    [1.0, 0.5, 0.5, 0.25, 0.25]
    """
    lr, gamma = nonnegative("multistep", lr=lr, gamma=gamma)
    places = sorted(milestones_of("multistep", milestones, least=0))
    return of_python_numbers(lambda count: lr * gamma ** bisect_right(places, count))


@constructor
def exponential(lr: float, gamma: float) -> Schedule:
    """Multiply the rate by `gamma` at every step, as ExponentialLR.

    ``lr * gamma ** count``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        First rate.
    gamma : float
        Factor of a step.

    Examples
    --------
    >>> exponential(1.0, 0.5)(3)
    0.125
    """
    lr, gamma = nonnegative("exponential", lr=lr, gamma=gamma)
    return of_python_numbers(lambda count: lr * gamma**count)


@constructor
def cosine(lr: float, T_max: int, *, eta_min: float = 0.0) -> Schedule:
    """Decay the rate along half a cosine, as CosineAnnealingLR.

    ``eta_min + (lr - eta_min) * (1 + cos(pi * count / T_max)) / 2``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        First rate.
    T_max : int
        Steps to the lowest rate. Beyond it the rate rises again, as the cosine does.
    eta_min : float
        Lowest rate.

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
    return of_python_numbers(lambda count: along_cosine(lr, eta_min, count / T_max))


@constructor
def polynomial(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """Decay the rate to 0 as a power of the steps that remain, as PolynomialLR.

    ``lr * (1 - min(count, total_iters) / total_iters) ** power``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        First rate.
    total_iters : int
        Steps to the rate 0.
    power : float
        The power; 1 is a straight line.

    Examples
    --------
    >>> [polynomial(1.0, 4, 2)(count) for count in range(6)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    lr, power = nonnegative("polynomial", lr=lr, power=power)
    total_iters = whole("polynomial", "total_iters", total_iters)
    return of_python_numbers(lambda count: lr * (1 - min(count, total_iters) / total_iters) ** power)


@constructor
def linear(
    lr: float, *, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """Change the factor of the rate linearly from one value to another, as LinearLR.

    ``lr * (start_factor + (end_factor - start_factor) * min(count, total_iters) / total_iters)``.
    What it returns and raises is as of `constant`.

    Parameters
    ----------
    lr : float
        The rate that the factors multiply.
    start_factor, end_factor : float
        Shares of it at the first step, and from step `total_iters` on; from 0 to 1.
    total_iters : int
        Steps on the way.

    Examples
    --------
    >>> [linear(1.0, start_factor=0.0, total_iters=4)(count) for count in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    (lr,) = nonnegative("linear", lr=lr)
    start, end = shares("linear", start_factor=start_factor, end_factor=end_factor)
    total_iters = whole("linear", "total_iters", total_iters)
    return of_python_numbers(lambda count: lr * along_line(start, end, min(count, total_iters) / total_iters))
