"""Other programs that run ONNX files: the reference of the package onnx, and ONNX Runtime if installed."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc

onnx = pytest.importorskip("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

try:
    import onnxruntime
except ImportError:  # a second opinion where it is installed
    onnxruntime = None

REFERENCE_FAILS = {
    "conv_transpose2d grouped": "its transposed convolution does not know groups",
    "local_response_norm": "its LRN goes over as many channels as there are samples",
    "gather": "it wants an index as large as the input",
    "pad": "it does not crop by negative widths",
    "pad by reflection": "it does not crop by negative widths",
}
"""Cases that onnx's reference evaluator computes wrongly, and why: ONNX Runtime's results count there."""


def entries(name, shape, dtype=np.float32):
    if shape and isinstance(shape[0], tuple):
        return tuple(entries(name, s, dtype) for s in shape)
    x = fc.random.normal(fc.random.key(1), shape, dtype)
    return (abs(4 * x) % 4).astype(np.int64) if name.startswith("embedding") else x


def as_network(layer, shape):
    """Return a layer a name in a network; one of several inputs becomes a graph of them."""
    if shape and isinstance(shape[0], tuple):
        names = [f"x{i}" for i in range(len(shape))]
        return fc.graph({"0": (layer, *names)}, inputs=names), dict(zip(names, shape, strict=True))
    return fc.compose(layer), shape


def feed(net, x):
    return x if isinstance(x, dict) else {net.wiring(x.shape).inputs[0]: x}


def by_reference(path, inputs):
    return ReferenceEvaluator(str(path)).run(None, inputs)


def by_runtime(path, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def evaluators(name, dtype):
    """List those that run a layer's file; onnxruntime knows few operators of float64."""
    runs = [] if name in REFERENCE_FAILS else [by_reference]
    return [*runs, by_runtime] if onnxruntime is not None and dtype == np.float32 else runs
