"""Winograd's algorithm in the compiled engine: every division of its work, and squares of any kernel."""

import tracemalloc

import numpy as np
import pytest

import fconv.functional as F
from fconv.engine import compiled
from fconv.geometry import conv_geometry

if not compiled.wished():
    pytest.skip("nothing is compiled", allow_module_level=True)

from fconv.engine.compiled.convolution import CompiledConvolution
from fconv.engine.compiled.machine import machine
from tests.convolutions import channels_last


def draw(*shapes):
    rng = np.random.default_rng(sum(map(len, shapes)))
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("size", [(21, 18), (70, 66), (171, 170)])  # the last in several runs, with 256 KiB
@pytest.mark.parametrize("kib", [256, 1024, 4096])
def test_winograd_divides_its_work_by_any_cache(kib, size, monkeypatch):
    monkeypatch.setattr(machine(), "l2_bytes", kib << 10)
    images = 1 if size[0] > 21 else 3
    x, w, g, b = draw((images, 67, *size), (80, 67, 3, 3), (images, 80, *size), (80,))
    geometry = conv_geometry("conv", 2, x.shape, w.shape, None, 1, 1, 1, 1)
    plan = CompiledConvolution(geometry, "float32", "winograd")
    found = plan.convolve(x, w, b), plan.input_gradient(g, w), plan.weight_gradient(g, x, w)
    wide = [a.astype(np.float64) for a in (g, x, w, b)]
    y = F.conv2d(*wide[1:], padding=1, algorithm="direct")
    dx, dw, _ = F.conv2d_vjp(*wide, padding=1, algorithm="direct")
    for ours, expected in zip(found, (y, dx, dw), strict=True):
        assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("seed", range(24))
def test_winograd_of_dilated_kernels_and_of_three_axes(seed):
    rng = np.random.default_rng(seed)
    deep = seed % 2
    inner, outer = rng.choice([16, 17, 33, 40], 2)
    kernel = (*[rng.integers(1, 4)] * deep, 3, 3)
    stride = (*[rng.integers(1, 3)] * deep, 1, 1)
    dilation, padding = (tuple(rng.integers(*limits, 2 + deep)) for limits in ((1, 4), (0, 5)))
    size = [7, 15, 12][1 - deep :]
    x, w, b = draw((2, inner, *size), (outer, inner, *kernel), (outer,))
    geometry = conv_geometry("conv", 2 + deep, x.shape, w.shape, None, stride, padding, dilation, 1)
    (g,) = draw(geometry.out_shape)
    by_windows, direct = (
        CompiledConvolution(geometry, *each) for each in (("float32", "winograd"), ("float64", "direct"))
    )
    assert by_windows.algorithm == "winograd"
    assert direct.algorithm == "direct"
    gl, xl, wl = (channels_last(a) for a in (g, x, w))
    for given in ((g, x, w), (gl, xl, wl), (gl, x, w[:, ::-1])):
        wide = [a.astype(np.float64) for a in given]
        for ours, expected in zip(all_three(by_windows, *given, b), all_three(direct, *wide, b), strict=True):
            assert ours.dtype == np.float32
            assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)


def all_three(plan, g, x, w, b):
    return plan.convolve(x, w, b.astype(x.dtype)), plan.input_gradient(g, w), plan.weight_gradient(g, x, w)


def test_a_large_batch_goes_run_by_run_with_the_same_bits_in_any_memory_order():
    x, w, g = draw((70, 32, 56, 56), (32, 32, 3, 3), (70, 32, 56, 56))
    tracemalloc.start()
    found = F.conv2d_vjp(g, x, w, padding=1, wrt="weight")[1]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40 << 20 < x.nbytes + g.nbytes  # contiguous arrays are copied to channels-last
    again = F.conv2d_vjp(channels_last(g), channels_last(x), w, padding=1, wrt="weight")[1]
    np.testing.assert_array_equal(found, again)
    parts = [slice(0, 23), slice(23, 70)]
    apart = sum(F.conv2d_vjp(g[s], x[s], w, padding=1, wrt="weight", algorithm="direct")[1] for s in parts)
    assert np.linalg.norm(found - apart) < 1e-5 * np.linalg.norm(apart)


# Pictures, or filters, are the larger.
@pytest.mark.parametrize(("size", "algorithm"), [((2, 64, 48, 30), "winograd"), ((1, 300, 200, 5), "direct")])
def test_large_groups_go_one_after_another(size, algorithm):
    n, inner, outer, side = size
    x, w, g, b = draw(
        (n, 2 * inner, side, side), (2 * outer, inner, 3, 3), (n, 2 * outer, side, side), (2 * outer,)
    )
    geometry = conv_geometry("conv", 2, x.shape, w.shape, None, 1, 1, 1, 2)
    auto, direct = (
        CompiledConvolution(geometry, *each) for each in (("float32", "auto"), ("float64", "direct"))
    )
    wide = [a.astype(np.float64) for a in (g, x, w, b)]
    assert auto.algorithm == algorithm
    assert direct.algorithm == "direct"
    found = all_three(auto, g, x, w, b)
    again = all_three(auto, channels_last(g), channels_last(x), channels_last(w), b)
    for ours, same, expected in zip(found, again, all_three(direct, *wide), strict=True):
        np.testing.assert_array_equal(ours, same)
        assert np.linalg.norm(ours - expected) < 1e-5 * np.linalg.norm(expected)
