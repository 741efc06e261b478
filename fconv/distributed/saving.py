"""Checkpoints of a run of several ranks: the first one saves, and all get the same state."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np

from fconv.distributed.communication import Communicator
from fconv.files.checkpoint import load
from fconv.files.checkpointer import Checkpointer


class SharedCheckpointer(Checkpointer):
    """A `Checkpointer` of which every rank calls the methods, and rank 0 alone touches the folder.

    Parameters
    ----------
    saver : Checkpointer
        The checkpointer.
    comm : Communicator
        The ranks. No other rank needs to see the folder.

    Examples
    --------
    >>> run = SharedCheckpointer(Checkpointer(tempfile.mkdtemp()), Communicator())
    >>> path = run.save(3, {"weight": np.ones(2)})
    >>> run.latest()
    (3, {'weight': array([1., 1.])})
    """

    def __init__(self, saver: Checkpointer, comm: Communicator) -> None:
        self.__dict__.update(saver.__dict__)
        self._comm = comm

    def save(self, step: int, state: Any, metadata: Any = None, *, force: bool = False) -> str | None:
        """Save as `Checkpointer.save` does, on rank 0; the others go on at once."""
        return None if self._comm.rank else super().save(step, state, metadata, force=force)

    def latest(self) -> tuple[int, Any] | None:
        """Load the newest undamaged checkpoint on rank 0, and send it to the others."""
        found, data, trouble = None, b"", b""
        if self._comm.rank == 0:
            try:
                found = super().latest()
                if found is not None and self._comm.size > 1:
                    with open(self.path(found[0]), "rb") as file:
                        data = file.read()
            except (ValueError, OSError) as error:
                trouble = str(error).encode() or b"it cannot be read"
                if self._comm.size == 1:
                    raise
        if self._comm.size == 1:
            return found
        if problem := self._comm.broadcast_bytes(trouble):
            raise ValueError(problem.decode())
        step = int(self._comm.broadcast(np.array(-1 if found is None else found[0])))
        if step < 0:
            return None
        data = self._comm.broadcast_bytes(data)
        if self._comm.rank == 0:
            return found
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, os.path.basename(self.path(step)))
            with open(path, "wb") as file:
                file.write(data)
            return step, load(path, mmap=False)
