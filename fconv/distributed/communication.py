"""A communicator of few functions, over one process, MPI, or anything else that can send and receive."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import Future
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from fconv.arrays import Array, asnumpy, library_of, xp_of
from fconv.distributed.launching import announce
from fconv.distributed.tree import Node, add_into_left, climb, tree_sum
from fconv.distributed.world import LostRankError, OneProcess, World
from fconv.engine.threads import set_num_threads
from fconv.options import number

T = TypeVar("T")

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Environment variables with the number of processes: of MPICH's mpiexec, Open MPI's and srun."""


def result_of(future: Future[T]) -> T:
    """Wait for a communication; the traceback of one that failed is that of who waits."""
    try:
        return future.result()
    except LostRankError as error:
        message = str(error)
    raise LostRankError(message)


class Communicator:
    """The processes that train together; each calls every method, in the same order.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        How many there are.

    Examples
    --------
    >>> comm = Communicator()
    >>> comm.rank, comm.size, comm.all_reduce(np.ones(2))
    (0, 1, array([1., 1.]))
    """

    def __init__(self, world: World | None = None) -> None:
        self.world: World = OneProcess() if world is None else world
        self.rank, self.size = self.world.rank, self.world.size

    def __repr__(self) -> str:
        return f"Communicator(rank={self.rank}, size={self.size})"

    def all_reduce(self, x: Array, *, exact: bool = True) -> Array:
        """Return the sum of the ranks' arrays, on every rank.

        Parameters
        ----------
        x : array
            Of one shape and dtype on all ranks.
        exact : bool
            Add along one binary tree over the ranks, always in the same order. Otherwise MPI chooses.

        Returns
        -------
        array
            A new one.
        """
        flat = x.reshape(-1).copy()
        total = result_of(self.start_sum({(0, self.rank): flat}, self.size, exact=exact))
        return total.reshape(x.shape)

    def start_sum(
        self, nodes: Mapping[Node, Array], shards: int, scratch: Array | None = None, *, exact: bool = True
    ) -> Future[Array]:
        """Begin the sum of `tree.tree_sum`; GPU arrays go by NCCL where it is there."""
        nodes = climb(nodes, shards, add_into_left)
        first = next(iter(nodes.values()))
        if library_of(first) == "cupy":  # another thread sends what this one's stream has computed
            xp_of(first).cuda.get_current_stream().synchronize()

        def work() -> Array:
            on_gpu = not isinstance(first, np.ndarray)
            carrier = self.world.on_device(first) if on_gpu else self.world
            given, spare = nodes, scratch
            if carrier is None:  # through the host's memory
                carrier, spare = self.world, None
                given = {node: asnumpy(x) for node, x in nodes.items()}
            with carrier.computing():
                if exact:
                    like = next(iter(given.values()))
                    room = xp_of(like).empty_like(like) if spare is None else spare
                    total = tree_sum(carrier, given, shards, room)
                else:
                    total = reduce(add_into_left, given.values())
                    carrier.sum(total)
            return xp_of(first).asarray(total) if on_gpu else total

        return self.world.call(work)

    def shard_sum(self, nodes: Mapping[Node, Array], shards: int) -> Array:
        """Return the sum of small arrays, one for each of this rank's shards, over all shards."""
        return result_of(self.start_sum({node: x.copy() for node, x in nodes.items()}, shards))

    def gather(self, x: Any) -> list[Array]:
        """Return the arrays of all ranks, by rank; shapes and dtypes may differ.

        They are NumPy arrays on every rank.
        """
        x = np.asarray(asnumpy(x))
        head = json.dumps([x.dtype.str, x.shape]).encode()
        heads = self.gather_bytes(head)
        found = []
        for about, raw in zip(heads, self.gather_bytes(x.tobytes()), strict=True):
            dtype, shape = json.loads(about)
            found.append(np.frombuffer(bytearray(raw), np.dtype(dtype)).reshape(shape))
        return found

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """Return the bytes of all ranks, by rank; they are passed around in a ring."""

        def work() -> list[bytes]:
            rank, size = self.rank, self.size
            after, before = (rank + 1) % size, (rank - 1) % size
            lengths = np.zeros(size, np.int64)
            lengths[rank] = len(data)
            blocks: dict[int, Array] = {rank: np.frombuffer(bytearray(data), np.uint8)}
            for k in range(size - 1):
                out, into = (rank - k) % size, (rank - k - 1) % size
                self.world.sendrecv(lengths[out : out + 1], after, lengths[into : into + 1], before)
                blocks[into] = np.empty(int(lengths[into]), np.uint8)
                self.world.sendrecv(blocks[out], after, blocks[into], before)
            return [blocks[r].tobytes() for r in range(size)]

        return result_of(self.world.call(work))

    def broadcast(self, x: Any, root: int = 0) -> Array:
        """Return the array of one rank on every rank, as a NumPy array; what the others give is not read."""
        x = np.asarray(asnumpy(x)) if self.rank == root else np.zeros(0)
        head = json.dumps([x.dtype.str, x.shape]).encode()
        dtype, shape = json.loads(self.broadcast_bytes(head, root))
        raw = self.broadcast_bytes(x.tobytes(), root)
        return np.frombuffer(bytearray(raw), np.dtype(dtype)).reshape(shape)

    def broadcast_bytes(self, data: bytes, root: int = 0) -> bytes:
        """Return the bytes of one rank on every rank, along a binary tree."""
        place = (self.rank - root) % self.size

        def sent(block: Array) -> None:
            distance = 1
            while distance < self.size:
                other = (self.rank + (distance if place < distance else -distance)) % self.size
                if place < distance and place + distance < self.size:
                    self.world.sendrecv(block, other, None, other)
                elif distance <= place < 2 * distance:
                    self.world.sendrecv(None, other, block, other)
                distance *= 2

        def work() -> bytes:
            length = np.array([len(data)], np.int64)
            sent(length)
            block = np.frombuffer(bytearray(data), np.uint8) if place == 0 else np.empty(length[0], np.uint8)
            sent(block)
            return block.tobytes()

        return result_of(self.world.call(work))

    def barrier(self) -> None:
        """Wait until every rank has called this."""
        self.gather_bytes(b"")


_known: list[Communicator] = []


def communicator(*, timeout: float | None = None) -> Communicator:
    """Return the communicator of the processes that mpiexec or srun has started, or of this one alone.

    Every call returns the same one. Under mpiexec the ranks of one machine share its processors: where
    FCONV_NUM_THREADS is not set, each uses its share of them, one thread per processor.

    Parameters
    ----------
    timeout : float, optional
        Seconds that a rank waits for another before it ends the job and names the one that hangs. By
        default what FCONV_DISTRIBUTED_TIMEOUT says, or 300.

    Returns
    -------
    Communicator
        Of one process where neither mpiexec nor srun started it.

    Raises
    ------
    ImportError
        mpiexec started several processes, and mpi4py or its MPI is missing.
    ValueError
        The mpiexec is of another MPI than mpi4py's.

    Examples
    --------
    >>> communicator().size
    1
    """
    if timeout is not None:
        number("communicator", "timeout", timeout, 0, above=True)
    if not _known:
        told = [os.environ.get(name, "") for name in _SIZES]
        started = max((int(count) for count in told if count.isdigit()), default=1)
        _known.append(Communicator(_mpi_world(started) if started > 1 or "PMIX_RANK" in os.environ else None))
    found = _known[0]
    if timeout is not None or found.size > 1:
        limit = timeout if timeout is not None else float(os.environ.get("FCONV_DISTRIBUTED_TIMEOUT", 300))
        found.world.timeout = limit  # type: ignore[attr-defined]
    return found


def _mpi_world(started: int) -> World:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"communicator: this is one of {started} processes that mpiexec started, and mpi4py cannot be "
            f"imported ({error}); pip install 'fconv-nn[mpi]'"
        ) from None
    seen = MPI.COMM_WORLD.size
    if seen == 1 and started > 1:
        library = MPI.Get_library_version().split("\n")[0].strip()
        raise ValueError(
            f"communicator: mpiexec started {started} processes, but the MPI of mpi4py ({library}) sees one: "
            f"they are of different kinds; use the mpiexec that belongs to mpi4py's MPI (of the package "
            f"mpich: python -m fconv launch -n {started} ...), or install mpi4py for the other"
        )
    from fconv.distributed.mpi import MpiWorld

    world = MpiWorld(MPI)
    announce(world.rank)
    if "FCONV_NUM_THREADS" not in os.environ:
        set_num_threads(_threads_of_a_rank(Communicator(world)))
    return world


def _threads_of_a_rank(comm: Communicator) -> int:
    """Divide the processors among the ranks that may run on the same ones."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [os.cpu_count() or 1]
    here = json.dumps([os.uname().nodename if hasattr(os, "uname") else "", allowed]).encode()
    sharing = comm.gather_bytes(here).count(here)
    count = len(allowed) if hasattr(os, "sched_getaffinity") else allowed[0]
    return max(1, count // sharing)
