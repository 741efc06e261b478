"""Compare what all ranks must have in common, at the start and now and then."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fconv import trees
from fconv.arrays import Array, asnumpy, is_array
from fconv.distributed.communication import Communicator
from fconv.version import __version__


def digests(tree: Any) -> dict[str, str]:
    """Return a digest of every leaf's bytes by its dotted name.

    Examples
    --------
    >>> digests({"weight": np.zeros(2)}) == digests({"weight": np.zeros(2)})
    True
    """
    found = {}
    for path, leaf in trees.leaves_with_path(tree):
        data = asnumpy(leaf).tobytes() if is_array(leaf) else repr(leaf).encode()
        found[".".join(path)] = hashlib.blake2b(data, digest_size=8).hexdigest()
    return found


def _shapes(tree: Any) -> str:
    leaves = trees.leaves_with_path(tree)
    return ", ".join(
        f"{'.'.join(path)} {tuple(a.shape)} {a.dtype}" if is_array(a) else f"{'.'.join(path)} {a!r}"
        for path, a in leaves
    )


def check_start(
    comm: Communicator,
    net: Any,
    loss: Any,
    params: Any,
    batch: Any,
    key: Array | None,
    options: Mapping[str, Any],
) -> None:
    """Require that all ranks train the same network of the same parameters by the same means.

    Raises
    ------
    ValueError
        Two ranks differ: both are named, and what each has.
    """
    x, target = batch
    facts = {
        "the version of fconv": __version__,
        "the version of NumPy": np.__version__,
        "the version of Python": platform.python_version(),
        **{name: str(value) for name, value in options.items()},
        "the network": re.sub(r"0x[0-9a-f]+", "0x", repr(net)),
        "the loss": re.sub(r"0x[0-9a-f]+", "0x", repr(loss)),
        "the parameters": _shapes(params),
    }
    if options.get("sharded"):  # of which each has its own
        samples = trees.map(lambda a: a[:0], (x, target))
        facts["the shapes of the batch's examples"] = _shapes(samples)
    else:
        facts["the shapes of the batch"] = _shapes((x, target))
    facts["the key (the seed of the run)"] = "None" if key is None else str(key.tolist())
    facts |= {f"the values of {name}": found for name, found in digests(params).items()}
    if not options.get("sharded"):
        facts |= {f"the values of the batch, {name},": v for name, v in digests(batch).items()}
    everyone = [json.loads(each) for each in comm.gather_bytes(json.dumps(facts).encode())]
    for rank, other in enumerate(everyone):
        for what, mine in everyone[0].items():
            theirs = other.get(what, "nothing of the kind")
            if theirs != mine:
                a, b = _apart(mine, theirs)
                raise ValueError(
                    f"distributed.value_and_grad: ranks 0 and {rank} differ in {what}: {a} and {b}; "
                    f"all ranks run the same script with the same seed"
                )


def _apart(a: str, b: str) -> tuple[str, str]:
    """Return the first lines, or entries, in which two texts differ."""
    split = "\n" if "\n" in a + b else ", " if len(a + b) > 160 else None
    first, second = (text.split(split) if split else [text] for text in (a, b))
    width = max(len(first), len(second))
    rows = zip(first + [""] * (width - len(first)), second + [""] * (width - len(second)), strict=True)
    one, two = next((m, n) for m, n in rows if m != n)
    return one.strip()[:160] or "nothing", two.strip()[:160] or "nothing"


def check_parameters(comm: Communicator, params: Any, when: str) -> None:
    """Require that the parameters of all ranks are the same bits.

    Raises
    ------
    ValueError
        They are not: the ranks and the arrays are named.
    """
    found = digests(params)
    everyone = [json.loads(each) for each in comm.gather_bytes(json.dumps(found).encode())]
    for rank, other in enumerate(everyone):
        wrong = [name for name in {**everyone[0], **other} if everyone[0].get(name) != other.get(name)]
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ValueError(
                f"distributed.value_and_grad: {when} the parameters of ranks 0 and {rank} differ: "
                f"{', '.join(wrong[:5])}{more}; each rank must take the same steps, on sound hardware"
            )
