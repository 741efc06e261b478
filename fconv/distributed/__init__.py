"""Data-parallel training: the same bits on any number of ranks."""

from fconv.distributed.communication import Communicator, communicator
from fconv.distributed.gradients import value_and_grad
from fconv.distributed.launching import restarts
from fconv.distributed.sampling import rows
from fconv.distributed.saving import SharedCheckpointer
from fconv.distributed.sync import sync_batch_norm
from fconv.distributed.world import LostRankError

__all__ = [
    "Communicator",
    "LostRankError",
    "SharedCheckpointer",
    "communicator",
    "restarts",
    "rows",
    "sync_batch_norm",
    "value_and_grad",
]
