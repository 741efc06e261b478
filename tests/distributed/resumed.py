"""A script for `fconv launch`: a run of `fconv.fit` with a checkpoint each epoch; its end goes to a file.

``python resumed.py FOLDER [EPOCHS] [HOW]``: with HOW, rank 1 is lost once in the second epoch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import fconv as fc
from fconv import distributed
from tests.distributed import runs


def main():
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    how = sys.argv[3] if len(sys.argv) > 3 else None
    comm = distributed.communicator()
    x, target = runs.data(np.float32)

    def counted(y, truth):
        """A metric, which is a place to be lost in."""
        counted.calls += 1
        if how and comm.rank == 1 and counted.calls == 12 and not distributed.restarts():
            {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL), "hang": lambda: time.sleep(1000)}[how]()
        return 0.0

    counted.calls = 0
    state, history = fc.fit(
        runs.network("all"), fc.cross_entropy_loss(), fc.adam(1e-2), (x, target), (x[:20], target[:20]),
        epochs=epochs, key=fc.random.key(0), batch_size=16, comm=comm, shards=4, progress=False,
        metrics=[fc.metrics.accuracy, counted], checkpoint=folder / "run",
    )  # fmt: skip
    if comm.rank == 0:
        (folder / "end.json").write_text(json.dumps([runs.digest(state, []), history]))


if __name__ == "__main__":
    main()
