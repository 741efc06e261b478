"""The compiled engine's own promises: threads, fork, broken installations."""

import os
import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

import fconv as fc
import fconv.functional as F
from fconv.engine import compiled
from fconv.engine.compiled.launches import WORK, Launch, chain

pytestmark = pytest.mark.skipif(compiled.problem() is not None, reason=str(compiled.problem()))


def draw(*shapes, dtype=np.float32):
    return [fc.random.normal(fc.random.key(i), shape, dtype) for i, shape in enumerate(shapes)]


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def pool():
    from fconv.engine.compiled.pool import pool

    return pool()


@pytest.fixture(scope="module")
def counting():
    """The address of a kernel that adds 1 to the entry of its task."""
    from fconv.engine.compiled.llvm import Module
    from fconv.engine.compiled.machine import machine
    from fconv.engine.compiled.pool import kernel_of

    module = Module()
    f, task, address, _ = kernel_of(module)
    place = f.value(f"load ptr, ptr {address.name}", "ptr") + task * 8
    f.value(f"atomicrmw add ptr {place.name}, i64 1 seq_cst", "i64")
    f.finish()
    return machine().compile(module)[0]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_task_is_done_once(pool, counting, n):
    before = fc.get_num_threads()
    try:
        fc.set_num_threads(n)
        counts = np.zeros(100, np.int64)
        for _ in range(50):
            pool.run(Launch(counting, (0,), 100), (counts,))
    finally:
        fc.set_num_threads(before)
    assert (counts == 50).all()


@pytest.fixture(scope="module")
def telling():
    """The address of a kernel whose tasks write down, in the first array, an argument each."""
    from fconv.engine.compiled.llvm import Module
    from fconv.engine.compiled.machine import machine
    from fconv.engine.compiled.pool import kernel_of

    f, task, address, _ = kernel_of(Module())
    place = f.value(f"load ptr, ptr {address.name}", "ptr") + task * 8
    given = f.value(f"load i64, ptr {(address + task * 8).name}", "i64")
    f.emit(f"store i64 {given.name}, ptr {place.name}")
    f.finish()
    return machine().compile(f.module)[0]


@pytest.fixture(params=[True, False], ids=["known", "unknown"])
def place_of_data(request, monkeypatch):
    """Hide, for half of the tests, where an array object holds the address of its data, as on PyPy."""
    from fconv.engine.compiled import pool, scratch

    if not request.param:
        for module in (pool, scratch):
            monkeypatch.setattr(module, "PLACE_OF_DATA", None)
    return request.param


def test_an_address_is_that_of_the_first_entry(place_of_data):
    from fconv.engine.compiled import scratch

    x = np.zeros((5, 6), np.float32)
    for view in (x, x[1:], x[:, 2:], x[::-1], x.T, x[3:3], x[2, 3:].reshape(1, 3)):
        assert scratch.address(view) == view.__array_interface__["data"][0]


@pytest.mark.parametrize("cost", [1.0, 1e9], ids=["brief", "long"])
@pytest.mark.parametrize("values", [(), (-7, 1 << 40)], ids=["arrays", "values"])
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 20])
def test_a_kernel_gets_the_arrays_then_values_then_what_was_planned(
    place_of_data, pool, telling, count, values, cost
):
    arrays = [np.zeros(60, np.int64)[i:] for i in range(count)]
    planned = (*(0,) * (count + len(values)), 11, 12, 13)
    pool.run(Launch(telling, planned, len(planned), cost=cost), tuple(arrays), *values)
    told = arrays[0][: len(planned)].tolist()
    assert told == [*(x.__array_interface__["data"][0] for x in arrays), *values, 11, 12, 13]
    assert not arrays[0][len(planned) :].any()


@pytest.mark.parametrize("size", [64, 8 << 10, 9 << 10, 1 << 20])
@pytest.mark.parametrize("cost", [1.0, 1e9], ids=["brief", "long"])
def test_the_last_argument_is_scratch_memory_at_a_cache_line(pool, telling, size, cost):
    told = np.zeros(4, np.int64)
    pool.run(Launch(telling, (0, 5, 6, 0), 4, size, cost=cost), (told,))
    assert told[1:3].tolist() == [5, 6]
    assert told[3] > 0 == told[3] % 64


@pytest.mark.parametrize("count", [128, 129, 500])
def test_a_kernel_may_have_any_number_of_arguments(pool, telling, count):
    told, planned = np.zeros(count, np.int64), tuple(range(count))
    pool.run(Launch(telling, planned, count), (told,))
    assert told.tolist() == [told.ctypes.data, *planned[1:]]
    many = [np.zeros(count, np.int64) for _ in range(count)]
    pool.run(Launch(telling, (0,) * count, count), tuple(many))
    assert many[0].tolist() == [each.ctypes.data for each in many]


@pytest.mark.parametrize("count", [100, 129, 2000])
def test_kernels_of_many_arguments_have_scratch_memory_beside_them(pool, telling, count):
    told, planned = np.zeros(count, np.int64), tuple(range(count))
    pool.run(Launch(telling, planned, count, 64), (told,))
    assert told[1:-1].tolist() == [*planned[1:-1]]
    assert told[-1] % 64 == 0


@pytest.mark.parametrize("work", [64, 8 << 10, 1 << 20])
@pytest.mark.parametrize("scratch", [0, 64, 8 << 10])
@pytest.mark.parametrize("cost", [1.0, 1e9], ids=["brief", "long"])
def test_launches_of_a_chain_take_arrays_by_number_and_share_work_memory(
    place_of_data, pool, telling, cost, scratch, work
):
    told = [np.zeros(5, np.int64) for _ in range(3)]
    at = [each.ctypes.data for each in told]
    launch = Launch(telling, (0, 0, 7, 8, 9), 5, scratch, cost=cost)
    chained = chain([launch.of(2, (0, 24)), launch.of(1, (WORK, 128)), launch.of(0, (WORK, 0), 2, 1)], work)
    pool.run(chained, tuple(told))
    last = [each[4] for each in told]
    assert told[2].tolist() == [at[2], at[0] + 24, 7, 8, last[2]]
    assert told[1].tolist() == [at[1], told[0][1] + 128, 7, 8, last[1]]
    assert told[0].tolist() == [at[0], told[0][1], at[2], at[1], last[0]]
    assert told[0][1] % 64 == 0
    if scratch:
        assert all(place % 64 == 0 and place >= told[0][1] + work for place in last)
    else:
        assert last == [9, 9, 9]


def test_a_launch_stays_what_it_was_when_it_is_put_into_a_chain(pool, telling):
    told, other = np.zeros(3, np.int64), np.zeros(3, np.int64)
    launch = Launch(telling, (0, 5, 6), 3)
    chain([launch.of((1, 8))])
    pool.run(launch, (told, other))
    assert told.tolist() == [told.ctypes.data, other.ctypes.data, 6]


def test_a_launch_with_more_arguments_than_its_stack_holds_is_kept_out_of_chains(telling):
    Launch(telling, range(128), 1).of(0)
    with pytest.raises(AssertionError):
        Launch(telling, range(129), 1).of(0)


@pytest.mark.parametrize("costs", [(1.0, 1e9), (1e9, 1.0)])
def test_a_chain_with_a_long_launch_is_for_all_threads(telling, costs):
    launches = [Launch(telling, (0, 0, 0), 5, cost=cost).of(0) for cost in costs]
    assert not chain(launches).brief
    assert chain(launches).threads == 5
    assert chain(launches[:1]).brief == launches[0].brief


def test_launches_from_several_threads_at_once(pool, counting):
    counts = np.zeros((4, 64), np.int64)

    def launch(i):
        for _ in range(300):
            pool.run(Launch(counting, (0,), 64), (counts[i],))

    callers = [threading.Thread(target=launch, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (counts == 300).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_another_thread_computes():
    x, weight = draw((4, 16, 16, 16), (16, 16, 3, 3))
    expected = F.conv2d(x, weight)
    over = threading.Event()

    def compute():
        while not over.is_set():
            F.conv2d(x, weight)

    other = threading.Thread(target=compute)
    other.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if (F.conv2d(x, weight) == expected).all() else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        over.set()
        other.join()


def test_nothing_is_compiled_at_import():
    code = "import sys, fconv, fconv.functional; print('llvmlite' in sys.modules)"
    assert python(code).stdout.strip() == "False"


WITHOUT = """
import sys, {before}
import numpy as np, fconv.functional as F
from fconv.engine import compiled, plans
x, w = np.ones((1, 3, 8, 8), "f4"), np.ones((4, 3, 3, 3), "f4")
print(F.conv2d(x, w).sum(), plans.algorithm_for(x.shape, w.shape), compiled.problem())
"""


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("types; sys.modules['llvmlite'] = None", "llvmlite is not there"),
        (
            "types; sys.modules['llvmlite'] = a = types.ModuleType('a'); "
            "a.binding = sys.modules['llvmlite.binding'] = types.ModuleType('b')",
            "llvmlite does not work here: AttributeError",
        ),
    ],
)
def test_without_a_llvmlite_that_works_numpy_serves(before, text):
    found = python(WITHOUT.format(before=before))
    assert "3888.0 direct (numpy)" in found.stdout, found.stderr
    assert text in found.stdout


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ("0", "direct (numpy)"),
        ("1", "direct (compiled)"),
        ("yes", "ValueError: FCONV_JIT: expected 0 or 1, got 'yes'"),
    ],
)
def test_the_environment_forbids_compiling(wish, text):
    found = python(WITHOUT.format(before="os"), FCONV_JIT=wish)
    assert text in found.stdout + found.stderr


def test_nothing_is_read_or_written_outside_of_the_arrays():
    """Arrays that end at the end of a mapped page, or begin at its beginning, with NaN around them."""
    shapes = [((2, 5, 9, 7), (9, 5, 3, 3), {"padding": 1}), ((1, 20, 6, 6), (20, 20, 3, 3), {"stride": 2})]
    for x_shape, w_shape, options in shapes:
        x, w = draw(x_shape, w_shape)
        y = F.conv2d(x, w, **options)
        g = draw(y.shape)[0]
        guarded = []
        for a in (g, x, w):
            memory = np.full(a.size + 64, np.nan, a.dtype)
            memory[32:-32] = a.ravel()
            guarded.append(memory[32:-32].reshape(a.shape))
        found = F.conv2d(*guarded[1:], **options), *F.conv2d_vjp(*guarded, **options)[:2]
        for a, b in zip(found, (y, *F.conv2d_vjp(g, x, w, **options)[:2]), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [7, 56, 100, 1, 2, 15])
def test_rows_are_covered_once(size):
    from fconv.engine.compiled.micro import even, sizes_of

    for most in range(1, 15):
        rows = even(size, most)
        assert rows <= max(1, most)
        sizes = sizes_of(rows, size)
        assert set(sizes) <= {rows, rows - 1, 1}
        assert min(sizes) >= 1


NARROWER = """
import llvmlite.binding as llvm
features = llvm.get_host_cpu_features()
dropped = {dropped!r}


class Fewer(dict):
    def flatten(self):
        return ",".join(("+" if there else "-") + name for name, there in self.items())


fewer = Fewer({{name: there and not name.startswith(dropped) for name, there in features.items()}})
llvm.get_host_cpu_features, llvm.get_host_cpu_name = lambda: fewer, lambda: {cpu!r}

import numpy as np
from fconv.engine import plans, reference
from fconv.engine.compiled.machine import machine
from fconv.geometry import conv_geometry

assert machine().vector_bytes == {vector_bytes}
for x, w, options in [
    ((2, 20, 9, 9), (24, 20, 3, 3), (1, 1, 1, 1)), ((2, 3, 12, 11), (5, 3, 5, 5), (2, 2, 1, 1)),
    ((1, 8, 9, 9), (8, 1, 3, 3), (1, 1, 1, 8)), ((2, 12, 15), (20, 6, 3), (2, 1, 2, 2)),
]:
    geometry = conv_geometry("conv", len(x) - 2, x, w, None, *options)
    draw = np.random.default_rng(0)
    x, w, g = (draw.standard_normal(shape) for shape in (x, w, geometry.out_shape))
    plan = plans.plan(geometry, "float64")
    assert plan.engine == "compiled"
    for found, expected in (
        (plan.convolve(x, w, None), reference.convolve(x, w, geometry)),
        (plan.input_gradient(g, w), reference.input_gradient(g, w, geometry)),
        (plan.weight_gradient(g, x, w), reference.weight_gradient(g, x, geometry)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
print("agree")
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the features are those of x86-64")
@pytest.mark.parametrize(
    ("cpu", "vector_bytes", "dropped"),
    [
        ("haswell", 32, ("avx512", "avx10", "evex", "amx")),
        ("x86-64", 16, ("avx", "evex", "amx", "fma", "f16c", "vaes", "vpclmul", "xop")),
    ],
)
def test_kernels_for_narrower_vectors(cpu, vector_bytes, dropped):
    from fconv.engine.compiled.machine import machine

    if machine().vector_bytes < vector_bytes:
        pytest.skip("this processor's vectors are narrower still")
    found = python(NARROWER.format(cpu=cpu, vector_bytes=vector_bytes, dropped=dropped))
    assert found.stdout.strip() == "agree", found.stderr[-2000:]
