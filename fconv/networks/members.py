"""The layers that a network is made of: their names, places, parameters and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fconv import random
from fconv.arrays import Array, describe, is_array
from fconv.layer import Layer, Params, as_layer


class Members:
    """Layers with names, whose parameters stand side by side in a tuple, or in a dict where `by_name` is set.

    `layers` are what `as_layer` takes, and `title` is the network's name in error messages. Names may hold
    `dots`, as those of layers deep inside a torch.nn.Module do.
    """

    def __init__(
        self, title: str, names: Sequence[str], layers: Sequence[Any], *, by_name: bool, dots: bool = False
    ) -> None:
        self.title, self.names, self.by_name, self._dots = title, tuple(names), by_name, dots
        if not dots and (dotted := [name for name in names if "." in name]):
            raise ValueError(
                f"{title}: a name holds no dot, got {dotted[0]!r}; dots divide the names in a state dict"
            )
        places = [f"{title}[{name}]" for name in names]
        self.layers = [as_layer(place, layer) for place, layer in zip(places, layers, strict=True)]
        self.steps: list[tuple[str, Layer]] = list(zip(places, self.layers, strict=True))
        self.draws = any(layer.draws for layer in self.layers)

    @property
    def children(self) -> dict[str, Layer]:
        """The layers by name."""
        return dict(zip(self.names, self.layers, strict=True))

    def mapped(self, f: Callable[[tuple[str, ...], Layer], Layer]) -> Members:
        """Return members of the same names with other layers, ``f((name,), layer)``."""
        layers = [f((name,), layer) for name, layer in zip(self.names, self.layers, strict=True)]
        return Members(self.title, self.names, layers, by_name=self.by_name, dots=self._dots)

    def pack(self, parts: Sequence[Params]) -> Params:
        """Put the parameters of each layer together."""
        return dict(zip(self.names, parts, strict=True)) if self.by_name else tuple(parts)

    def _came(self, params: Any) -> str:
        """Describe what was passed in the place of parameters."""
        if is_array(params):
            return f"{describe(params)}; the parameters come before x"
        if isinstance(params, (dict, tuple, list)):
            return describe(params)
        return f"{describe(params)}; write params = net.init(key, shape)"

    def unpack(self, params: Params) -> list[Params]:
        """List the parameters of each layer, or raise an error that names what differs."""
        title, names = self.title, self.names
        if self.by_name:
            if type(params) is not dict and not isinstance(params, Mapping):
                raise TypeError(
                    f"{title}: expected a dict of parameters for {', '.join(names)}, got {self._came(params)}"
                )
            if params.keys() != set(names):
                raise ValueError(
                    f"{title}: expected parameters for {', '.join(names)}, "
                    f"got {', '.join(map(str, params)) or 'none'}"
                )
            return [params[name] for name in names]
        if not isinstance(params, (tuple, list)):
            raise TypeError(
                f"{title}: expected a tuple of parameters for {len(names)} layers, got {self._came(params)}"
            )
        if len(params) != len(names):
            raise ValueError(f"{title}: expected parameters for {len(names)} layers, got {len(params)}")
        return list(params)

    def keys(self, train: bool, key: Array | None) -> Sequence[Array | None]:
        """Split the key of a call among the layers; outside training there is none to split."""
        if key is not None:
            random.check_key(self.title, key)
        return split_key(key if train and self.draws else None, len(self.layers))


def split_key(key: Array | None, count: int) -> Sequence[Array | None]:
    """Split a key among layers, if there is one that they have a use for."""
    return [None] * count if key is None else list(random.split(key, count))
