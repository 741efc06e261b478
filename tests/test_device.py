"""Functions, layers, losses, optimizers and training on CuPy's arrays.

Over the strict stand-in everywhere, and over CuPy itself where there is a GPU (the marker `cuda`):
the results are those of the CPU, they stay on the device, and nothing waits for it unasked.
"""

from __future__ import annotations

import gc
import re
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fconv as fc
from fconv import functional as F
from fconv import trees
from fconv.devices import import_cupy
from fconv.engine import runs as chunks
from fconv.engine.cuda import convolution as gpu
from fconv.engine.cuda import kernels
from fconv.engine.cuda import launch as device_kernels
from fconv.functional import channel_passes_gpu, pooling_gpu
from tests.cases import CASES
from tests.device import raw_kernels, standin
from tests.test_jvp import tangents_of
from tests.test_layers import LAYERS, input_of

KEY = fc.random.key(0)
OPTIMIZERS = {
    "sgd": lambda: fc.sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: fc.adam(0.01, weight_decay=0.01),
    "adamw": lambda: fc.adamw(0.01),
    "nadam": lambda: fc.nadam(0.01),
    "rmsprop": lambda: fc.rmsprop(0.01, momentum=0.9),
    "adagrad": lambda: fc.adagrad(0.01),
    "adadelta": lambda: fc.adadelta(0.5),
    "lion": lambda: fc.lion(0.01),
    "clip_by_global_norm": lambda: fc.clip_by_global_norm(fc.sgd(0.1), 0.5),
    "clip_by_value": lambda: fc.clip_by_value(fc.sgd(0.1), 0.5),
    "accumulate_gradients": lambda: fc.accumulate_gradients(fc.sgd(0.1), 2),
    "ema": lambda: fc.ema(fc.sgd(0.1), decay=0.9),
}


def _found():
    try:
        return import_cupy() is not None
    except ValueError as error:
        return str(error)


GPU = _found()


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param(
            "cupy",
            marks=[pytest.mark.cuda, pytest.mark.skipif(GPU is not True, reason=f"no GPU: {GPU}")],
        ),
    ]
)
def device(request):
    """Make an array library that is no NumPy the one that is called cupy."""
    if request.param == "cupy":
        yield import_cupy()
        return
    with standin.installed() as cupy, pytest.MonkeyPatch.context() as patch:
        if raw_kernels.compiler() is None:  # without one, kernels cannot be run: the definition serves
            for module in (gpu, pooling_gpu, channel_passes_gpu):
                patch.setattr(module, "serves", lambda *_: False)
        yield cupy


def there(tree):
    """Move a tree to the device; keys and what is no array stay."""
    return fc.to_device(tree, "cuda")


def here(tree):
    return fc.to_device(tree, "cpu")


def is_there(x):
    return type(x).__module__.startswith("cupy")


def check_same(ours, on_cpu, tolerance=1e-12):
    """Require the same structure and numbers, on the device where the CPU has arrays."""
    assert trees.same_structure(ours, on_cpu)
    for a, b in zip(trees.leaves(ours), trees.leaves(on_cpu), strict=True):
        if not isinstance(b, (np.ndarray, np.generic)) or fc.arrays.is_key(b):
            assert np.array_equal(a, b)
            continue
        assert is_there(a)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        scale = max(1.0, float(np.abs(b).max())) if b.size and b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(here(a), b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_functions_and_gradients(device, name, data):
    args, options = data.draw(CASES[name].draw)
    function = getattr(F, name)
    y, pullback = function.forward(*args, **options)
    g = fc.random.normal(KEY, y.shape, y.dtype) if not isinstance(y, tuple) else None
    ours, back = function.forward(*there(args), **there(options))
    check_same(ours, y)
    tangents = tangents_of(function, args, options, KEY)
    moved = function.jvp(there(tangents), *there(args), **there(options))
    check_same(moved, function.jvp(tangents, *args, **options), 1e-11)
    if g is not None:
        check_same(back(there(g)), pullback(g), 1e-11)
        check_same(function(*there(args), **there(options)), y)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("train", [False, True])
def test_layers(device, name, train):
    layer, shape = LAYERS[name]
    params = layer.init(KEY, shape, np.float64)
    x = input_of(layer, fc.random.normal(KEY, shape, np.float64))
    y, refreshed, pullback = layer.forward(params, x, train=train, key=KEY)
    ours, new, back = layer.forward(there(params), there(x), train=train, key=KEY)
    check_same(ours, y)
    check_same(new, refreshed)
    g = fc.random.normal(KEY, y.shape, np.float64)
    dparams, dx = pullback(g)
    check_same(back(there(g)), (dparams, dx), 1e-11)
    if trees.leaves((dparams, dx)):  # gradients serve as tangents
        moved = fc.jvp(layer, there(params), there(x), there(dparams), there(dx), train=train, key=KEY)
        check_same(moved, fc.jvp(layer, params, x, dparams, dx, train=train, key=KEY), 1e-11)


def test_curvature_and_penalties(device):
    net = fc.compose(fc.conv2d(3, 3), fc.tanh(), fc.flatten(), fc.linear(4))
    x, t = fc.random.normal(KEY, (3, 2, 5, 5), np.float64), np.array([0, 3, 1])
    params = net.init(KEY, x.shape, np.float64)
    for loss, target in ((fc.cross_entropy_loss(), t), (fc.mse_loss(), np.ones((3, 4)))):
        ours = fc.ggn_product(net, loss, there(params), there(x), there(target), there(params))
        check_same(ours, fc.ggn_product(net, loss, params, x, target, params), 1e-11)
        ours = fc.ggn_diagonal(net, loss, there(params), there(x), there(target), key=KEY, samples=2)
        check_same(ours, fc.ggn_diagonal(net, loss, params, x, target, key=KEY, samples=2), 1e-11)
    check_same(fc.gradient_penalty(net, there(params), there(x)), fc.gradient_penalty(net, params, x), 1e-11)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(device, name):
    opt = OPTIMIZERS[name]()
    params = {"a": fc.random.normal(KEY, (3, 4), np.float64), "b": (np.zeros(2), np.array(0))}
    state = opt.init(params)
    ours, our_state = there(params), opt.init(there(params))
    for step in range(3):
        drawn = fc.random.normal(fc.random.fold_in(KEY, step), (3, 4), np.float64)
        grads = {"a": drawn, "b": (np.full(2, 0.5), None)}
        params, state = opt.step(params, grads, state)
        ours, our_state = opt.step(ours, there(grads), our_state)
    check_same(ours, params)


def network():
    return fc.compose(
        fc.conv2d(4, 3, padding=1), fc.batch_norm(), fc.relu(), fc.max_pool2d(2),
        fc.residual(fc.compose(fc.conv2d(4, 3, padding=1), fc.group_norm(2), fc.gelu())),
        fc.conv_transpose2d(3, 2, stride=2), fc.dropout(0.2), fc.flatten(), fc.linear(5),
    )  # fmt: skip


def test_training_follows_the_cpu_and_waits_for_nothing(device):
    net, opt = network(), fc.adam(1e-2)
    step = fc.train_step(net, fc.cross_entropy_loss(), opt)
    state = fc.train_state(net, opt, KEY, (6, 2, 8, 8), np.float64)
    ours = there(state)
    for number in range(4):
        key = fc.random.fold_in(KEY, number)
        x, t = fc.random.normal(key, (6, 2, 8, 8), np.float64), np.arange(6) % 5
        state, metrics = step(state, x, t)
        x, t = there((x, t))
        standin.waits.clear()
        ours, our_metrics = step(ours, x, t)
        assert standin.waits == []
        assert abs(float(our_metrics["loss"]) - float(metrics["loss"])) < 1e-9
    check_same(ours, state, 1e-8)


def test_parameters_are_the_same_numbers(device, tmp_path):
    params = network().init(KEY, (6, 2, 8, 8))
    ours = there(params)
    check_same(ours, params, 0)
    fc.save(tmp_path / "net.safetensors", ours)
    for a, b in zip(trees.leaves(fc.load(tmp_path / "net.safetensors")), trees.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_host_and_device_arrays_do_not_mix(device):
    x, w = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3))
    with pytest.raises(TypeError, match="host and device arrays are mixed: x is a cupy array of float64"):
        F.conv2d(there(x), w)
    with pytest.raises(TypeError, match=r"x is a numpy array of float64 with shape .*, weight is a cupy"):
        F.conv2d(x, there(w))
    with pytest.raises(TypeError, match="conv2d_vjp: host and device arrays are mixed"):
        F.conv2d_vjp(np.ones((1, 3, 2, 2)), there(x), there(w))
    with pytest.raises(TypeError, match="mixed"):
        fc.mse_loss().apply(there(x), x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_convolution_in_runs_of_samples(device, monkeypatch, dtype):
    draw = np.random.default_rng(0).standard_normal
    x, w = draw((5, 4, 7, 6)).astype(dtype), draw((6, 2, 3, 2)).astype(dtype)
    options = {"stride": (2, 1), "padding": 1, "groups": 2}
    y = F.conv2d(x, w, **options)
    g = np.ones_like(y)
    expected = [y, *F.conv2d_vjp(g, x, w, wrt=("x", "weight"), **options)[:2]]
    of_sample = 4 * 6 * 4 * 7 * x.itemsize
    for samples in (1, 2, 4):
        monkeypatch.setattr(chunks, "WINDOW_BYTES", samples * of_sample)
        ours = F.conv2d(there(x), there(w), **options)
        grads = F.conv2d_vjp(there(g), there(x), there(w), wrt=("x", "weight"), **options)[:2]
        tolerance = {2: 5e-3, 4: 1e-5, 8: 1e-12}[x.itemsize]
        for a, b in zip([ours, *grads], expected, strict=True):
            check_same(a, b, tolerance)


@pytest.mark.skipif(raw_kernels.compiler() is None, reason="no C++ compiler to run kernels on the CPU with")
def test_every_kernel_has_its_use(monkeypatch):
    used, real = [], device_kernels.launch

    def launch(source, name, *args, **options):
        used.append(name)
        real(source, name, *args, **options)

    for module in (device_kernels, channel_passes_gpu):
        monkeypatch.setattr(module, "launch", launch)
    with standin.installed():
        for weight in (np.ones((4, 2, 3, 3)), np.ones((4, 1, 3, 3))):
            x, groups = there(np.ones((2, 4, 5, 5))), 4 // weight.shape[1]
            y = F.conv2d(x, there(weight), groups=groups)
            F.conv2d_vjp(y, x, there(weight), groups=groups)
        F.max_pool2d_vjp(x[..., :2, :2], x, 2)
        F.batch_norm.forward(x, None, None, training=True)[1](x)
    assert used == [
        "im2col", "col2im", "im2col", "depthwise", "depthwise_input", "depthwise_weight",
        "max_pool", "max_pool_input",
        "channel_sums", "by_channel", "channel_sums", "by_channel_of_two",
    ]  # fmt: skip
    sources = kernels.SOURCE + pooling_gpu.SOURCE + channel_passes_gpu.SOURCE
    assert set(used) == set(re.findall(r"__global__ void (\w+)", sources))


@pytest.mark.parametrize("call", ["forward", "vjp", "to_device"])
def test_the_end_of_memory(device, call):
    x, weight = there(np.ones((1, 4, 64, 64))), there(np.ones((4, 4, 3, 3)))
    y = F.conv2d(x, weight, padding=1)
    pool = device.get_default_memory_pool()
    gc.collect()  # what is garbage by now is not counted
    before = standin.living() if device.ndarray is standin.ndarray else 0
    pool.set_limit(size=pool.used_bytes() + (1 << 20))
    name, work = {
        "forward": ("conv2d", lambda: F.conv2d(x, weight, padding=1)),
        "vjp": ("conv2d_vjp", lambda: F.conv2d_vjp(y, x, weight, padding=1)),
        "to_device": ("to_device", lambda: there([np.ones(1 << 16), np.ones(1 << 20)])),
    }[call]
    said = rf"^{name}: the GPU has no memory left: .* [0-9,]+ bytes .*; try a smaller batch"
    try:
        with pytest.raises(MemoryError, match=said) as told:
            work()
        small = F.conv2d(x[..., :4, :4], weight)  # usable after
    finally:
        pool.set_limit(size=0)
    np.testing.assert_array_equal(here(small), np.full((1, 4, 2, 2), 36.0))
    assert told.value.__cause__ is told.value.__context__ is None  # nothing holds what was made
    if device.ndarray is standin.ndarray:
        assert pool.kept[-1] == before


def test_what_is_not_looked_at_on_a_device_gives_nan(device):
    x = np.zeros((3, 4))
    for labels in ([0, 4, 1], [0, -1, 1]):
        t = there(np.array(labels))
        losses, pullback = F.cross_entropy.forward(there(x), t, reduction="none")
        assert np.isnan(here(losses)).tolist() == [False, True, False]
        assert np.isnan(here(pullback(there(np.ones(3)))[0])).any(axis=1).tolist() == [False, True, False]
        assert np.isnan(here(F.embedding(there(np.array(labels)), there(np.ones((4, 2)))))[1]).all()
    ignored = F.cross_entropy(there(x), there(np.array([0, -100, 1])), reduction="none")
    np.testing.assert_allclose(here(ignored), [np.log(4), 0, np.log(4)])
    assert np.isnan(here(F.binary_cross_entropy(there(np.full(2, 1.5)), there(np.ones(2) / 2))))
    var = there(np.array([-1.0, 1.0]))
    losses = F.gaussian_nll_loss(there(np.zeros(2)), there(np.zeros(2)), var, reduction="none")
    assert np.isnan(here(losses)).tolist() == [True, False]


def test_the_stand_in_is_strict():
    with standin.installed() as cupy:
        x = cupy.asarray(np.arange(6.0).reshape(2, 3))
        for misuse in (
            lambda: np.asarray(x), lambda: np.exp(x), lambda: np.sum(x), lambda: x + np.ones(3),
            lambda: np.ones(3) * x, lambda: cupy.add(x, np.ones(3)), lambda: x[np.array([0])],
            lambda: cupy.exp(x, where=x > 0), lambda: cupy.where(x > 0, x, 0, dtype=None),
            lambda: cupy.concatenate([x, np.ones((1, 3))]), lambda: x.sum(where=True),
        ):  # fmt: skip
            with pytest.raises(TypeError):
                misuse()
        for missing in ("nan_to_num_", "matrix", "fromregex"):
            with pytest.raises(AttributeError):
                getattr(cupy, missing)
        with pytest.raises(AttributeError):
            x.newbyteorder  # noqa: B018
        assert x.sum().shape == ()
        assert is_there(x.sum())
        standin.waits.clear()
        assert float(x[0, 1]) == 1.0
        assert x[x > 2].shape == (3,)
        assert standin.waits == ["__float__", "boolean index"]
    assert "cupy" not in sys.modules or sys.modules["cupy"] is not cupy
