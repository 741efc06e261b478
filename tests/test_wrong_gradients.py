"""The gradient checks catch every kind of mistake of `wrong_gradients` and `wrong_layers`, and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fconv as fc
from fconv.testing import check_layer, check_vjp
from tests import right_layers, wrong_gradients, wrong_layers
from tests.spending import processor_time


@pytest.mark.parametrize("kind", wrong_gradients.KINDS)
def test_a_wrong_gradient_is_caught(kind):
    function, vjp, args, *options = wrong_gradients.KINDS[kind]()
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_vjp(function, vjp, args, *options)


def test_the_message_says_what_differed_and_shows_the_numbers_and_the_input():
    def message(check, *args):
        with pytest.raises(AssertionError) as info:
            check(*args)
        return str(info.value)

    text = message(check_vjp, *wrong_gradients.KINDS["wrong for column-major x"]())
    assert re.match(
        r"tanh: the gradient of args\[0\] in another memory layout \(arguments F, g channels_last, read-only\), "
        r"and as it was: at \(0, 0, 0, 1\), -?\d\S* and -?\d\S*\n  args\[0\], shape \(2, 3, 4, 4\):\n",
        text,
    )
    assert "\n  g, shape (2, 3, 4, 4):\n" in text
    text = message(check_vjp, *wrong_gradients.KINDS["None for one of two arrays"]())
    assert text.startswith(
        "scaled: the gradient of args[1] is None, but the value changes along it\n  <g, f'(x) u>"
    )
    assert "direction u of args[1], shape (3, 1, 1)" in text
    text = message(check_layer, wrong_layers.KINDS["a stale x, that of the last apply"](), right_layers.X)
    for part in (
        "centred (train=False), called with other arguments before: the gradient disagrees with differences",
        "<g, f'(x) u> by differences", "<vjp(g), u>", "direction u of params.weight, shape (3,)", "  x, shape (2, 3, 8, 8)",
    ):  # fmt: skip
        assert part in text
    text = message(check_layer, wrong_layers.KINDS["a pullback wrong at its second call"](), right_layers.X)
    assert text.startswith("centred (train=False): the gradients of forward's pullback, called again")
    assert "  x, shape (2, 3, 8, 8)" in text
    for kind, part in {
        "a refreshed statistic of another shape": "forward: running_mean comes back as numpy array of float64 with shape",
        "a refreshed statistic of another dtype": "expected numpy array of float32 with shape (3,)",
        "a forward that changes trained parameters": "forward: weight is changed, and it is trained",
        "an out_shape right for this batch alone": "another batch: out_shape says (2, 3, 8, 8), apply gives (1, 3, 8, 8)",
        "other parameter gradients with input_grad=False": "with input_grad=False and vjp: params.bias: at (0,), 0 and",
        "a float64 gradient for float32": "the gradient of weight has shape (3,) and dtype float64; expected (3,) and float32",
    }.items():  # fmt: skip
        assert part in message(check_layer, wrong_layers.KINDS[kind](), right_layers.X)


def test_arrays_without_a_gradient_are_named():
    def vjp(g, x, w):
        return g * w, None

    check_vjp(wrong_gradients.scaled, vjp, [wrong_gradients.X, wrong_gradients.SCALE], constants=[1])


@pytest.mark.parametrize("kind", wrong_gradients.RIGHT)
def test_a_right_gradient_passes(kind):
    check_vjp(*wrong_gradients.RIGHT[kind])


@pytest.mark.parametrize("kind", wrong_layers.KINDS)
def test_a_wrong_layer_is_caught(kind):
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        check_layer(wrong_layers.KINDS[kind](), right_layers.X)


@pytest.mark.parametrize("kind", wrong_layers.OF_TWO)
def test_a_wrong_layer_of_two_inputs_is_caught(kind):
    with pytest.raises(AssertionError):
        check_layer(wrong_layers.OF_TWO[kind](), right_layers.RIGHT["ratio"][1])


@pytest.mark.parametrize("kind", right_layers.RIGHT)
def test_a_right_layer_passes(kind):
    check_layer(*right_layers.RIGHT[kind])


def test_there_are_as_many_kinds_as_are_promised():
    assert len(wrong_gradients.KINDS) >= 59
    assert len(wrong_layers.KINDS) + len(wrong_layers.OF_TWO) >= 25
    assert len(right_layers.RIGHT) >= 30


def test_a_check_is_quick():
    layer = fc.conv2d(4, 3, padding=1)
    check_layer(layer, right_layers.X)  # compiles, where something does
    with processor_time() as spent:
        check_layer(layer, right_layers.X)
    assert spent.seconds < 5.0
