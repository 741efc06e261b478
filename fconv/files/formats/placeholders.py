"""Objects in PyTorch's files that are neither arrays nor plain values: shown, never made."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

__all__ = ["Placeholder"]


class Placeholder:
    """Stand for an object in a file: its class and what it would be made of, and nothing else.

    `fconv.load` gives one for each object that is neither an array nor a plain value, such as an
    argparse.Namespace that was saved beside the weights. The class or function is not looked up,
    imported or called.

    Attributes
    ----------
    name : str
        Dotted name of the class or function, as the file has it. ``(...)`` follows where the file
        calls what a call returned; that is then the first argument.
    arguments : tuple or None
        What it would be called with; None where the file only names it.
    items : dict, list or None
        What it would be filled with, such as the entries of a dict's subclass.
    state : object
        What its attributes would be set from; None without.

    Examples
    --------
    >>> Placeholder("argparse.Namespace", (), state={"lr": 0.1})
    Placeholder('argparse.Namespace', arguments=(), state={'lr': 0.1})
    """

    __slots__ = ("arguments", "items", "name", "state")

    def __init__(
        self,
        name: str,
        arguments: tuple[Any, ...] | None = None,
        items: dict[Any, Any] | list[Any] | None = None,
        state: Any = None,
    ) -> None:
        self.name, self.arguments, self.items, self.state = name, arguments, items, state

    def __repr__(self) -> str:
        return _SHORT.repr(self)


class _Short(Repr):
    """Bounded text, in which nothing unprintable is left: a placeholder may hold itself."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80

    def repr_Placeholder(self, x: Placeholder, level: int) -> str:  # noqa: N802  # reprlib's way to find it
        parts = [self.repr_str(x.name, level)]
        for what in ("arguments", "items", "state"):
            held = getattr(x, what)
            if held is not None:
                parts.append(f"{what}={self.repr1(held, level - 1) if level > 0 else '...'}")
        return f"Placeholder({', '.join(parts)})"


_SHORT = _Short()
