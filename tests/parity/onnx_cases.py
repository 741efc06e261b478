"""The cases by which onnx defines its operators, read as networks: ``python -m tests.parity.onnx_cases``.

A case is a model with inputs and outputs. Its floating-point inputs are tried as inputs of the network,
all of them and then the first few, and the others as initializers. What is read must have the outputs
of the case. The command prints how many cases apply, and what stops the others.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

import fconv as fc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from onnx.backend.test.case.node import collect_testcases

    ALL = [case for case in collect_testcases(None) if case.model is not None]

FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}


def _element(value):
    return value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0


def is_ours(case):
    """Return whether a case is of the default domain, and its first output of floating-point numbers."""
    graph = case.model.graph
    return all(node.domain in ("", "ai.onnx") for node in graph.node) and _element(graph.output[0]) in FLOATS


CASES = [case for case in ALL if is_ours(case)]


class Outcome(NamedTuple):
    """Return the outcome of a case: ``""`` where it applies and agrees, otherwise the obstacle."""

    text: str
    wrong: bool = False


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _given(case):
    names = [entry.name for entry in case.model.graph.input]
    return dict(zip(names, case.data_sets[0][0], strict=True))


def as_file(case, flowing, outputs, path):
    """Write a case whose inputs but those in `flowing` are initializers."""
    model, given = onnx.ModelProto(), _given(case)
    model.CopyFrom(case.model)
    kept = [entry for entry in model.graph.input if entry.name in flowing]
    left = list(model.graph.output)[:outputs]
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.extend(kept)
    model.graph.output.extend(left)
    for name, value in given.items():
        if name not in flowing:
            held = (
                value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
            )
            tensor = onnx.TensorProto()
            tensor.CopyFrom(held)
            tensor.name = name
            model.graph.initializer.append(tensor)
    onnx.save(model, path)
    return {name: given[name] for name in flowing}


def _ways(case):
    """List which inputs may flow, the most first, and how many outputs are asked for."""
    graph = case.model.graph
    floats = [entry.name for entry in graph.input if _element(entry) in FLOATS]
    ways = [floats[:n] for n in range(len(floats), 0, -1)] + [[name] for name in floats[1:]]
    ways += [floats[1:]] if len(floats) > 2 else []
    if not ways:
        ways = [[entry.name] for entry in graph.input if _element(entry) in (6, 7)]
    counts = sorted({len(graph.output), 1}, reverse=True)
    return [(way, n) for n in counts for way in ways]


def outcome(case, folder):
    """Read a case in every way until one applies."""
    texts: list[str] = []
    first = max(1, sum(_element(entry) in FLOATS for entry in case.model.graph.input))  # alone
    for flowing, outputs in _ways(case):
        path = Path(folder) / "case.onnx"
        try:
            inputs = as_file(case, flowing, outputs, path)
            if any(not _array(x).size for x in inputs.values()):
                raise ValueError("an input without elements stands for one whose sizes are left open")
            net, params = fc.from_onnx(path)
        except ValueError as error:
            texts.append(str(error).partition("case.onnx: ")[2] or str(error))
            continue
        x = {name: _array(value) for name, value in inputs.items()}
        narrow = {name for name, value in x.items() if value.dtype.name == "bfloat16"}
        x |= {name: x[name].astype(np.float32) for name in narrow}
        y = net.apply(params, x if len(x) > 1 else next(iter(x.values())))
        found = list(y.values()) if isinstance(y, dict) else [y]
        for ours, theirs in zip(found, case.data_sets[0][1], strict=False):
            expected = _array(theirs)
            # One case has its expected values written out with four digits.
            rough = ours.dtype == np.float16 or narrow or case.name.endswith("ceil_last_window_starts_on_pad")
            tolerance = 1e-2 if rough else 1e-4
            agree = ours.shape == expected.shape and np.allclose(
                ours.astype(np.float64), expected.astype(np.float64), tolerance, tolerance, equal_nan=True
            )
            if not agree:
                return Outcome(f"with {flowing} flowing, the value is another", True)
        return Outcome("")
    return Outcome(texts[first - 1] if texts else "no floating-point input")


def main():
    """Print how many cases apply, by operator, and what stops the others."""
    applied, stopped, wrong = Counter(), Counter(), []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in CASES:
            op = case.model.graph.node[0].op_type if len(case.model.graph.node) == 1 else "several"
            found = outcome(case, folder)
            if not found.text:
                applied[op] += 1
                continue
            what = found.text.partition(" (")[2].partition(",")[0] if op == "several" else ""
            stopped[f"{op} {what}".strip(), found.text.partition("): ")[2][:90] or found.text[:90]] += 1
            if found.wrong:
                wrong.append((case.name, found.text))
    for (op, text), count in sorted(stopped.items(), key=lambda item: -item[1]):
        print(f"{count:4} {op}: {text}")
    for name, text in wrong:
        print(f"WRONG {name}: {text}")
    print(f"{sum(applied.values())} of {len(CASES)} apply and agree")


if __name__ == "__main__":
    main()
