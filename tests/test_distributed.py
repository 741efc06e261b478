"""Data-parallel training, on ranks that are threads: the arithmetic, the checks and the messages."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fconv as fc
from fconv import distributed
from fconv.distributed.tree import bounds, climb, held_by, tree_sum
from tests.distributed import runs
from tests.distributed.threads import on_ranks

ALONE = distributed.Communicator()


def summed_by_hand(leaves):
    """Add neighbours, level by level."""
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = [sum(pair[1:], pair[0]) for pair in pairs]
    return leaves[0]


@pytest.mark.parametrize(
    ("size", "shards"),
    [(1, 5), (2, 2), (2, 6), (2, 8), (3, 3), (3, 12), (4, 4), (4, 16), (5, 10), (6, 12), (8, 8)],
)
@pytest.mark.parametrize("length", [0, 1, 3, 1000])
def test_sums_are_those_of_one_tree_whatever_the_number_of_ranks(size, shards, length):
    draw = np.random.default_rng(length)
    leaves = [(draw.normal(size=length) * 10.0**i).astype(np.float32) for i in draw.integers(-4, 4, shards)]

    def work(comm):
        own = range(*bounds(shards, size, comm.rank))
        nodes = climb({(0, i): leaves[i].copy() for i in own}, shards, lambda a, b: a + b)
        assert tuple(nodes) == held_by(comm.rank, size, shards)
        return tree_sum(comm.world, nodes, shards, np.empty(length, np.float32)).tobytes()

    assert set(on_ranks(size, work)) == {summed_by_hand(leaves).tobytes()}


def test_halving_sends_no_more_than_it_must():
    sent = []

    def work(comm):
        exchange = comm.world.sendrecv
        comm.world.sendrecv = lambda out, *rest: (sent.append(out.nbytes), exchange(out, *rest))
        comm.all_reduce(np.ones(1024))

    on_ranks(8, work)
    assert sum(sent) == 8 * 2 * (7 / 8) * 8 * 1024


def test_the_functions_of_a_communicator():
    def work(comm):
        mine = np.full((comm.rank, 2), comm.rank)
        assert [a.tolist() for a in comm.gather(mine)] == [[[r, r]] * r for r in range(5)]
        for root in range(5):
            found = comm.broadcast(np.arange(3, dtype=np.float32) if comm.rank == root else None, root)
            assert (found.dtype, found.tolist()) == (np.float32, [0, 1, 2])
        comm.barrier()
        return [comm.all_reduce(np.array([1.0, comm.rank]), exact=exact).tolist() for exact in (True, False)]

    assert on_ranks(5, work) == [[[5, 10]] * 2] * 5
    assert repr(ALONE) == "Communicator(rank=0, size=1)"


@pytest.mark.parametrize("kind", ["all", "sync"])
def test_the_same_bits_on_1_2_4_and_8_ranks(kind):
    alone = runs.digest(*runs.train(ALONE, kind, steps=3))
    for size in (2, 4, 8):
        for sharded in (False, True) if size == 4 else (False,):
            found = on_ranks(
                size, lambda comm, s=sharded: runs.digest(*runs.train(comm, kind, steps=3, sharded=s))
            )
            assert all(each == alone for each in found)


def test_the_same_bits_on_numbers_of_ranks_that_are_no_powers_of_two():
    alone = runs.digest(*runs.train(ALONE, "all", shards=6, steps=3))
    for size in (2, 3, 6):
        found = on_ranks(size, lambda comm: runs.digest(*runs.train(comm, "all", shards=6, steps=3)))
        assert all(each == alone for each in found)


@pytest.mark.parametrize(("dtype", "within"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("kind", ["plain", "sync"])
def test_shards_give_what_the_whole_batch_gives(kind, dtype, within):
    params, losses = runs.train_plainly(kind, dtype, steps=4)
    for size, options in ((1, {}), (4, {}), (4, {"exact": False})):
        for found, their_losses in on_ranks(
            size, lambda c, o=options: runs.train(c, kind, dtype, steps=4, **o)
        ):
            assert runs.furthest(params, found) < within
            assert np.abs(np.subtract(losses, their_losses)).max() < within


def test_one_shard_is_plain_training_bit_for_bit():
    plain = runs.digest(*runs.train_plainly("all", steps=4))
    assert runs.digest(*runs.train(ALONE, "all", shards=1, steps=4)) == plain


LOSSES = {
    "labels that are ignored": (fc.cross_entropy_loss(ignore_index=2), np.array([0, 2, 2, 2, 1, 2, 2])),
    "none that counts": (fc.cross_entropy_loss(ignore_index=2), np.full(7, 2)),
    "weights": (fc.cross_entropy_loss(weight=np.array([0.2, 3.0, 1.0])), np.array([0, 1, 1, 0, 2, 0, 1])),
    "probabilities": (fc.cross_entropy_loss(), np.eye(3)[[0, 1, 2, 0, 0, 1, 2]]),
    "a sum": (fc.mse_loss(reduction="sum"), np.ones((7, 3))),
    "a mean": (fc.mse_loss(), np.ones((7, 3))),
    "terms of each kind": (
        fc.cross_entropy_loss(ignore_index=1) + 0.5 * fc.l2_penalty() + 2.0 * fc.cross_entropy_loss(),
        np.array([0, 1, 2, 1, 1, 0, 0]),
    ),
    "a loss of the user's": (
        SimpleNamespace(
            apply=lambda y, t: ((y - t) ** 2).mean(), vjp=lambda y, t, g=1.0: g * 2 * (y - t) / y.size
        ),
        np.ones((7, 3)),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sharded", [False, True])
def test_every_mean_is_weighted_by_what_it_counts(name, sharded):
    loss, target = LOSSES[name]
    net = fc.linear(3)
    x = fc.random.normal(fc.random.key(5), (7, 4)).astype(np.float64)
    params = net.init(fc.random.key(0), x.shape, np.float64)
    value, grads, _ = fc.value_and_grad(net, loss)(params, x, target)

    def work(comm):
        f = distributed.value_and_grad(net, loss, comm, sharded=sharded)
        part = slice(*bounds(7, comm.size, comm.rank)) if sharded else slice(None)
        return f(params, x[part], target[part])

    for size in (1, 2, 3, 5):
        for got, theirs, _ in on_ranks(size, work):
            np.testing.assert_allclose(got, value, rtol=1e-12)
            for _, a, b in fc.trees.aligned(grads, theirs):
                np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


def test_losses_by_name_are_weighted_too():
    net = fc.with_outputs(fc.compose(fc.linear(3), fc.relu()), ["0", "1"])
    x = fc.random.normal(fc.random.key(5), (7, 4)).astype(np.float64)
    params = net.init(fc.random.key(0), x.shape, np.float64)
    y = net.apply(params, x)
    names = sorted(y)
    loss = fc.losses_by_name({names[0]: (0.5, fc.mse_loss()), names[1]: (2.0, fc.nll_loss(ignore_index=1))})
    target = {names[0]: np.ones((7, 3)), names[1]: np.array([0, 1, 1, 1, 2, 1, 0])}
    value, grads, _ = fc.value_and_grad(net, loss)(params, x, target)
    for size in (1, 2, 4):
        for got, theirs, _ in on_ranks(
            size, lambda comm: distributed.value_and_grad(net, loss, comm, 4)(params, x, target)
        ):
            np.testing.assert_allclose(got, value, rtol=1e-12)
            for _, a, b in fc.trees.aligned(grads, theirs):
                np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("lengths", [(6, 1, 2), (2, 3, 4), (3, 3, 3)])
def test_parts_of_any_length_are_weighted_by_their_examples(lengths):
    net, loss = fc.linear(2), fc.mse_loss()
    x, target = fc.random.normal(fc.random.key(5), (9, 4)).astype(np.float64), np.ones((9, 2))
    params = net.init(fc.random.key(0), x.shape, np.float64)
    value, grads, _ = fc.value_and_grad(net, loss)(params, x, target)
    ends = np.cumsum(lengths).tolist()
    parts = [slice(end - n, end) for n, end in zip(lengths, ends, strict=True)]

    def work(comm):
        f = distributed.value_and_grad(net, loss, comm, sharded=True)
        return f(params, x[parts[comm.rank]], target[parts[comm.rank]])

    for got, theirs, _ in on_ranks(3, work):
        np.testing.assert_allclose(got, value, rtol=1e-13)
        np.testing.assert_allclose(theirs["weight"], grads["weight"], rtol=1e-12)


def test_parameters_that_layers_share_and_frozen_ones():
    shared = fc.compose(fc.repeat(fc.linear(4), 3, shared=True), fc.relu(), fc.linear(3))
    x, target = fc.random.normal(fc.random.key(5), (8, 4)).astype(np.float64), np.ones((8, 3))
    params = shared.init(fc.random.key(0), x.shape, np.float64)
    for trainable in (None, "2.*"):
        _, grads, _ = fc.value_and_grad(shared, fc.mse_loss(), trainable=trainable)(params, x, target)
        f = distributed.value_and_grad(shared, fc.mse_loss(), ALONE, 4, trainable=trainable, bucket_bytes=100)
        for _ in range(3):  # from the second call on gradients are taken while the backward pass runs
            _, theirs, _ = f(params, x, target)
            for _, _p, a, b in fc.trees.aligned(params, grads, theirs):
                assert (a is None) == (b is None)
        for _, _p, a, b in fc.trees.aligned(params, grads, theirs):
            if a is not None:
                np.testing.assert_allclose(b, a, rtol=1e-12)


def test_buckets_are_sent_while_earlier_layers_compute():
    events = []

    def noted(layer, name):
        def vjp(params, x, g, **options):
            events.append(name)
            return layer.vjp(params, x, g, **options)

        return SimpleNamespace(
            init=layer.init, apply=layer.apply, vjp=vjp, out_shape=layer.out_shape, name=name
        )

    net = fc.compose(*(noted(fc.linear(16), f"layer {i}") for i in range(4)))
    x = np.ones((4, 16), np.float32)
    params = net.init(fc.random.key(0), x.shape)
    comm = distributed.Communicator()
    f = distributed.value_and_grad(net, fc.mse_loss(), comm, bucket_bytes=1)
    call = comm.world.call
    comm.world.call = lambda work: (events.append("send"), call(work))[1]
    f(params, x, x)
    events.clear()
    f(params, x, x)
    backwards = [event for event in events if event != "send"][-4:]
    assert backwards == ["layer 3", "layer 2", "layer 1", "layer 0"]
    at = events.index("layer 2")
    assert events[at - 2 : at] == ["send", "send"]  # the weight and the bias of layer 3 are on their way
    assert events.count("send") == 9  # and the loss


def test_rows_depend_on_the_epoch_and_not_on_the_ranks():
    key = fc.random.key(4)
    whole = [list(distributed.rows(53, batch_size=16, key=key, epoch=e, rank=0, size=1)) for e in range(2)]
    assert sorted(np.concatenate(whole[0]).tolist()) == list(range(53))
    assert whole[0][0].tolist() != whole[1][0].tolist()
    for size in (2, 5):
        parts = [
            list(distributed.rows(53, batch_size=16, key=key, epoch=1, rank=r, size=size))
            for r in range(size)
        ]
        assert [np.concatenate(each).tolist() for each in zip(*parts, strict=True)] == [
            each.tolist() for each in whole[1]
        ]
    (last,) = distributed.rows(53, batch_size=16, key=key, epoch=1, rank=0, size=1, start=3)
    assert last.tolist() == whole[1][3].tolist()


def test_fit_gives_the_same_on_any_number_of_ranks(tmp_path):
    x, target = runs.data(np.float32)
    net = runs.network("all")

    def work(comm, epochs=3, folder="run"):
        state, history = fc.fit(
            net, fc.cross_entropy_loss(), fc.adam(1e-2), (x, target), (x[:20], target[:20]), epochs=epochs,
            key=fc.random.key(0), batch_size=16, metrics=[fc.metrics.accuracy], progress=False, comm=comm,
            shards=4, checkpoint=tmp_path / folder, stop_early=5,
        )  # fmt: skip
        return runs.digest(state, []), history

    expected = work(ALONE, folder="alone")
    # The run goes on from its checkpoint with another number of ranks.
    on_ranks(2, lambda comm: work(comm, 1))
    on_ranks(1, lambda comm: work(comm, 2))
    assert on_ranks(4, work) == [expected] * 4
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {path.name for path in (tmp_path / "alone").iterdir()}
    for name in names - {".fconv-lock"}:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_damaged_checkpoint_is_told_to_every_rank(tmp_path):
    (tmp_path / "step-00000004.safetensors").write_bytes(b"nothing of use")

    def work(comm):
        with pytest.warns(RuntimeWarning) if comm.rank == 0 else pytest.MonkeyPatch().context():
            return distributed.SharedCheckpointer(fc.Checkpointer(tmp_path), comm).latest()

    with pytest.raises(ValueError, match=r"none of the 1 checkpoints in .* is whole"):
        on_ranks(2, work)


# Bad input


def refused(message, net=None, loss=None, comm=ALONE, size=0, count=8, **options):
    net = fc.linear(2) if net is None else net
    x = np.ones((count, 3), np.float32)
    params = fc.linear(2).init(fc.random.key(0), (8, 3))

    def work(comm):
        f = distributed.value_and_grad(net, fc.mse_loss() if loss is None else loss, comm, **options)
        f(params, x, np.ones((count, 2), np.float32))

    with pytest.raises((ValueError, TypeError), match=message):
        on_ranks(size, work) if size else work(comm)


def test_calls_that_do_not_fit_are_refused():
    refused(r"expected shards to be a multiple of the 3 ranks, got 8; write shards=9", size=3, shards=8)
    refused(
        r"at least as many examples as shards, 4, got a batch of 3 \(1, 2 by rank\)",
        size=2,
        shards=4,
        count=3,
    )
    refused(r"at least as many examples as shards, 5, got a batch of 3", size=5, count=3)
    refused(r"expected a Communicator, got None; write comm = communicator\(\)", comm=None)
    refused(r"distributed.value_and_grad: expected a layer", net=3)
    refused(r"distributed.value_and_grad: expected a loss", loss=3)
    refused(r"shards", shards=0)
    data = (np.ones((10, 3), np.float32), np.ones((10, 1), np.float32))
    with pytest.raises(ValueError, match=r"fit: .*as shards, 4, got one of 2 \(10 examples"):
        fc.fit(
            fc.linear(1), fc.mse_loss(), fc.sgd(0.1), data, epochs=1, key=fc.random.key(0), batch_size=8,
            comm=ALONE, shards=4,
        )  # fmt: skip
    with pytest.raises(ValueError, match="expected a rank below 2, got 2"):
        distributed.rows(10, batch_size=8, key=None, epoch=0, rank=2, size=2)
    with pytest.raises(ValueError, match=r"as ranks, 3, got one of 2"):
        distributed.rows(10, batch_size=8, key=None, epoch=0, rank=2, size=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"width": 5},
            r"ranks 0 and 1 differ in the network: linear\(out_features=4\) and lin",
        ),
        ({"loss": fc.l1_loss()}, r"differ in the loss: mse_loss\(\) and l1_loss\(\)"),
        ({"dtype": np.float64}, r"differ in the parameters: .*float32.* and .*float64"),
        ({"count": 6}, r"differ in the shapes of the batch: .*\(8, 3\).* and .*\(6, 3\)"),
        ({"key": 1}, r"differ in the key \(the seed of the run\): \[.*\] and \[.*\]"),
        ({"seed": 1}, r"differ in the values of weight: \w{16} and \w{16}"),
        ({"batch": 2.0}, r"differ in the values of the batch, 0,: \w{16} and \w{16}"),
    ],
)
def test_ranks_that_differ_are_named(change, message):
    def work(comm):
        given = change if comm.rank == 1 else {}
        dtype, width = given.get("dtype", np.float32), given.get("width", 4)
        net = fc.linear(width)
        x = np.full((given.get("count", 8), 3), given.get("batch", 1.0), dtype)
        params = net.init(fc.random.key(given.get("seed", 0)), x.shape, dtype)
        f = distributed.value_and_grad(net, given.get("loss", fc.mse_loss()), comm)
        f(params, x, np.zeros((len(x), width), dtype), key=fc.random.key(given.get("key", 0)))

    with pytest.raises(ValueError, match=message):
        on_ranks(3, work)


def test_parameters_that_drift_apart_stop_the_run():
    net = fc.compose(fc.linear(3), fc.linear(2))

    def work(comm):
        x = np.ones((4, 3), np.float32)
        params = net.init(fc.random.key(0), x.shape)
        f = distributed.value_and_grad(net, fc.mse_loss(), comm, check_every=4)
        for step in range(8):
            if comm.rank == 1 and step == 2:  # as a fault in memory might
                params[1]["bias"].view(np.int32)[0] ^= 1
            f(params, x, np.ones((4, 2), np.float32))

    with pytest.raises(ValueError, match=r"after 4 steps the parameters of ranks 0 and 1 differ: 1\.bias; "):
        on_ranks(2, work)
