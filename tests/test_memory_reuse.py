"""Memory of results: given again when nobody refers to it, and never before."""

import gc
import pickle
import threading

import numpy as np
import pytest

from fconv import functional as F
from fconv.engine import memory

SHAPE, SINGLE = (64, 1024), np.dtype(np.float32)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Begin with nothing kept, and let go in the end of what a test kept."""
    monkeypatch.setattr(memory, "kept", memory.Kept(64 << 20))


def place(x):
    return x.__array_interface__["data"][0]


def test_memory_is_used_again_once_the_last_view_is_gone():
    x = memory.empty(SHAPE, SINGLE)
    at, view = place(x), x[3:, ::2]
    del x
    other = memory.empty(SHAPE, SINGLE)
    assert place(other) != at  # the view still reads it
    del view
    assert place(memory.empty(SHAPE, SINGLE)) == at


@pytest.mark.parametrize(
    "hold", [memoryview, lambda x: x.reshape(-1).view(np.uint8), np.asarray, lambda x: x.T]
)
def test_whoever_holds_memory_keeps_it(hold):
    x = memory.empty(SHAPE, SINGLE)
    x[...] = 7
    at, held = place(x), hold(x)
    del x
    gc.collect()
    assert place(memory.empty(SHAPE, SINGLE)) != at
    assert (np.asarray(held).view(SINGLE) == 7).all()


def test_arrays_are_like_those_of_numpy():
    for shape in [(), (0, 5), (3,), SHAPE, (7, 5, 333, 2)]:
        for dtype in (SINGLE, np.dtype(np.float64)):
            x = memory.empty(shape, dtype)
            assert type(x) is np.ndarray
            assert (x.shape, x.dtype, x.strides) == (shape, dtype, np.empty(shape, dtype).strides)
            assert x.flags.writeable
            if x.nbytes >= memory.LEAST:
                assert place(x) % memory.LINE == 0
    for order in [(0, 1, 2, 3), (0, 2, 3, 1), (3, 1, 0, 2)]:
        like = np.empty((9, 8, 7, 600), SINGLE).transpose(order)
        assert memory.empty_like(like).strides == np.empty_like(like).strides
        made = memory.empty_in_order(like, [size + 1 for size in like.shape])
        assert np.argsort(made.strides).tolist() == np.argsort(like.strides).tolist()
    sliced = np.empty((40, 50, 60), SINGLE)[:, ::2, ::-1]
    assert memory.empty_like(sliced).strides == np.empty_like(sliced).strides
    assert memory.empty_like(np.broadcast_to(SINGLE.type(1), SHAPE)).shape == SHAPE


def test_zeros_are_zeros_in_memory_that_was_used():
    for _ in range(3):
        x = memory.zeros(SHAPE, SINGLE)
        assert not x.any()
        x.fill(np.nan)
        del x
    assert not memory.zeros((3, 2), SINGLE).any()


def test_not_more_is_kept_than_the_limit(monkeypatch):
    monkeypatch.setattr(memory, "kept", memory.Kept(1 << 20))
    arrays = [memory.empty((n, 1024), SINGLE) for n in (64, 80, 96, 112, 128, 144)]
    newest = place(arrays[-1])
    while arrays:
        del arrays[0]
        assert memory.kept.bytes <= 1 << 20
    before = memory.kept.bytes
    oldest = memory.empty((64, 1024), SINGLE)
    assert memory.kept.bytes == before  # it was let go
    assert place(memory.empty((144, 1024), SINGLE)) == newest
    del oldest
    large = memory.empty((1024, 1024), SINGLE)  # larger than the limit: malloc's
    before = memory.kept.bytes
    del large
    assert memory.kept.bytes == before


def test_results_stay_apart_on_many_threads():
    x = np.random.default_rng(0).standard_normal((16, 64, 33), SINGLE)
    wrong = []

    def work(seed):
        mine = [x + seed, x * seed]
        for _ in range(100):
            found = [F.tanh(each) for each in mine]
            kept = [each.copy() for each in found]
            again = [F.tanh(each) for each in mine]
            wrong.extend(
                1 for a, b, c in zip(found, kept, again, strict=True) if (a != b).any() or (b != c).any()
            )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_results_can_be_pickled_copied_and_sorted_in_place():
    y = F.relu(np.random.default_rng(0).standard_normal(SHAPE, SINGLE))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), y)
    copied = y.copy()
    y.sort()
    np.testing.assert_array_equal(np.sort(copied), y)


def test_a_loan_that_ends_while_memory_is_taken_is_let_go():
    with memory.kept._lock:  # as in the middle of `take`, where the collector may run
        x = memory.empty(SHAPE, SINGLE)
        del x
    assert memory.kept.bytes == 0
