"""A layer decides once for its shapes: later calls compute the same, and refuse the same."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fconv as fc
from fconv import functional as F
from tests.convolutions import channels_last

LAYERS = {
    "conv2d": (fc.conv2d(4, 3, padding=1), F.conv2d, (2, 3, 6, 5), {"padding": 1}),
    "grouped conv2d": (fc.conv2d(6, 3, groups=3, bias=False), F.conv2d, (2, 3, 6, 5), {"groups": 3}),
    "conv2d of one element": (fc.conv2d(4, 1, stride=2), F.conv2d, (2, 3, 6, 5), {"stride": 2}),
    "conv2d without a bias": (fc.conv2d(16, 3, bias=False), F.conv2d, (2, 16, 6, 5), {}),
    "depthwise conv2d": (fc.conv2d(3, 3, groups=3), F.conv2d, (2, 3, 6, 5), {"groups": 3}),
    "large conv2d": (fc.conv2d(72, 5, padding=2), F.conv2d, (2, 40, 20, 21), {"padding": 2}),
    "conv1d": (fc.conv1d(4, 3, stride=2), F.conv1d, (2, 3, 9), {"stride": 2}),
    "linear": (fc.linear(4), F.linear, (5, 7), {}),
    "linear of sequences": (fc.linear(4, bias=False), F.linear, (5, 3, 7), {}),
    "relu": (fc.relu(), F.relu, (2, 3, 6, 5), {}),
    "sigmoid": (fc.sigmoid(), F.sigmoid, (2, 3, 6, 5), {}),
    "gelu": (fc.gelu(), F.gelu, (2, 3, 6, 5), {}),
    "leaky_relu": (fc.leaky_relu(0.2), F.leaky_relu, (2, 3, 6, 5), {"negative_slope": 0.2}),
    "max_pool2d": (fc.max_pool2d(2), F.max_pool2d, (2, 3, 6, 5), {"kernel_size": 2}),
    "flatten": (fc.flatten(), F.flatten, (2, 3, 6, 5), {"start_dim": 1}),
    "reshape": (fc.reshape(-1), F.reshape, (2, 3, 6, 5), {"shape": (2, 90)}),
}


def drawn(shape, dtype, seed, layout="contiguous"):
    x = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    if layout == "channels-last" and x.ndim == 4:
        return channels_last(x)
    if layout == "strided":
        wide = np.repeat(x, 2, axis=-1)
        return wide[..., ::2]
    if layout == "unaligned":
        memory = np.empty(x.nbytes + 1, np.uint8)[1:]
        unaligned = memory.view(x.dtype).reshape(shape)
        unaligned[...] = x
        return unaligned
    return x


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "strided", "unaligned"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_call_is_that_of_the_function(name, dtype, layout):
    layer, function, shape, options = LAYERS[name]
    params = layer.init(fc.random.key(0), shape, dtype)
    for seed, batch in enumerate((2, 2, 3, 2)):  # known, known, new and known shapes, with other numbers
        x = drawn((batch, *shape[1:]), dtype, seed, layout)
        named = dict(params) if params else {}
        if name == "reshape":
            options = {"shape": (batch, 90)}
        kept, before = x.copy(), {leaf: p.copy() for leaf, p in named.items()}
        y, _, pull = layer.forward(params, x)
        expected, expected_pull = function.forward(x, **named, **options)
        assert same(y, expected)
        assert same(layer.apply(params, x), expected)
        g = drawn(y.shape, dtype, seed + 9)
        found, reference = pull(g), expected_pull(g)
        dx, *dparams = reference if isinstance(reference, tuple) else (reference,)
        assert same(found[1], dx)
        for leaf, gradient in zip(named, dparams, strict=False):
            assert same(found[0][leaf], gradient)
        assert same(x, kept)
        assert all(same(p, before[leaf]) for leaf, p in named.items())


@pytest.mark.parametrize("name", ["conv2d", "linear"])
def test_what_is_not_wanted_is_none(name):
    layer, _, shape, _ = LAYERS[name]
    params, x = layer.init(fc.random.key(0), shape), drawn(shape, "float32", 0)
    for _ in range(2):
        y, _, pull = layer.forward(params, x)
        whole = pull(y)
        dparams, dx = pull(y, False)
        assert dx is None
        assert same(dparams["weight"], whole[0]["weight"])
        lone = pull(y, True, wrt={"bias"})
        assert lone[0]["weight"] is None
        assert same(lone[0]["bias"], whole[0]["bias"])
        assert same(lone[1], whole[1])
        none = pull(y, False, wrt=())
        assert none == ({"weight": None, "bias": None}, None)
        each = pull(y, True, each=("of each",))
        np.testing.assert_allclose(each[0]["weight"].sum(axis=0), whole[0]["weight"], rtol=1e-5, atol=1e-5)
        assert same(each[1], whole[1])


WRONG = {
    "a parameter too many": lambda p, x: ({**p, "other": p["bias"]}, x),
    "a parameter too few": lambda p, x: ({"weight": p["weight"]}, x),
    "another name": lambda p, x: ({"weight": p["weight"], "shift": p["bias"]}, x),
    "no parameters": lambda p, x: ((), x),
    "an array for parameters": lambda p, x: (x, x),
    "another dtype of a parameter": lambda p, x: ({**p, "bias": p["bias"].astype(np.float64)}, x),
    "another shape of a parameter": lambda p, x: ({**p, "bias": p["bias"][:1]}, x),
    "another dtype": lambda p, x: (p, x.astype(np.float64)),
    "integers": lambda p, x: (p, x.astype(np.int64)),
    "no batch": lambda p, x: (p, x[0]),
    "other channels": lambda p, x: (p, x[:, :1]),
    "a list": lambda p, x: (p, x.tolist()),
}


@pytest.mark.parametrize("name", ["conv2d", "linear"])
@pytest.mark.parametrize("fault", WRONG)
def test_what_a_first_call_refuses_a_later_one_does_too(name, fault):
    layer, _, shape, _ = LAYERS[name]
    fresh = fc.conv2d(4, 3, padding=1) if name == "conv2d" else fc.linear(4)
    params, x = layer.init(fc.random.key(0), shape), drawn(shape, "float32", 0)
    if (name, fault) == ("linear", "no batch"):
        pytest.skip("linear takes any axes before the last")
    layer.apply(params, x)
    wrong = WRONG[fault](params, x)
    for ask in ("apply", "forward"):
        with pytest.raises((ValueError, TypeError)) as first:
            getattr(fresh, ask)(*wrong)
        with pytest.raises((ValueError, TypeError)) as later:
            getattr(layer, ask)(*wrong)
        assert str(first.value) == str(later.value)
    layer.apply(params, x)


@pytest.mark.parametrize("layer", [fc.relu(), fc.max_pool2d(2)], ids=lambda layer: layer.name)
def test_a_layer_without_parameters_refuses_some(layer):
    x = drawn((2, 3, 4, 4), "float32", 0)
    layer.apply((), x)
    for wrong in ({"weight": x}, np.zeros(0, np.float32), x):
        with pytest.raises(TypeError, match="expected no parameters"):
            layer.apply(wrong, x)


@pytest.mark.parametrize("name", ["conv2d", "relu", "max_pool2d", "flatten"])
def test_a_gradient_that_does_not_fit_is_refused(name):
    layer, _, shape, _ = LAYERS[name]
    params, x = layer.init(fc.random.key(0), shape), drawn(shape, "float32", 0)
    for _ in range(2):
        y, _, pull = layer.forward(params, x)
        with pytest.raises(ValueError, match=rf"{name}_vjp: expected a gradient of the output's shape"):
            pull(y[:1])
        with pytest.raises(TypeError, match=rf"{name}_vjp: expected a gradient of float32"):
            pull(y.astype(np.float64))
        with pytest.raises(TypeError, match=f"{name}_vjp"):
            pull(y.tolist())
        other = y.astype(y.dtype.newbyteorder())
        assert same(pull(other)[1], pull(y)[1])


def test_an_activation_by_its_value_lets_its_input_go():
    layer = fc.relu()
    for _ in range(2):
        x = drawn((2, 3), "float32", 0)
        seen = weakref.ref(x)
        y, _, pull = layer.forward((), x)
        del x
        gc.collect()
        assert seen() is None
        assert same(pull(y)[1], np.where(y > 0, y, 0))


def test_parameters_are_read_at_each_call():
    layer, x = fc.linear(2, bias=False), np.ones((1, 3), np.float32)
    params = layer.init(fc.random.key(0), x.shape)
    layer.apply(params, x)
    params["weight"][...] = 1.0
    assert layer.apply(params, x).tolist() == [[3.0, 3.0]]
    assert layer.apply({"weight": params["weight"] * 2}, x).tolist() == [[6.0, 6.0]]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_shapes_that_change_from_call_to_call(batches):
    layer = fc.conv2d(2, 3, padding=1)
    params = layer.init(fc.random.key(0), (1, 1, 4, 4))
    for batch in batches:
        x = drawn((batch, 1, 4, 4), "float32", batch)
        y, _, pull = layer.forward(params, x)
        assert same(y, F.conv2d(x, **params, padding=1))
        assert pull(y)[1].shape == x.shape


def test_many_shapes_are_forgotten_again():
    layer = fc.relu()
    tracemalloc.start()
    for size in range(1, 6000):
        layer.apply((), np.ones((1, size), np.float32))
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 1 << 20  # 6,000 plans take 4 MB
