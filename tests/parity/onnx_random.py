"""Random networks of all layers, through ONNX files and back: ``python -m tests.parity.onnx_random 200``."""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import fconv as fc
from tests.parity.onnx_evaluators import by_runtime, feed
from tests.parity.test_onnx_layers import MORE
from tests.test_layers import LAYERS

STARTS = ((2, 4, 8, 8), (2, 6, 7, 5), (3, 4, 6), (2, 4, 4, 6, 4), (3, 12))

ROUNDING = {"ceil", "floor", "round", "sign", "compare", "hardshrink", "threshold"}
"""Layers that jump: a difference in the last digit becomes one of 1."""


def _fitting():
    """List the layers of one input that the tables of the tests have, without those that jump or grow."""
    found = {}
    for name, (layer, shape) in (LAYERS | MORE).items():
        lone = not (shape and isinstance(shape[0], tuple))
        held = {layer.name, *(child.name for child in layer.children.values())}
        reflects = layer.options.get("mode") == "reflect"  # not over a single element, in onnxruntime
        if lone and not reflects and not held & ({"embedding", "bilinear", "call"} | ROUNDING):
            found[name] = layer
    return found


def draw(number):
    """Draw a network of a number, the shape of its input, and the names of its layers."""
    rng = np.random.default_rng(number)
    layers = _fitting()
    shape = start = STARTS[rng.integers(len(STARTS))]
    chosen, names = [], []
    while len(chosen) < rng.integers(3, 12):
        name = sorted(layers)[rng.integers(len(layers))]
        try:
            after = layers[name].out_shape(shape)
            layers[name].init(fc.random.key(0), shape)
        except (ValueError, TypeError):
            continue
        if not after or after[0] != start[0] or 0 in after or np.prod(after) > 20_000:
            continue
        chosen += [layers[name], fc.tanh()]  # which keeps the numbers from growing
        names.append(name)
        shape = after
    return fc.compose(*chosen), start, names


def check(number, folder):
    """Write and read one network; the runtime and what was read must have its output."""
    net, shape, names = draw(number)
    params = net.init(fc.random.key(number), shape)
    path = Path(folder) / "net.onnx"
    fc.to_onnx(net, params, shape, path)
    x = fc.random.normal(fc.random.key(1000 + number), shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = net.apply(params, x)
        (found,) = by_runtime(path, feed(net, x))
        np.testing.assert_allclose(found, y, 1e-3, 1e-3, err_msg=f"{number} {names} by onnxruntime")
        again, read = fc.from_onnx(path)
        np.testing.assert_allclose(
            again.apply(read, x), y, 1e-4, 1e-4, err_msg=f"{number} {names} read again"
        )
    assert fc.to_state_dict(read).keys() == fc.to_state_dict(params).keys(), (number, names)


def main(count):
    """Check networks one after another, and print those that fail."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            try:
                check(number, folder)
            except Exception as error:  # each is shown, whatever it is
                failed += 1
                print(f"{number} {draw(number)[2]}: {type(error).__name__}: {str(error)[:600]}")
    print(f"{count - failed} of {count} networks agree")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
