"""Names of our nodes, after those of initializers and of ONNX's nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fconv.networks.reading import Names


class Namer:
    """Return each node of ours a name, other than those of the file's inputs.

    A node with parameters is called as PyTorch calls the module that holds them, so that the
    parameters keep their names: the node of ``layer1.0.conv1.weight`` is ``layer1.0.conv1``.
    """

    def __init__(self, inputs: Iterable[str], initializers: Iterable[str]) -> None:
        self._names = Names(inputs)
        # A node without parameters must not take the name that one with parameters will need.
        self._reserved = {name.rpartition(".")[0] for name in initializers}

    def fresh(self, wanted: str) -> str:
        """Return the name, or one like it where it is taken."""
        return self._names.new(wanted)

    def name(self, proto: Any, layer: str, origins: Mapping[str, str | None], helper: bool) -> str:
        """Name the node of a layer, from the file's and from the initializer that each parameter comes from.

        With `helper`, another layer will bear the node's name.
        """
        for leaf, origin in origins.items():
            if origin and origin.endswith(f".{leaf}"):
                return self.fresh(origin[: -len(leaf) - 1])
        name = _cleaned(proto.name, proto.op_type) or next(iter(proto.output)) or layer
        if helper or (not origins and name in self._reserved):
            name = f"{name}.{layer}"
        return self.fresh(name)


def _cleaned(name: str, operator: str) -> str:
    """Turn a path such as ``/layer1/layer1.0/relu/Relu_1`` into ``layer1.0.relu``."""
    if not name.startswith("/"):
        return name
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1].partition("_")[0] == operator:
        parts.pop()
    kept: list[str] = []
    for part in parts:
        if kept and part.startswith(f"{kept[-1]}."):
            kept.pop()
        kept.append(part)
    return ".".join(kept)
