"""Random numbers as pure functions of an explicit key, over the counter-based generator Philox.

Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
turns a key and a counter into four 64-bit words. A key here is the generator's key, so
every draw is a function of the key alone: nothing is stored, and the same key gives the
same numbers on every machine. The purpose of a key is written into the counter's highest
word, so that keys derived from a key never repeat the words drawn from it.
"""

from __future__ import annotations

import operator
from math import prod
from typing import Any

import numpy as np

from fconv.arrays import Array, Shape, describe, floating_dtype, is_key
from fconv.options import whole

_DRAW, _SPLIT, _FOLD = 0, 1, 2
_generators: list[np.random.Philox] = []  # that nobody draws from at the moment


def key(seed: int) -> Array:
    """Make a key from a seed.

    Parameters
    ----------
    seed : int
        0 up to 2**128 - 1. Neighbouring seeds give unrelated numbers.

    Returns
    -------
    array of uint64, shape (2,)
        The key: a plain NumPy array, which a checkpoint can hold.

    Raises
    ------
    TypeError
        `seed` is not an integer.
    ValueError
        `seed` is negative or too large.

    Examples
    --------
    >>> key(7)
    array([7, 0], dtype=uint64)
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"random.key: expected an integer seed, got {describe(seed)}") from None
    if not 0 <= number < 2**128:
        raise ValueError(f"random.key: expected a seed from 0 to 2**128 - 1, got {number}")
    return np.array([number % 2**64, number >> 64], dtype=np.uint64)


def check_key(name: str, key: object) -> None:
    """Raise a TypeError that names `name` unless `key` is a key."""
    if not is_key(key):
        raise TypeError(
            f"{name}: expected a key made by fconv.random.key, split or fold_in "
            f"(a NumPy array of two uint64), got {describe(key)}{_as_key(key)}"
        )


def _as_key(key: object) -> str:
    """Return what to write for what is no key, for an error message."""
    if isinstance(key, int) and not isinstance(key, bool):
        return f"; write fconv.random.key({key})"
    return "; the key comes before the shape" if isinstance(key, (tuple, list)) else ""


def _words(name: str, key: Array, count: int, purpose: int, position: int = 0) -> Array:
    """Draw `count` 64-bit words of the stream that `key` has for `purpose`."""
    check_key(name, key)
    # Making a generator asks the system for entropy first, which is then thrown away.
    generator = _generators.pop() if _generators else np.random.Philox(key=0)
    state: Any = {
        "bit_generator": "Philox",
        "state": {"counter": (position, 0, 0, purpose), "key": key},
        "buffer": (0, 0, 0, 0), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    generator.state = state
    words = generator.random_raw(count)
    _generators.append(generator)
    return words


def split(key: Array, n: int = 2) -> Array:
    """Derive `n` independent keys.

    The first keys are the same whatever `n` is, so a longer network starts with the
    parameters of a shorter one.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key. Do not draw from it as well.
    n : int
        How many keys, 0 or more.

    Returns
    -------
    array of uint64, shape (n, 2)
        One key per row.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, or `n` is negative.

    Examples
    --------
    >>> first, second = split(key(0))
    >>> bool((split(key(0), 5)[:2] == [first, second]).all())
    True
    """
    n = whole("random.split", "n", n, 0)
    return _words("random.split", key, 2 * n, _SPLIT).reshape(n, 2)


def _entries(name: str, shape: object) -> int:
    """Count the elements of a shape, or raise an error that names `name`."""
    if not isinstance(shape, (tuple, list)):
        raise TypeError(f"{name}: expected a shape, a tuple of integers, got {describe(shape)}")
    return prod(whole(name, "a size", size, 0) for size in shape)


def fold_in(key: Array, data: int) -> Array:
    """Derive the key that belongs to a number, for instance to a step of training.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key.
    data : int
        0 up to 2**64 - 1.

    Returns
    -------
    array of uint64, shape (2,)
        A key that is unrelated to those of other numbers.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, or `data` is no integer in that range.

    Examples
    --------
    >>> bool((fold_in(key(0), 1) == fold_in(key(0), 1)).all())
    True
    """
    try:
        number = operator.index(data)
    except TypeError:
        raise TypeError(f"random.fold_in: expected an integer, got {describe(data)}") from None
    if not 0 <= number < 2**64:
        raise ValueError(f"random.fold_in: expected a number from 0 to 2**64 - 1, got {number}")
    return _words("random.fold_in", key, 2, _FOLD, number)


def uniform(
    key: Array, shape: Shape = (), dtype: Any = np.float32, low: float = 0.0, high: float = 1.0
) -> Array:
    """Draw from the uniform distribution on [low, high).

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key.
    shape : tuple of int
        Shape of the result.
    dtype : dtype
        float16, float32 or float64. The unit interval is divided into 2**11, 2**24 or
        2**53 steps.
    low, high : float
        The interval.

    Returns
    -------
    array of `dtype`
        The draws.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, `dtype` is not a floating-point dtype, or ``low > high``.

    Examples
    --------
    >>> uniform(key(0), (2, 3)).shape
    (2, 3)
    """
    kind = floating_dtype("random.uniform", dtype)
    if low > high:
        raise ValueError(f"random.uniform: expected low <= high, got {low} and {high}")
    count = _entries("random.uniform", shape)
    bits = {2: 11, 4: 24}.get(kind.itemsize, 53)
    if bits == 53:
        words = _words("random.uniform", key, count, _DRAW) >> np.uint64(11)
    else:
        words = _words32("random.uniform", key, count) >> np.uint32(32 - bits)
    unit = (words * 2.0**-bits).astype(kind, copy=False).reshape(shape)
    if (low, high) == (0.0, 1.0):
        return unit
    # Rounding may reach `high` itself, which the interval leaves out.
    stretched = low + (float(high) - float(low)) * unit
    below = np.nextafter(kind.type(high), kind.type(low))
    return np.asarray(np.minimum(stretched, below), dtype=kind)


def _words32(name: str, key: Array, count: int) -> Array:
    """Draw 32-bit words: the halves of 64-bit words, the lower half first on every machine."""
    words = _words(name, key, (count + 1) // 2, _DRAW)
    return words.astype("<u8", copy=False).view("<u4")[:count]


def normal(
    key: Array, shape: Shape = (), dtype: Any = np.float32, mean: float = 0.0, std: float = 1.0
) -> Array:
    """Draw from the normal distribution (Box and Muller 1958, computed in float64).

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key.
    shape : tuple of int
        Shape of the result.
    dtype : dtype
        float16, float32 or float64.
    mean, std : float
        Mean and standard deviation.

    Returns
    -------
    array of `dtype`
        The draws.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, `dtype` is not a floating-point dtype, or `std` is negative.

    Examples
    --------
    >>> x = normal(key(0), (10_000,), mean=2.0, std=3.0)
    >>> bool(abs(x.mean() - 2) < 0.1 and abs(x.std() - 3) < 0.1)
    True
    """
    check_key("random.normal", key)
    kind = floating_dtype("random.normal", dtype)
    if std < 0:
        raise ValueError(f"random.normal: expected a standard deviation of 0 or more, got {std}")
    count = _entries("random.normal", shape)
    pairs = (count + 1) // 2
    unit = uniform(key, (2, pairs), np.float64)
    radius = np.sqrt(-2.0 * np.log1p(-unit[0]))  # log(1 - u), because u may be 0
    angle = 2.0 * np.pi * unit[1]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return (mean + std * both).astype(kind).reshape(shape)


def bernoulli(key: Array, p: float = 0.5, shape: Shape = ()) -> Array:
    """Draw booleans that are true with probability `p`.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key.
    p : float
        Probability of True, in steps of 2**-32.
    shape : tuple of int
        Shape of the result.

    Returns
    -------
    array of bool
        The draws.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, or `p` is outside [0, 1].

    Examples
    --------
    >>> bool(bernoulli(key(0), 1.0, (100,)).all())
    True
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"random.bernoulli: expected a probability from 0 to 1, got {p}")
    words = _words32("random.bernoulli", key, _entries("random.bernoulli", shape)).reshape(shape)
    threshold = round(float(p) * 2**32)
    return np.ones(shape, bool) if threshold == 2**32 else np.asarray(words < np.uint32(threshold))


def permutation(key: Array, x: int | Array) -> Array:
    """Draw a random order.

    Parameters
    ----------
    key : array of uint64, shape (2,)
        A key.
    x : int or array
        A count, for an order of ``0 .. x - 1``; or an array, whose first axis is shuffled
        into a new array.

    Returns
    -------
    array
        int64 of shape (x,), or the rows of `x` in a new order.

    Raises
    ------
    TypeError, ValueError
        `key` is no key, `x` is negative or has no axis.

    Examples
    --------
    >>> sorted(permutation(key(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    if not isinstance(x, (int, np.integer)) and getattr(x, "ndim", 0) == 0:
        raise ValueError(f"random.permutation: expected a count or an array with an axis, got {describe(x)}")
    count = int(x) if isinstance(x, (int, np.integer)) else len(x)
    if count < 0:
        raise ValueError(f"random.permutation: expected a count of 0 or more, got {count}")
    order = np.argsort(_words("random.permutation", key, count, _DRAW), kind="stable")
    return order if isinstance(x, (int, np.integer)) else x[order]
