"""ONNX Runtime, which reads what `fconv.to_onnx` writes; inference alone."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import onnxruntime

import fconv as fc
from benchmarks.networks import in_fconv

VERSIONS = ("onnxruntime",)
_threads = os.cpu_count() or 1


def set_threads(n):
    global _threads
    _threads = n


def inference(case, weights, layout):
    """Return a function that applies the network; batch norm is folded by the runtime's own passes."""
    x = case.pictures()
    net = in_fconv(case.network, dropout=0.0)
    params = fc.from_state_dict(net.init(fc.random.key(1), case.shape), weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.onnx")
        fc.to_onnx(net, params, case.shape, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: tuple(session.run(None, {name: x}))


def numpy(results):
    return [np.asarray(y) for y in results]
