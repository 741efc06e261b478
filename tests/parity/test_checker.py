"""`check_vjp` and `check_adjoint` of functions of PyTorch, and of JAX where it is installed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fconv.testing import check_adjoint, check_vjp
from fconv.testing import strategies as fst

X = np.linspace(-1.0, 1.0, 12).reshape(3, 4)


class Scaled(torch.autograd.Function):
    """x * w, of which subclasses change the backward pass."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w, (g * x).sum_to_size(w.shape)


class WrongFactor(Scaled):
    @staticmethod
    def backward(ctx, g):
        dx, dw = Scaled.backward(ctx, g)
        return dx, 1.0001 * dw


class WrongForBroadcast(Scaled):
    @staticmethod
    def backward(ctx, g):
        dx, dw = Scaled.backward(ctx, g)
        return (2 * dx if 0 in g.stride() else dx), dw


class WrongCount(Scaled):
    @staticmethod
    def backward(ctx, g):
        return Scaled.backward(ctx, g)[0]


class ChangesItsInput(Scaled):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x.clone(), w)
        return x.mul_(w)


class ChangesG(Scaled):
    @staticmethod
    def backward(ctx, g):
        dx, dw = Scaled.backward(ctx, g)
        g.zero_()
        return dx, dw


@settings(max_examples=5)
@given(shapes=fst.shapes("... n c", "c"), key=fst.keys())
def test_a_right_function_passes_in_any_shape(shapes, key):
    args = [np.ones(shape) for shape in shapes]
    check_adjoint(Scaled, None, args, key=key)
    check_vjp(Scaled, None, args, key=key, directions=1)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (WrongFactor, "WrongFactor: the gradient disagrees with differences of the value"),
        (WrongForBroadcast, "for a g that broadcasts one element"),
        (WrongCount, "RuntimeError: function WrongCountBackward returned an incorrect number of gradients"),
        (ChangesItsInput, "ChangesItsInput: argument 0 was changed by the call"),
    ],
)  # fmt: skip
def test_a_wrong_function_is_caught(function, text):
    with pytest.raises(AssertionError, match=text):
        check_vjp(function, None, [X, X[:1].copy()])


def test_a_wrong_function_is_no_adjoint():
    with pytest.raises(AssertionError, match=r"WrongFactor: the vjp is not the adjoint in args\[1\]"):
        check_adjoint(WrongFactor, None, [np.ones((3, 4)), np.ones(4)])


def test_functions_of_tensors_with_a_vjp_of_ones_own():
    x, labels = torch.tensor(X, dtype=torch.float32), torch.tensor([1, 0, 3])

    def vjp(g, x, labels):
        return g * (torch.softmax(x, 1) - torch.nn.functional.one_hot(labels, 4)) / 3, None

    check_vjp(torch.nn.functional.cross_entropy, vjp, [x, labels])
    check_vjp(torch.nn.functional.cross_entropy, None, [x, labels], {"label_smoothing": 0.1})
    with pytest.raises(AssertionError, match="cross_entropy: the gradient disagrees"):
        check_vjp(
            torch.nn.functional.cross_entropy, lambda g, x, labels: vjp(g, 1.01 * x, labels), [x, labels]
        )


@pytest.mark.parametrize(
    ("function", "vjp", "args", "options", "text"),
    [
        (np.tanh, None, [X], {}, r"expected a function vjp\(g, \*args\) beside tanh, got None"),
        (Scaled, None, [X, X], {"scale": 2}, "Scaled is a torch.autograd.Function, which takes no options"),
        (torch.tanh, lambda g: g, [torch.ones(3)], {}, r"tanh: the vjp is called as vjp\(g, \*args, \*\*opt"),
        (np.tanh, lambda g, x, y: g, [X], {}, r"with 1 args: missing a required argument: 'y'"),
        (Scaled, None, X, {}, "check_vjp: expected args to be a list of arguments"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(function, vjp, args, options, text):
    with pytest.raises(TypeError, match=text):
        check_vjp(function, vjp, args, options)


def test_functions_of_jax():
    jax = pytest.importorskip("jax")
    right, wrong = jax.custom_vjp(lambda x, w: x * w), jax.custom_vjp(lambda x, w: x * w)
    right.defvjp(lambda x, w: (x * w, (x, w)), lambda kept, g: (g * kept[1], g * kept[0]))
    wrong.defvjp(lambda x, w: (x * w, (x, w)), lambda kept, g: (g * kept[1], 1.0001 * g * kept[0]))
    check_vjp(right, None, [X, X])
    check_adjoint(right, None, [np.ones((3, 4)), np.ones((3, 4))])
    check_vjp(jax.numpy.tanh, lambda g, x: g * (1 - jax.numpy.tanh(x) ** 2), [jax.numpy.asarray(X)])
    with pytest.raises(
        AssertionError, match=re.escape("the gradient disagrees with differences of the value")
    ):
        check_vjp(wrong, None, [X, X])


def test_the_documentation_shows_what_the_checks_say(capsys):
    """To refresh the page, put the output of docs/checking.py into its last block."""
    pytest.importorskip("jax")
    docs = Path(__file__).parents[2] / "docs"
    runpy.run_path(str(docs / "checking.py"), run_name="__main__")
    said = capsys.readouterr().out
    shown = (docs / "checking.md").read_text(encoding="utf-8").rsplit("```text\n", 1)[1].split("```")[0]

    def words(text):
        return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "0", text)  # digits depend on the processor

    assert words(said) == words(shown)
