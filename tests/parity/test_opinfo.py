"""fconv against the sample inputs with which PyTorch tests its own operators (OpInfo).

Values and gradients in float64, and the inputs that PyTorch refuses. What cannot apply is listed,
with the reason, in opinfo_exceptions.py.
"""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch

from fconv import functional as F
from fconv import random
from fconv.testing.purity import check_close
from tests.parity import opinfo_exceptions as exceptions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

PLAIN = ("sigmoid", "tanh", "softmax", "log_softmax", "flatten", "reshape", "unflatten")
# Options of PyTorch that say how to compute, not what.
IGNORED = {"inplace", "size_average", "reduce", "_stacklevel", "antialias"}


def name_of(op):
    return op.name.removeprefix("nn.functional.")


OPS = {
    f"{name_of(op)}{'.' + op.variant_test_name if op.variant_test_name else ''}": op
    for op in op_db
    if (op.name.startswith("nn.functional.") or op.name in PLAIN)
    and hasattr(F, name_of(op))
    and op.variant_test_name not in exceptions.VARIANTS
}


def ours_of(x):
    if isinstance(x, torch.Tensor):
        return x.detach().numpy().copy()
    return type(x)(map(ours_of, x)) if type(x) in (tuple, list) else x


def split(sample):
    """Return the arguments of a sample as torch's and as ours."""
    theirs = (sample.input, *sample.args)
    kwargs = {k: v for k, v in sample.kwargs.items() if k not in IGNORED or (k == "antialias" and v)}
    return theirs, kwargs, tuple(map(ours_of, theirs)), {k: ours_of(v) for k, v in kwargs.items()}


def ordered(name, args):
    """PyTorch tests embedding by a wrapper that takes the weight first."""
    return (args[1], args[0], *args[2:]) if name == "embedding" else args


def excepted(name, args, kwargs):
    return any(rule(args, kwargs) for _, rule in exceptions.SAMPLES.get(name, ()))


def first(y):
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op_name", OPS)
def test_samples_agree(op_name):
    op = OPS[op_name]
    name = name_of(op)
    function = getattr(F, name)
    signature = inspect.signature(function)
    count = 0
    for number, sample in enumerate(op.sample_inputs("cpu", torch.float64, requires_grad=True)):
        tensors, torch_kwargs, args, kwargs = split(sample)
        if excepted(name, args, kwargs):
            continue
        where = f"{op_name}[{number}] {[getattr(a, 'shape', a) for a in args]} {kwargs}"
        expected = op.op(*tensors, **torch_kwargs)
        try:
            y = function(*ordered(name, args), **kwargs)
        except (ValueError, TypeError) as error:
            raise AssertionError(f"{where}: refused: {error}") from error
        if isinstance(expected, tuple):
            for part, theirs in zip(y, expected, strict=True):
                check_close(where, "a value", part, theirs.detach().numpy(), 1e-9, 1e-3)
        else:
            check_close(where, "the value", y, expected.detach().numpy(), 1e-9, 1e-3)
        count += 1
        expected = first(expected)
        bound = signature.bind(*ordered(name, tensors), **torch_kwargs).arguments
        wanted = {
            a: t
            for a, t in bound.items()
            if a in function.arrays and isinstance(t, torch.Tensor) and t.requires_grad
        }
        if expected.grad_fn is None or not wanted:
            continue
        g = random.normal(random.key(number), tuple(expected.shape), np.float64)
        theirs = torch.autograd.grad(
            expected, list(wanted.values()), torch.from_numpy(np.asarray(g)), allow_unused=True
        )
        ours = function.vjp(g, *ordered(name, args), **kwargs)
        by_name = dict(zip(function.arrays, ours if len(function.arrays) > 1 else (ours,), strict=True))
        for argument, t in zip(wanted, theirs, strict=True):
            if t is None:
                continue
            assert by_name[argument] is not None, f"{where}: no gradient of {argument}"
            tolerance = exceptions.TOLERANCES.get(name, 1e-9)
            check_close(where, f"the gradient of {argument}", by_name[argument], t.numpy(), tolerance, 1e-2)
    assert count > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("op_name", [n for n, op in OPS.items() if op.error_inputs_func is not None])
def test_what_pytorch_refuses_is_refused(op_name):
    op = OPS[op_name]
    name = name_of(op)
    count = 0
    for error_input in op.error_inputs("cpu"):
        _, _, args, kwargs = split(error_input.sample_input)
        if any(part in str(error_input.error_regex) for part, _ in exceptions.ERRORS.get(name, ())):
            continue
        count += 1
        shown = [getattr(a, "shape", a) for a in args]
        args = ordered(name, args)
        with pytest.raises((ValueError, TypeError)):
            pytest.fail(f"{op_name}{shown} {kwargs} gave {getattr(F, name)(*args, **kwargs)!r:.100}")
    assert count > 0 or name in exceptions.ERRORS


def test_every_exception_is_used():
    """A rule that no sample needs any longer must go."""
    for name, rules in exceptions.SAMPLES.items():
        ops = [op for n, op in OPS.items() if name_of(op) == name]
        for reason, rule in rules:
            used = any(
                rule(*split(sample)[2:])
                for op in ops
                for sample in op.sample_inputs("cpu", torch.float64, requires_grad=False)
            )
            assert used, f"{name}: {reason}"


def test_what_fconv_lacks_is_listed():
    lacking = {name_of(op) for op in op_db if op.name.startswith("nn.functional.")} - {
        name_of(op) for op in OPS.values()
    }
    assert lacking == set(exceptions.ABSENT)
