"""Winograd's algorithm for all that it serves, number for number, next to pages that must not be touched.

By itself the compiled engine takes it for many channels and large pictures alone, where few shapes can be
tried; here it is asked for.
"""

from __future__ import annotations

import os
import random as draws

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine.compiled.machine import machine
from tests.guarded import guarded, guarding, orders
from tests.test_adjoint_sweep import geometry_of, integers

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are protected by mprotect")


@pytest.fixture(autouse=True)
def engine():
    """Compute with compiled kernels next to guarded pages."""
    with guarding("compiled") as engine:
        yield engine


def drawn(seed):
    """Draw squares in two axes or three: dilated, beyond the picture and its padding, of any channels."""
    rng = draws.Random(seed)
    deep = rng.random() < 0.4
    inner, outer = (rng.choice((1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 47, 70)) for _ in range(2))
    dilation, padding = (
        tuple(rng.choice(any_of) for _ in range(2)) for any_of in ((1, 1, 2, 3, 5), range(8))
    )
    size = tuple(
        max(1, 1 + 2 * d - 2 * p) + rng.choice((0, rng.randrange(14)))
        for d, p in zip(dilation, padding, strict=True)
    )
    planes = rng.choice((1, 2, 3))
    options = {
        "stride": (*[rng.choice((1, 1, 2))] * deep, 1, 1),
        "padding": (*[rng.randrange(3)] * deep, *padding),
        "dilation": (*[rng.choice((1, 2))] * deep, *dilation),
    }
    depth = 2 * planes + rng.randrange(3)
    x = (rng.choice((1, 1, 2, 5, 11)), inner, *[depth] * deep, *size)
    return x, (outer, inner, *[planes] * deep, 3, 3), options


@pytest.mark.parametrize("seed", range(32))
def test_convolutions_by_compiled_winograd_of_drawn_squares_are_the_definition(seed, engine, monkeypatch):
    """A small cache divides small pictures as the caches of processors divide large ones."""
    if seed % 3:
        monkeypatch.setattr(machine(), "l2_bytes", (64 << 10, 256 << 10)[seed % 3 - 1])
    check(*drawn(seed), ("float64", "float32")[seed % 2], seed)


@pytest.mark.parametrize(("inner", "outer"), [(5, 17), (16, 17), (16, 48)])
@pytest.mark.parametrize("images", [14, 15, 29, 57, 183])
def test_convolutions_by_compiled_winograd_of_any_number_of_pieces_are_the_definition(
    images, inner, outer, engine, monkeypatch
):
    """The last group of pieces may be one."""
    monkeypatch.setattr(machine(), "l2_bytes", 64 << 10)
    check((images, inner, 4, 3), (outer, inner, 3, 3), {"padding": (1, 1)}, "float64", images)


def test_convolutions_by_winograd_of_more_pictures_than_are_copied_at_once_are_the_definition(engine):
    """Contiguous pictures are copied in runs, and gradients of weights summed over them."""
    rng = np.random.default_rng(1)
    x, weight = integers(rng, 27, 32, 72, 70), integers(rng, 33, 32, 3, 3)
    y = F.conv2d(x, weight, padding=1, algorithm="direct")
    g = integers(rng, *y.shape)
    expected = y, *F.conv2d_vjp(g, x, weight, padding=1, algorithm="direct")[:2]
    g, x, weight = (a.astype(np.float32) for a in (g, x, weight))
    found = (
        F.conv2d(x, weight, padding=1, algorithm="winograd"),
        *F.conv2d_vjp(g, x, weight, padding=1, algorithm="winograd")[:2],
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * abs(b).max())


def check(shape, weight_shape, options, dtype, seed):
    """Compare a plan by Winograd's algorithm with the definition, in three memory orders."""
    from fconv.engine.compiled.convolution import CompiledConvolution

    rng, name = np.random.default_rng(seed), f"conv{len(shape) - 2}d"
    x, weight, bias = (integers(rng, *s) for s in (shape, weight_shape, weight_shape[:1]))
    function, vjp = getattr(F, name), getattr(F, f"{name}_vjp")
    y = function(x, weight, bias, **options, algorithm="reference")
    g = integers(rng, *y.shape)
    expected = y, *vjp(g, x, weight, bias, **options, algorithm="reference")[:2]
    plan = CompiledConvolution(geometry_of(shape, weight_shape, options), dtype, "winograd")
    assert plan.algorithm == "winograd"
    for k, order in enumerate(orders(x.ndim)):
        laid = [order if a.ndim > 1 else [0] for a in (g, x, weight, bias)]
        given = [
            guarded(a.astype(dtype), axes, behind=k != 1)
            for a, axes in zip((g, x, weight, bias), laid, strict=True)
        ]
        found = (
            plan.convolve(*given[1:]),
            plan.input_gradient(given[0], given[2]),
            plan.weight_gradient(given[0], given[1], given[2]),
        )
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == dtype
            near = 1e-8 if dtype == "float64" else 2e-5 * max(1, abs(b).max())
            np.testing.assert_allclose(a, b, rtol=0, atol=near)
