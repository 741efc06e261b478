"""Exchanges of GPU arrays by NCCL, through cupyx.distributed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fconv.arrays import Array


class NcclExchange:
    """Sends and receives between GPUs, one a rank, on a stream of its own."""

    def __init__(self, rank: int, size: int) -> None:
        import cupy
        from cupy.cuda import nccl
        from cupyx.distributed import NCCLBackend

        self.rank, self.size = rank, size
        self._nccl, self._stream = nccl, cupy.cuda.Stream(non_blocking=True)
        self._backend: Any = NCCLBackend(size, rank, use_mpi=True)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute and exchange on the stream of the exchange, and wait for its end."""
        with self._stream:
            yield
        self._stream.synchronize()

    def sendrecv(self, out: Array | None, to: int, into: Array | None, source: int) -> None:
        """Send one contiguous array and receive another."""
        self._nccl.groupStart()
        if out is not None and out.size:
            self._backend.send(out, to)
        if into is not None and into.size:
            self._backend.recv(into, source)
        self._nccl.groupEnd()

    def sum(self, x: Array) -> None:
        """Sum over the ranks as NCCL likes, in place."""
        self._backend.all_reduce(x, x)
