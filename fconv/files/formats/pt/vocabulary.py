"""The names that PyTorch's files may mention, and what each stands for here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from reprlib import repr as shortened
from typing import Any

from fconv.files.formats.placeholders import Placeholder
from fconv.files.formats.pt.machine import ForeignError
from fconv.files.formats.pt.storages import KINDS, STORAGES, Kind, Storage, Tensor


class StorageClass(str):
    """The name of a class of storages."""


VALUES: dict[str, Any] = {
    **{f"torch.{name}": StorageClass(name) for name in STORAGES},
    "torch.storage.UntypedStorage": StorageClass("UntypedStorage"),
    **{f"torch.cuda.{name}": StorageClass(name) for name in STORAGES},
    **{f"torch.{name}": f"torch.{name}" for name in KINDS},
    "torch.strided": "torch.strided",
    "torch.contiguous_format": "torch.contiguous_format",
    "torch.channels_last": "torch.channels_last",
    "torch.preserve_format": "torch.preserve_format",
}
"""Names that are not called. A dtype is its own name as text."""


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    _known(storage)
    _expect(isinstance(storage, Storage) and not storage.untyped, "a tensor of a storage without a dtype")
    return _window(storage, storage.kind, offset, size, stride, metadata)


def _tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    _known(storage)
    _expect(isinstance(storage, Storage), "a tensor without a storage")
    return _window(storage, _kind(dtype), offset, size, stride, metadata)


def _window(storage: Any, kind: Kind, offset: Any, size: Any, stride: Any, metadata: Any) -> Tensor:
    marks = metadata or {}
    _expect(isinstance(size, tuple) and isinstance(stride, tuple), "a tensor whose shape is no tuple")
    _expect(isinstance(marks, dict) and len(marks) <= 100, "a tensor whose metadata are no small dict")
    unknown = sorted(str(mark) for mark, held in marks.items() if held and mark not in ("conj", "neg"))
    _expect(not unknown, f"a tensor marked {', '.join(unknown)}")
    conjugated, negated = bool(marks.get("conj")), bool(marks.get("neg"))
    return Tensor(storage, kind, offset, size, stride, conjugated, negated)


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Tensor:
    _known(data)
    _expect(isinstance(data, Tensor), "a parameter without a tensor")
    return data


def _of_type(function: Any, kind: Any, arguments: Any, state: Any = None) -> Tensor:
    _known(function)
    full = getattr(function, "full", None)
    _expect(full in REBUILDS and isinstance(arguments, tuple), "a tensor made in an unknown way")
    _known(kind)
    _expect(getattr(kind, "full", None) in _TENSOR_CLASSES, f"a tensor of class {shortened(kind)}")
    return REBUILDS[str(full)](*arguments)


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    _expect(isinstance(items, (list, tuple)), "an OrderedDict of what is no list")
    _expect(all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items), "an odd OrderedDict")
    _plain((key for key, _ in items), "an OrderedDict with odd keys")
    return dict(items)


def _default_dict(factory: Any = None, items: Any = None) -> dict[Any, Any]:
    _expect(isinstance(items or {}, dict), "a defaultdict of what is no dict")
    return dict(items or {})


def _counter(counts: Any = None) -> dict[Any, Any]:
    _expect(isinstance(counts or {}, dict), "a Counter of what is no dict")
    return dict(counts or {})


def _set(items: Any = ()) -> set[Any]:
    _expect(isinstance(items, list), "a set of what is no list")
    _plain(items, "a set of odd values")
    return set(items)


def _size(sizes: Any = ()) -> tuple[int, ...]:
    _expect(isinstance(sizes, (list, tuple)) and all(type(n) is int for n in sizes), "an odd torch.Size")
    return tuple(sizes)


def _device(kind: Any, index: Any = None) -> str:
    _expect(isinstance(kind, str) and (index is None or type(index) is int), "an odd device")
    return kind if index is None else f"{kind}:{index}"


def _encode(text: Any, encoding: Any) -> bytes:
    _expect(isinstance(text, str) and encoding in ("latin1", "utf-8"), "bytes in an odd encoding")
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"its pickle holds bytes that are none: {error}") from None


def _bytes(data: Any = b"") -> bytes:
    _expect(isinstance(data, bytes), "bytes of what is none")
    return data


def _complex(real: Any, imaginary: Any) -> complex:
    _expect(type(real) is float and type(imaginary) is float, "an odd complex number")
    return complex(real, imaginary)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"its pickle holds {what}")


def _known(x: Any) -> None:
    """Require that something is not foreign."""
    if isinstance(x, Placeholder):
        raise ForeignError(f"its pickle makes a tensor of {x.name[:200]!r}")


def _plain(keys: Iterable[Any], what: str) -> None:
    """Require keys that hash without surprises: collisions made on purpose take hours."""
    for key in keys:
        _expect(not isinstance(key, int) or -(1 << 63) <= key < 1 << 64, what)
        if key is not None and not isinstance(key, (str, int, bytes)):
            raise ForeignError(f"its pickle holds {what}")


def _kind(dtype: Any) -> Kind:
    _expect(isinstance(dtype, str) and dtype.removeprefix("torch.") in KINDS, f"the dtype {shortened(dtype)}")
    return KINDS[dtype.removeprefix("torch.")]


def _layout(name: Any) -> str:
    _expect(isinstance(name, str), "an odd layout")
    return str(name)


def _class_only(*arguments: Any) -> Any:
    raise ValueError("its pickle holds a tensor made by its class, without a storage")


REBUILDS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_TENSOR_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
CALLS: dict[str, Callable[..., Any]] = {
    **REBUILDS,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    **dict.fromkeys(_TENSOR_CLASSES, _class_only),
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _counter,
    "collections.defaultdict": _default_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "__builtin__.bytes": _bytes,
    "__builtin__.bytearray": _bytes,
    "builtins.complex": _complex,
    "__builtin__.complex": _complex,
    "_codecs.encode": _encode,
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
}
"""Names that may be called."""


def storage_of(identifier: Any, known: dict[str, Storage]) -> Storage | Placeholder:
    """Read a persistent id: ("storage", class, key, location, count), and in older files a view of it.

    A class of storages that is foreign, such as those of quantized tensors, stays a placeholder,
    and so does the class of a module, which older files keep with its source.
    """
    if isinstance(identifier, tuple) and len(identifier) > 1 and isinstance(identifier[1], Placeholder):
        return identifier[1] if identifier[0] == "module" else Placeholder(identifier[1].name, identifier)
    _expect(isinstance(identifier, tuple) and len(identifier) in (5, 6), "an odd persistent id")
    what, kind, key, _, count = identifier[:5]
    _expect(what == "storage", f"a persistent id of {shortened(what)}, not of a storage")
    _expect(isinstance(kind, StorageClass), f"a storage of class {shortened(kind)}")
    _expect(isinstance(key, str) and type(count) is int and count >= 0, "an odd storage")
    storage = Storage(key, KINDS[STORAGES[kind]], count, kind == "UntypedStorage")
    seen = known.setdefault(key, storage)
    _expect(seen.nbytes == storage.nbytes, f"two sizes for the storage {shortened(key)}")
    _expect(
        seen.kind is storage.kind and seen.untyped == storage.untyped,
        f"two dtypes for the storage {shortened(key)}",
    )
    view = identifier[5] if len(identifier) == 6 else None
    if view is None:
        return seen
    _expect(isinstance(view, tuple) and len(view) == 3, "an odd view of a storage")
    name, start, length = view
    _expect(
        type(start) is int and type(length) is int and start >= 0 and length >= 0, "an odd view of a storage"
    )
    _expect(start + length <= count, f"a view of the storage {shortened(key)} that reaches beyond it")
    return Storage(str(name), seen.kind, length, seen.untyped, root=seen, start=start)
