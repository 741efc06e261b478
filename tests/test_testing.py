"""Tests of the tests: a wrong gradient or a broken contract is rejected, a right one is not."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

import fconv as fc
from fconv import functional as F
from fconv.testing import check_layer, check_vjp
from fconv.testing import strategies as fst
from fconv.testing.purity import call_purely

KEY = fc.random.key(0)
X = fc.random.normal(KEY, (2, 3, 5, 5), np.float64)
W = fc.random.normal(fc.random.key(1), (4, 3, 3, 3), np.float64)
B = fc.random.normal(fc.random.key(2), (4,), np.float64)


def spoilt(change):
    """The gradient of conv2d with one mistake."""

    def vjp(g, x, weight, bias):
        return change(*F.conv2d_vjp(g, x, weight, bias), g)

    return vjp


def bumped(x, factor=1.001):
    """One element of a gradient a little wrong."""
    y = x.copy()
    y[(0,) * y.ndim] *= factor
    return y


MISTAKES = {
    "one element of dx is off by 0.1 %": lambda dx, dw, db, g: (bumped(dx), dw, db),
    "one element of dweight is off by 0.1 %": lambda dx, dw, db, g: (dx, bumped(dw), db),
    "the bias gradient is a mean, not a sum": lambda dx, dw, db, g: (dx, dw, g.mean((0, 2, 3))),
    "dx has the wrong sign": lambda dx, dw, db, g: (-dx, dw, db),
    "dx is zero": lambda dx, dw, db, g: (0 * dx, dw, db),
    "dx is flipped": lambda dx, dw, db, g: (dx[..., ::-1], dw, db),
    "dweight is transposed": lambda dx, dw, db, g: (dx, dw.swapaxes(2, 3), db),
    "dx is NaN": lambda dx, dw, db, g: (dx * np.nan, dw, db),
    "gradients of two arrays are exchanged": lambda dx, dw, db, g: (dx, dw, db[::-1]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_gradients_are_rejected(mistake):
    check_vjp(F.conv2d, F.conv2d_vjp, [X, W, B])
    with pytest.raises(AssertionError, match="conv2d: the gradient disagrees with differences"):
        check_vjp(F.conv2d, spoilt(MISTAKES[mistake]), [X, W, B])


def test_the_message_shows_direction_both_numbers_and_the_worst_element():
    with pytest.raises(AssertionError) as info:
        check_vjp(F.conv2d, spoilt(lambda dx, dw, db, g: (dx, bumped(dw, 1.5), db)), [X, W, B])
    text = str(info.value)
    for part in [
        "<g, f'(x) u> by differences",
        "<vjp(g), u>",
        "direction u of args[0], shape (2, 3, 5, 5)",
        "args[1], shape",
    ]:
        assert part in text
    assert "worst element                args[1][0, 0, 0, 0]: gradient" in text


def test_kinks_are_stepped_away_from_and_do_not_excuse_a_wrong_gradient():
    flat = np.zeros((3, 4))  # relu has a kink at every element
    check_vjp(F.relu, F.relu_vjp, [flat])
    check_vjp(F.max_pool2d, F.max_pool2d_vjp, [np.ones((1, 1, 4, 4))], {"kernel_size": 2})
    with pytest.raises(AssertionError, match="relu: the gradient disagrees"):
        check_vjp(F.relu, lambda g, x: g, [flat])
    with pytest.raises(AssertionError, match="no smooth point was found"):
        check_vjp(lambda x: abs(np.round(1e9 * x)), lambda g, x: g, [flat])


def test_other_broken_promises_of_functions_are_rejected():
    def changes(x):
        x += 1
        return x.copy()

    with pytest.raises(AssertionError, match="argument 0 was changed by the call"):
        check_vjp(changes, lambda g, x: g, [X])
    counter = iter(range(100))
    with pytest.raises(AssertionError, match="different bits the second time"):
        check_vjp(lambda x: x + 1e-9 * next(counter), lambda g, x: g, [X])
    with pytest.raises(AssertionError, match=r"the gradient of args\[0\] has shape \(2,\)"):
        check_vjp(lambda x: 2 * x, lambda g, x: g[0, 0, 0, :2], [X])
    with pytest.raises(AssertionError, match="the vjp of several arrays must give a tuple"):
        check_vjp(lambda x, y: x * y, lambda g, x, y: g * y, [X, X])
    with pytest.raises(AssertionError, match="there is no floating-point array"):
        check_vjp(lambda x: x, lambda g, x: g, [np.arange(3)])
    with pytest.raises(AssertionError, match="the value in another memory layout"):
        check_vjp(lambda x: x.ravel(order="K"), lambda g, x: g.reshape(x.shape), [X])


def break_layer(**changes):
    return dataclasses.replace(fc.linear(2), name="broken", forward=None, **changes)


GOOD = fc.linear(2)
LAYERS = {
    "out_shape says": {"out_shape": lambda s: (*s, 1)},
    "argument 1 was changed": {"apply": lambda p, x, *, train=False, key=None: (x.__imul__(2), GOOD.apply(p, x))[1]},
    "gave an output of float64": {"apply": lambda p, x, *, train=False, key=None: GOOD.apply(p, x).astype(float)},
    "differs from them in structure": {"vjp": lambda p, x, g, *, train=False, key=None: ((), GOOD.vjp(p, x, g)[1])},
    "expected weight, bias, got weight": {"vjp": lambda p, x, g, *, train=False, key=None: ({"weight": GOOD.vjp(p, x, g)[0]["weight"]}, x)},
    "gradient of weight has shape": {"vjp": lambda p, x, g, *, train=False, key=None: ({"weight": p["bias"], "bias": p["bias"]}, x)},
    "structure depends on the dtype": {"init": lambda k, s, dtype=np.float32: GOOD.init(k, s, dtype) if dtype == np.float64 else ()},
    "float32 by default": {"init": lambda k, s, dtype=np.float64: GOOD.init(k, s, np.float64)},
    "the gradient disagrees": {"vjp": lambda p, x, g, *, train=False, key=None: (GOOD.vjp(p, x, g)[0], 2 * GOOD.vjp(p, x, g)[1])},
}  # fmt: skip


@pytest.mark.parametrize("text", LAYERS)
def test_layers_that_break_the_contract_are_rejected(text):
    x = X.astype(np.float32)
    check_layer(GOOD, x)
    with pytest.raises(AssertionError, match=text):
        check_layer(break_layer(**LAYERS[text]), x)


def test_a_forward_that_disagrees_is_rejected():
    def off(params, x, *, train=False, key=None):
        y, params, pullback = GOOD.forward(params, x)
        return (
            y,
            params,
            lambda g, input_grad=True: (pullback(g)[0], 2 * pullback(g)[1] if input_grad else None),
        )

    with pytest.raises(AssertionError, match="the input gradients of forward's pullback and vjp"):
        check_layer(dataclasses.replace(GOOD, forward=off), X)

    def other(params, x, *, train=False, key=None):
        y, params, pullback = GOOD.forward(params, x)
        return y + 1, params, pullback

    with pytest.raises(AssertionError, match="the outputs of forward and apply"):
        check_layer(dataclasses.replace(GOOD, forward=other), X)

    def keen(params, x, *, train=False, key=None):
        y, params, pullback = GOOD.forward(params, x)
        return y, params, lambda g, input_grad=True: pullback(g)

    with pytest.raises(AssertionError, match="gave an input gradient with input_grad=False"):
        check_layer(dataclasses.replace(GOOD, forward=keen), X)


def test_a_scale_forgotten_in_the_gradient_shows_though_it_starts_at_one():
    """Batch norm's weight is 1 at first; a gradient that leaves it out is right there, and only there."""
    good = fc.batch_norm()

    def vjp(params, x, g, *, train=False, key=None):
        dparams, _ = good.vjp(params, x, g, train=train)
        return dparams, good.vjp({**params, "weight": np.ones_like(params["weight"])}, x, g, train=train)[1]

    with pytest.raises(AssertionError, match="the gradient disagrees"):
        check_layer(dataclasses.replace(good, forward=None, vjp=vjp), X)


@given(x=fst.arrays_like((2, 3, 4, 5)), key=fst.keys())
def test_strategies_serve_a_users_own_suite(x, key):
    assert x.shape == (2, 3, 4, 5)
    assert x.dtype == np.float32
    check_layer(fc.compose(fc.conv2d(2, 2), fc.tanh()), x, key=key, directions=1)


@pytest.mark.parametrize("layout", ["C", "F", "channels_last", "strided", "reversed"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3,), (), (0, 2), (2, 3, 4)])
def test_layouts_keep_the_values(layout, shape):
    x = fc.random.normal(KEY, shape)
    y = fst.laid_out(x, layout)
    assert y.shape == shape
    np.testing.assert_array_equal(x, y)


def test_call_purely_passes_results_through():
    assert call_purely("f", lambda a, *, b: (a, b), 1, b=2) == (1, 2)


def test_bad_input_is_named():
    with pytest.raises(
        TypeError, match=r"^check_vjp: expected args to be a list .*shape \(2, 3, 5, 5\); write \[x\]"
    ):
        check_vjp(F.tanh, F.tanh_vjp, X)
    with pytest.raises(
        ValueError, match=r"^check_vjp: constants names argument 1, which is no floating-point array"
    ):
        check_vjp(F.tanh, F.tanh_vjp, [X], constants=[1])
    with pytest.raises(TypeError, match=r"^check_layer: expected x to be an array, .* got float in a list"):
        check_layer(fc.relu(), [1.0, 2.0])
    with pytest.raises(TypeError, match=r"^check_layer: expected x to be an array, .* got str$"):
        check_layer(fc.relu(), "x")
    with pytest.raises(TypeError, match=r"^check_layer: expected a layer"):
        check_layer(fc.relu, X)


def test_the_blocks_of_the_documentation_run():
    page = Path(__file__).parents[1] / "docs" / "checking.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    names = {}
    for block in blocks:
        exec(block, names)
    names["test_scaled"]()
    assert len(blocks) == 2
