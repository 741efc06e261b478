"""A pickle read as data: opcode by opcode, building plain values, executing nothing.

Python's own unpickler calls whatever a pickle names. This one knows a table of names and what
value each stands for. Any other name becomes a `Placeholder`, or is refused as
``torch.load(weights_only=True)`` does. The opcodes are those of Python's pickletools module.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from reprlib import repr as shortened
from typing import Any, NamedTuple

from fconv.files.formats.claims import Budget
from fconv.files.formats.placeholders import Placeholder
from fconv.files.formats.pt.machine import DICT, ENTRY, NUMBER, OBJECT, SET, SLOT, TUPLE, Machine

_LONGEST_INTEGER = 255  # bytes
_DEEPEST = 100
_MOST_VALUES = 1_000_000  # in the tree that a pickle unfolds to, and two more for each of its bytes
_PROTOCOLS = range(2, 6)


class Unpickled(NamedTuple):
    """A value, and where in the data its pickle ends."""

    value: Any
    end: int


def unpickle(
    data: Any,
    start: int,
    calls: Mapping[str, Callable[..., Any]],
    values: Mapping[str, Any],
    persistent: Callable[[Any], Any],
    *,
    budget: Budget,
    strict: bool,
) -> Unpickled:
    """Read the pickle that begins at `start` of `data`, within a budget of memory.

    `calls` has what a name that is called returns, from its arguments (a function there raises ValueError for
    arguments that it does not expect, ForeignError for those that are not in the table), `values` what a name
    that is not called stands for, and `persistent` what a persistent id does. The value is made of dicts,
    lists, tuples, sets, numbers, text, bytes, None, placeholders, and what these three return. Names that
    are not in the tables are refused where `strict` is set, and become placeholders otherwise.

    Raises
    ------
    ValueError
        A name or opcode that is not allowed, or a pickle that is damaged or out of proportion.
    """
    machine = Machine(data, start, calls, values, persistent, budget, strict)
    try:
        value = _run(machine)
    except (IndexError, struct.error, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"its pickle is damaged at byte {machine.at}: {error}") from None
    except TypeError as error:
        raise ValueError(
            f"its pickle puts values where they cannot be, at byte {machine.at}: {error}"
        ) from None
    _check_proportions(value, _MOST_VALUES + 2 * (machine.at - start))
    return Unpickled(value, machine.at)


def _run(machine: Machine) -> Any:
    while True:
        if machine.at >= machine.size:
            raise ValueError(f"its pickle ends early, at byte {machine.at}")
        code = machine.data[machine.at]
        machine.at += 1
        if code == 0x2E:  # STOP
            if len(machine.stack) != 1 or machine.marks:
                count = len(machine.stack) + len(machine.marks)
                raise ValueError(f"its pickle ends with {count} values, expected one")
            return machine.stack[0]
        step = _OPCODES.get(code)
        if step is None:
            raise ValueError(f"its pickle holds the opcode {_opcode(code)}, which plain values do not need")
        machine.spend(step.cost)
        step.run(machine)


class _Opcode(NamedTuple):
    cost: int
    run: Callable[[Machine], None]


def _fixed(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.number(form))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.push(value)


def _empty(kind: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.push(kind())


def _text(form: str, encoding: str = "utf-8", errors: str = "surrogatepass") -> Callable[[Machine], None]:
    return lambda machine: machine.sized(machine.take(machine.number(form)).decode(encoding, errors))


def _bytes(form: str) -> Callable[[Machine], None]:
    return lambda machine: machine.sized(machine.take(machine.number(form)))


def _long(form: str) -> Callable[[Machine], None]:
    def run(machine: Machine) -> None:
        length = machine.number(form)
        if length > _LONGEST_INTEGER:
            raise ValueError(f"its pickle has an integer of {length} bytes")
        machine.sized(int.from_bytes(machine.take(length), "little", signed=True))

    return run


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def run(machine: Machine) -> None:
        machine.top(count)
        found = tuple(machine.stack[-count:])
        del machine.stack[-count:]
        machine.push(found)

    return run


def _tuple(machine: Machine) -> None:
    machine.sized(tuple(machine.marked()))


def _put(form: str | None) -> Callable[[Machine], None]:
    def run(machine: Machine) -> None:
        known = len(machine.memo)
        place = known + len(machine.scattered) if form is None else machine.number(form)
        value = machine.top()
        if place < known:
            machine.memo[place] = value
        elif place == known and not machine.scattered:
            machine.memo.append(value)
        else:
            machine.spend(2 * ENTRY)
            machine.scattered[place] = value

    return run


def _get(form: str) -> Callable[[Machine], None]:
    def run(machine: Machine) -> None:
        place = machine.number(form)
        if place < len(machine.memo):
            machine.push(machine.memo[place])
        elif place in machine.scattered:
            machine.push(machine.scattered[place])
        else:
            raise ValueError(f"its pickle asks for value {place}, which it never kept")

    return run


def _append(machine: Machine) -> None:
    machine.add(list, [machine.pop()])


def _appends(machine: Machine) -> None:
    machine.add(list, machine.marked())


def _set_items(machine: Machine, items: list[Any]) -> None:
    if len(items) % 2:
        raise ValueError("its pickle has a key without a value")
    machine.add(dict, {machine.key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})


def _set_item(machine: Machine) -> None:
    _set_items(machine, [machine.pop(), machine.pop()][::-1])


def _frozen_set(machine: Machine) -> None:
    machine.sized(frozenset(map(machine.key, machine.marked())))


def _global(machine: Machine) -> None:
    module = machine.line()
    machine.push(machine.named(module, machine.line()))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.named(module, name))


def _reduce(machine: Machine) -> None:
    arguments, called = machine.pop(), machine.pop()
    machine.push(machine.call(called, arguments))


def _new_with_keywords(machine: Machine) -> None:
    keywords, arguments, called = machine.pop(), machine.pop(), machine.pop()
    if keywords:
        machine.foreign(f"its pickle calls {shortened(called)} with keywords")
        if not isinstance(called, Placeholder) or not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls {shortened(called)} with keywords")
        arguments = (*arguments, keywords)
    machine.push(machine.call(called, arguments))


def _instance(machine: Machine) -> None:
    module = machine.line()
    called = machine.named(module, machine.line())
    machine.push(machine.call(called, tuple(machine.marked())))


def _object(machine: Machine) -> None:
    called, *arguments = machine.marked() or [None]
    machine.push(machine.call(called, tuple(arguments)))


def _build(machine: Machine) -> None:
    """Keep a placeholder's state, and pass over a dict's attributes, such as a state dict's _metadata."""
    state, into = machine.pop(), machine.top() if machine.stack else None
    if isinstance(into, Placeholder) and into.arguments is not None:
        into.state = state
    elif not isinstance(into, dict) or not isinstance(state, dict):
        found = type(into).__name__ if machine.stack else "nothing"
        raise ValueError(f"its pickle gives attributes to {found}; only an OrderedDict has any")


def _protocol(machine: Machine) -> None:
    if machine.number("<B") not in _PROTOCOLS:
        raise ValueError("its pickle is of a protocol other than 2 to 5")


_OPCODES = {code: _Opcode(cost, run) for code, cost, run in [
    (0x80, 0, _protocol),
    (0x95, 0, lambda machine: machine.take(8)),  # FRAME: how much to read at once, which means nothing here
    (0x28, SLOT, lambda machine: machine.marks.append(len(machine.stack))),
    (0x30, 0, lambda machine: machine.pop()),
    (0x4E, SLOT, _constant(None)), (0x88, SLOT, _constant(True)), (0x89, SLOT, _constant(False)),
    (0x4B, SLOT, _fixed("<B")), (0x4D, NUMBER, _fixed("<H")), (0x4A, NUMBER, _fixed("<i")),  # BININT
    (0x47, NUMBER, _fixed(">d")),  # BINFLOAT
    (0x8A, SLOT, _long("<B")), (0x8B, SLOT, _long("<i")),
    (0x58, SLOT, _text("<I")), (0x8C, SLOT, _text("<B")), (0x8D, SLOT, _text("<Q")),  # BINUNICODE
    (0x54, SLOT, _text("<i", "latin-1")), (0x55, SLOT, _text("<B", "latin-1")),  # BINSTRING of Python 2
    (0x42, SLOT, _bytes("<I")), (0x43, SLOT, _bytes("<B")), (0x8E, SLOT, _bytes("<Q")),  # BINBYTES
    (0x96, SLOT, _bytes("<Q")),  # BYTEARRAY8
    (0x7D, DICT, _empty(dict)), (0x5D, DICT, _empty(list)), (0x8F, SET, _empty(set)),
    (0x29, SLOT, _constant(())),
    (0x85, TUPLE, _tuple_of(1)), (0x86, TUPLE, _tuple_of(2)), (0x87, TUPLE, _tuple_of(3)),
    (0x74, SLOT, _tuple),
    (0x71, SLOT, _put("<B")), (0x72, SLOT, _put("<I")), (0x94, SLOT, _put(None)),  # BINPUT, MEMOIZE
    (0x68, SLOT, _get("<B")), (0x6A, SLOT, _get("<I")),  # BINGET
    (0x61, 0, _append), (0x65, 0, _appends),
    (0x73, 0, _set_item), (0x75, 0, lambda machine: _set_items(machine, machine.marked())),
    (0x90, 0, lambda machine: machine.add(set, list(map(machine.key, machine.marked())))),  # ADDITEMS
    (0x91, SLOT, _frozen_set),
    (0x63, SLOT, _global), (0x93, SLOT, _stack_global),
    (0x52, 0, _reduce), (0x81, 0, _reduce),  # REDUCE, NEWOBJ
    (0x92, 0, _new_with_keywords), (0x69, 0, _instance), (0x6F, 0, _object),  # NEWOBJ_EX, INST, OBJ
    (0x62, 0, _build),
    (0x51, OBJECT, lambda machine: machine.push(machine.persistent(machine.pop()))),  # BINPERSID
]}  # fmt: skip
"""By its byte, what each opcode costs at least, and what it does."""


def _check_proportions(value: Any, most: int) -> None:
    """Refuse what unfolds to far more than the file holds, what is nested deep, and what holds itself.

    A placeholder is an end of the tree; it may hold itself, and what is in it is walked once.
    """
    count, seen, pending = 0, set(), [value]

    def walk(x: Any, depth: int) -> None:
        nonlocal count
        if depth > _DEEPEST:
            raise ValueError(
                f"its pickle nests more than {_DEEPEST} deep, or holds a value that contains itself"
            )
        count += 1 + len(x)
        if count > most:
            raise ValueError(f"its pickle unfolds to more than {most:,} values")
        if type(x) is dict:
            x = (*x, *x.values())  # keys may be placeholders
        for child in x:
            if type(child) in _CONTAINERS:
                walk(child, depth + 1)
            elif type(child) is Placeholder and id(child) not in seen:
                seen.add(id(child))
                pending.append(child)

    while pending:
        x = pending.pop()
        walk(parts(x) if type(x) is Placeholder else (x,), 0)


_CONTAINERS = (dict, list, tuple, set, frozenset)


def parts(x: Placeholder) -> tuple[Any, ...]:
    """List what a placeholder holds."""
    return x.arguments, x.items, x.state


def _opcode(code: int) -> str:
    import pickletools

    names = {ord(each.code): each.name for each in pickletools.opcodes}
    return names.get(code, f"{code:#04x}")
