"""The CPU engines: each path gives what the definition gives, with the same bits on any number of threads."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled, plans, reference, threads
from fconv.engine.cpu import direct, filters, tiles
from fconv.geometry import conv_geometry
from fconv.testing import strategies as fst

f32 = np.float32


@pytest.fixture(params=["compiled", "numpy"], scope="module", autouse=True)
def engine(request):
    """Compute with each of the engines for the CPU."""
    if request.param == "compiled" and compiled.problem():
        pytest.skip(compiled.problem())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "wished", lambda: request.param == "compiled")
        yield request.param


@st.composite
def convolutions(draw):
    """Draw a geometry with the arrays of a convolution in any memory order."""
    ndim = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    inner, outer = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    sizes = st.lists(st.integers(1, 13), min_size=ndim, max_size=ndim).map(tuple)
    small = st.lists(st.integers(1, 4), min_size=ndim, max_size=ndim).map(tuple)
    kernel = draw(small if ndim != 2 else small | st.just((3, 3)))
    stride, dilation = draw(small), draw(st.just((1,) * ndim) | small)
    if draw(st.booleans()):
        stride = (1,) * ndim
    padding = tuple(draw(st.integers(0, 4)) for _ in range(ndim))
    x_shape = (draw(st.integers(1, 4)), groups * inner, *draw(sizes))
    try:
        geometry = conv_geometry(
            "conv", ndim, x_shape, (groups * outer, inner, *kernel), None, stride, padding, dilation, groups
        )
    except ValueError:
        assume(False)
    arrays = [
        draw(fst.arrays_like(s, np.float64)) for s in (x_shape, geometry.weight_shape, geometry.out_shape)
    ]
    return geometry, *arrays


def close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * (1 + abs(expected).max(initial=0)))


@given(convolutions(), st.sampled_from(plans.ALGORITHMS))
def test_every_algorithm_is_the_definition(case, algorithm):
    geometry, x, weight, g = case
    assume(algorithm != "winograd" or geometry.is_3x3)
    plan = plans.plan(geometry, "float64", "cpu", algorithm)
    y = plan.convolve(x, weight, None)
    dx = plan.input_gradient(g, weight)
    dw = plan.weight_gradient(g, x, weight)
    close(y, reference.convolve(x, weight, geometry))
    close(dx, reference.input_gradient(g, weight, geometry))
    close(dw, reference.weight_gradient(g, x, geometry))


@given(convolutions())
def test_the_bias_is_added_to_every_position(case):
    geometry, x, weight, _ = case
    bias = np.arange(1.0, geometry.out_channels + 1)
    expected = reference.convolve(x, weight, geometry) + bias.reshape(-1, *(1,) * geometry.windows.ndim)
    close(plans.plan(geometry, "float64").convolve(x, weight, bias), expected)


CASES = {
    "direct": ((4, 24, 40, 40), (32, 24, 5, 5), {"padding": 2}),  # of several tiles, as the next
    "strided": ((4, 24, 81, 80), (64, 24, 3, 3), {"padding": 1, "stride": 2}),
    "winograd": ((6, 64, 30, 30), (64, 64, 3, 3), {"padding": 1}),
    "depthwise": ((4, 24, 30, 30), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    "grouped": ((4, 24, 30, 30), (24, 4, 3, 3), {"padding": 1, "groups": 6}),
    "pointwise": ((4, 24, 30, 30), (16, 24, 1, 1), {}),
    "planar": ((4, 3, 30, 30), (16, 3, 5, 5), {"padding": 2, "stride": 2}),
    "planar to few": ((1, 2, 90, 80), (3, 2, 3, 3), {"padding": 1}),
    "multiplied": ((2, 6, 14, 12), (12, 1, 3, 3), {"padding": 1, "groups": 6}),
    "adding": ((3, 20, 20, 18), (2, 20, 3, 3), {"padding": 1}),
    "heavy": ((3, 160, 5, 4), (160, 160, 3, 3), {"padding": 1}),
    "heavy at the border": ((1, 176, 7, 6), (150, 176, 3, 3), {}),
    "heavy strided": ((2, 144, 8, 7), (200, 144, 3, 3), {"padding": 1, "stride": 2}),
    "heavy pointwise": ((4, 448, 3, 3), (512, 448, 1, 1), {}),
    "small pictures": ((6, 40, 2, 2), (72, 40, 3, 3), {"padding": 1}),
}


def arrays(x_shape, weight_shape, mean=0.0):
    key = fc.random.key(1)
    x = mean + fc.random.normal(key, x_shape)
    return x, fc.random.normal(fc.random.fold_in(key, 1), weight_shape) / 10


@pytest.fixture(autouse=True)
def _the_number_of_threads_stays():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("name", CASES)
def test_the_same_bits_with_any_number_of_threads(name):
    x_shape, weight_shape, options = CASES[name]
    x, weight = arrays(x_shape, weight_shape)
    y = F.conv2d(x, weight, **options)
    grads = F.conv2d_vjp(y, x, weight, **options)
    for n in (1, 2, 3, 7):
        fc.set_num_threads(n)
        np.testing.assert_array_equal(F.conv2d(x, weight, **options), y)
        for found, expected in zip(F.conv2d_vjp(y, x, weight, **options), grads, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "shapes",
    [
        ((7, 32, 57, 56), (48, 32, 3, 3)),
        ((24, 32, 57, 56), (48, 32, 3, 3)),
        ((2, 768, 28, 28), (96, 768, 3, 3)),
    ],
)
def test_the_same_bits_with_any_memory_order_of_many_pictures(shapes):
    x, weight = arrays(*shapes)  # some pictures are copied to channels-last at a time
    other = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y = F.conv2d(x, weight, padding=1)
    np.testing.assert_array_equal(F.conv2d(other, weight, padding=1), y)
    g = np.ascontiguousarray(y)
    for found, expected in zip(
        F.conv2d_vjp(g, x, weight, padding=1), F.conv2d_vjp(y, other, weight, padding=1), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", [*CASES, "one position", "one filter"])
def test_the_same_bits_with_any_memory_order_of_the_weight(name):
    more = {
        "one position": ((1, 40, 3, 3), (24, 40, 3, 3), {}),
        "one filter": ((2, 40, 9, 9), (1, 40, 3, 3), {}),
    }
    x_shape, weight_shape, options = {**CASES, **more}[name]
    x, weight = arrays(x_shape, weight_shape)
    laid = filters.laid_out(weight)
    assert filters.is_laid_out(laid)
    y = F.conv2d(x, weight, **options)
    g = fc.random.normal(fc.random.key(9), y.shape)
    np.testing.assert_array_equal(F.conv2d(x, laid, **options), y)
    grads = F.conv2d_vjp(g, x, weight, **options), F.conv2d_vjp(g, x, laid, **options)
    for found, expected in zip(*grads, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert grads[0][1].flags.c_contiguous


def test_layers_draw_weights_in_the_engines_memory_order_and_keep_it():
    net = fc.compose(fc.conv2d(4, 3), fc.conv_transpose2d(5, 3), fc.flatten(), fc.linear(2))
    params = net.init(fc.random.key(0), (2, 3, 8, 8))
    given = {name: np.ascontiguousarray(value) for name, value in fc.to_state_dict(params).items()}
    for tree in (params, fc.from_state_dict(params, given)):
        weights = [leaf for leaf in fc.trees.leaves(tree) if leaf.ndim == 4]
        assert len(weights) == 2
        assert all(filters.is_laid_out(weight) for weight in weights)


@pytest.mark.parametrize("algorithm", plans.ALGORITHMS)
@pytest.mark.parametrize("name", CASES)
def test_every_case_by_every_algorithm(name, algorithm):
    x_shape, weight_shape, options = CASES[name]
    x, weight = (a.astype(np.float64) for a in arrays(x_shape, weight_shape))
    g = fc.random.normal(fc.random.key(9), F.conv2d(x, weight, **options).shape, np.float64)
    try:
        found = F.conv2d(x, weight, algorithm=algorithm, **options)
    except ValueError as error:
        assert "needs" in str(error)  # noqa: PT017 - whether it serves the shape is not at issue here
        return
    close(found, F.conv2d(x, weight, algorithm="reference", **options))
    grads = (F.conv2d_vjp(g, x, weight, algorithm=each, **options) for each in (algorithm, "reference"))
    for a, b in zip(*grads, strict=True):
        if a is not None:
            close(a, b)


def test_the_table_chooses(engine):
    def chosen(name, dtype=f32):
        x_shape, weight_shape, options = CASES[name]
        return plans.algorithm_for(x_shape, weight_shape, dtype=dtype, **options)

    for name in CASES:
        assert chosen(name) == f"{'winograd' if name == 'winograd' else 'direct'} ({engine})"
    assert chosen("winograd", np.float64) == f"direct ({engine})"
    assert chosen("winograd", np.float16) == f"winograd ({engine})"  # computed in float32
    assert plans.algorithm_for((0, 3, 8, 8), (4, 3, 3, 3)) == "reference (numpy)"


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("direct", 1e-6),
        ("strided", 1e-6),
        ("winograd", 1e-5),
        ("depthwise", 1e-6),
        ("planar", 1e-6),
        ("planar to few", 1e-6),
        ("adding", 1e-6),
    ],
)
def test_float32_is_near_float64(name, bound, mean):
    x_shape, weight_shape, options = CASES[name]
    x, weight = arrays(x_shape, weight_shape, mean)
    g = fc.random.normal(fc.random.key(5), F.conv2d(x, weight, **options).shape)
    exact = [a.astype(np.float64) for a in (g, x, weight)]
    y = F.conv2d(*exact[1:], algorithm="reference", **options)
    pairs = [(F.conv2d(x, weight, **options), y)]
    dx, dw, _ = F.conv2d_vjp(g, x, weight, **options)
    pairs += zip((dx, dw), F.conv2d_vjp(*exact, algorithm="reference", **options), strict=False)
    for found, expected in pairs:
        assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)


def test_direct_keeps_infinity_in_its_place():
    x, weight = arrays((1, 32, 16, 16), (32, 32, 3, 3))
    x[0, 0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        y = F.conv2d(x, weight, padding=1, algorithm="direct")
    assert np.isfinite(y[:, :, 2:, 2:]).all()


@pytest.mark.parametrize(("algorithm", "least", "most"), [("direct", 0, 2e-5), ("winograd", 1e-3, 1.0)])
def test_rounding_errors_of_a_large_entry(algorithm, least, most):
    """As documented, Winograd spreads them over outputs that do not see it, and direct does not."""
    x = fc.random.normal(fc.random.key(1), (1, 32, 16, 16))
    weight = fc.random.normal(fc.random.key(2), (32, 32, 3, 3)) / np.float32(np.sqrt(32 * 9))
    x[0, 0, 8, 8] = 1e6
    exact = F.conv2d(x.astype(np.float64), weight.astype(np.float64), padding=1)
    error = abs(F.conv2d(x, weight, padding=1, algorithm=algorithm) - exact).max(axis=(0, 1))
    error[7:10, 7:10] = 0  # those that see it
    assert least <= error.max() < most
    assert error[:4].max() < 2e-5  # blocks of outputs away


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_extra_memory_does_not_grow_with_the_batch(algorithm):
    """The windows of this batch take 75 MB; a thread's work space is at most about 8 MB, which it keeps."""
    x, weight = arrays((64, 32, 32, 32), (32, 32, 3, 3))
    fc.set_num_threads(2)
    tracemalloc.start()
    y = F.conv2d(x, weight, padding=1, algorithm=algorithm)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - y.nbytes < 2 * 9e6


@given(
    st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.integers(1, 60),
    st.sampled_from([1, 4]),
)  # fmt: skip
def test_tiles_cover_everything_once(batch, size, target, multiple):
    count = np.zeros((batch, *size), int)
    for tile in tiles.tiles(batch, size, target, multiple):
        count[tile.index] += 1
        assert all(start % multiple == 0 for start in tile.start)
        assert tile.positions == count[tile.index].size
    assert (count == 1).all()


def test_windows_cannot_leave_their_memory():
    at = tiles.Correlation((4, 4), (4, 4), (3, 3), (1, 1), (1, 1), (0, 0))
    with pytest.raises((ValueError, TypeError)):
        tiles.windows(np.zeros((1, 4, 4, 2)), (4, 4), at)
    with pytest.raises(ValueError, match="leave an array of shape"):
        tiles.windows(np.zeros((1, 6, 6, 2))[:, :4, :4], (4, 4), at)


@pytest.mark.parametrize(
    ("algorithm", "options", "text"),
    [
        (
            "fast",
            {},
            "conv2d: expected an algorithm of auto, direct, winograd, reference, got 'fast'",
        ),
        ("winograd", {"stride": 2}, 'conv2d: algorithm "winograd" needs a 3x3 kernel with stride 1'),
    ],
)
def test_an_algorithm_that_cannot_be_is_refused(algorithm, options, text):
    x, weight = arrays((1, 4, 9, 9), (4, 4, 3, 3))
    with pytest.raises(ValueError, match=text):
        F.conv2d(x, weight, algorithm=algorithm, **options)


@pytest.mark.parametrize(
    ("n", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_a_number_of_threads_that_cannot_be_is_refused(n, kind):
    with pytest.raises(kind, match="set_num_threads: n must be"):
        fc.set_num_threads(n)


@pytest.mark.parametrize(
    ("text", "expected"), [("3", "3"), ("0", "expected a number of threads of 1 or more"), ("x", "got 'x'")]
)
def test_the_environment_sets_the_number_of_threads(text, expected):
    found = subprocess.run(
        [sys.executable, "-c", "import fconv; print(fconv.get_num_threads())"],
        env={**os.environ, "FCONV_NUM_THREADS": text}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert expected in found.stdout + found.stderr


def blas_threads():
    threads.run(lambda i: None, 1)  # which finds the libraries that are held; SciPy may load another later
    return [blas.get_threads() for blas in threads._state.blas]


def test_blas_gets_its_threads_back():
    before = blas_threads()
    seen = []
    threads.run(lambda i: seen.append([blas.get_threads() for blas in threads._state.blas]), 3)
    assert all(set(each) == {1} for each in seen)
    with pytest.raises(MemoryError):
        threads.run(lambda i: np.empty(1 << 50), 8)
    assert blas_threads() == before
    x, weight = arrays((2, 4, 9, 9), (4, 4, 3, 3))
    y = F.conv2d(x, weight)  # usable after
    np.testing.assert_allclose(y, F.conv2d(x, weight, algorithm="reference"), rtol=1e-4, atol=1e-5)


def interrupted(i):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_held():
    before = blas_threads()
    for tasks in (1, 8):
        with pytest.raises(KeyboardInterrupt):
            threads.run(interrupted, tasks)
        assert threads._state.held is None
        assert threads.depth() == 0
    assert blas_threads() == before


def test_a_call_whose_end_was_lost_is_not_waited_for():
    before = blas_threads()
    threads._hold(threads._Token())  # nobody releases it
    threads.run(lambda i: None, 2)
    assert blas_threads() == before


def test_tasks_see_the_callers_errstate():
    fc.set_num_threads(4)
    seen = []
    with np.errstate(over="raise"):
        threads.run(lambda i: seen.append(np.geterr()["over"]), 64)
    assert seen == ["raise"] * 64


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread alone"
)
def test_a_signals_handler_may_compute():
    x, weight = arrays((4, 16, 16, 16), (16, 16, 3, 3))
    other = x[::-1].copy()
    expected, calls = (F.conv2d(x, weight), F.conv2d(other, weight)), []

    def compute(*_):
        calls.append(np.allclose(F.conv2d(other, weight), expected[1], atol=1e-4))
        signal.setitimer(signal.ITIMER_REAL, 0.002)  # only now, so that the handler never starves the rest

    handler = signal.signal(signal.SIGALRM, compute)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        found = [np.allclose(F.conv2d(x, weight), expected[0], atol=1e-4) for _ in range(200)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert all(found)
    assert calls
    assert all(calls)


def test_a_task_may_itself_run_tasks():
    done = []
    threads.run(lambda i: threads.run(lambda j: done.append((i, j)), 3), 4)
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_calls_from_several_threads_at_once():
    x_shape, weight_shape, options = CASES["winograd"]
    x, weight = arrays(x_shape, weight_shape)
    expected, before, found = F.conv2d(x, weight, **options), blas_threads(), {}

    def call(i):
        found[i] = [F.conv2d(x, weight, **options) for _ in range(5)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((y == expected).all() for ys in found.values() for y in ys)
    assert blas_threads() == before


def _child(queue, x, weight):
    queue.put(F.conv2d(x, weight, padding=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes():
    x, weight = arrays((4, 16, 16, 16), (16, 16, 3, 3))
    expected = F.conv2d(x, weight, padding=1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, x, weight))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join()


def test_tile_sizes_depend_on_the_shape_alone():
    assert direct.positions_of(576, 64, 4, 10**6) == 1365  # of 3 MB
    assert direct.positions_of(10**6, 64, 4, 10**6) == 256
    assert direct.positions_of(9, 1, 4, 10**6) == 8192
    assert direct.positions_of(9, 4, 4, 1000) == 8192  # too little to hand out
    assert direct.positions_of(1000, 188, 4, 1000) == 250


def test_a_layer_holds_its_algorithm():
    x = fc.random.normal(fc.random.key(0), (2, 16, 8, 8))
    layer = fc.conv2d(16, 3, padding=1, algorithm="reference")
    params = layer.init(fc.random.key(0), x.shape)
    np.testing.assert_array_equal(
        layer.apply(params, x), F.conv2d(x, **params, padding=1, algorithm="reference")
    )
    assert "algorithm='reference'" in repr(layer)
    assert "algorithm" not in repr(fc.conv2d(16, 3))
    with pytest.raises(ValueError, match='conv2d: algorithm "winograd" needs a 3x3 kernel'):
        fc.conv2d(16, 5, algorithm="winograd")
    with pytest.raises(ValueError, match="conv_transpose2d: expected an algorithm of auto, "):
        fc.conv_transpose2d(16, 5, algorithm="quick")
