"""A stand-in for CuPy without a GPU: as strict as CuPy or stricter, over NumPy's arithmetic.

Its arrays refuse what CuPy's refuse (to become NumPy arrays unasked, to meet host arrays, names and
arguments that CuPy does not have), and more: any function of NumPy that is handed one. Every move
between host and device is counted, and every one that a kernel's result must be waited for.
"""

from __future__ import annotations

import gc
import json
import operator
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.special

from tests.device.raw_kernels import RawModule

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "cupy.json").read_text())
_METHODS = RECORDED["ndarray"]
_HOST_WORK = ("get", "item", "tolist")
_FROM_HOST = ("array", "asarray", "asanyarray", "ascontiguousarray")

waits: list[str] = []
"""Calls that made the host wait for the device, in order."""


class ndarray:  # noqa: N801 - as CuPy's
    """An array of the device."""

    __slots__ = ("_host",)
    __array_ufunc__ = None  # NumPy's operators and ufuncs raise a TypeError
    __hash__ = None

    def __init__(self, host):
        host = np.asarray(host)
        if host.base is None:
            POOL.take(host.nbytes)
        self._host = host

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, func, *args, **kwargs):
        raise TypeError(f"numpy.{func.__name__} was handed an array of the device")

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "version": 3}

    def __repr__(self):
        return f"standin({self._host!r})"

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return _wrapped(self._host[_index(index)])

    def __setitem__(self, index, value):
        self._host[_index(index)] = _unwrapped(value)

    def __bool__(self):
        return bool(_waited("__bool__", self._host))

    def __int__(self):
        return int(_waited("__int__", self._host))

    def __float__(self):
        return float(_waited("__float__", self._host))

    def __index__(self):
        return operator.index(_waited("__index__", self._host).item())

    def __getattr__(self, name):
        kept = _METHODS.get(name)
        if kept is None:
            raise AttributeError(f"CuPy's ndarray has no attribute {name!r}")
        if kept == "attribute":
            return _wrapped(getattr(self._host, name))
        if name in _HOST_WORK:
            host = _waited(name, self._host)
            return (lambda **_: host.copy()) if name == "get" else getattr(host, name)
        return _restricted(f"ndarray.{name}", getattr(self._host, name), kept)

    # Properties that are set as well as read.
    @property
    def shape(self):
        return self._host.shape

    @property
    def device(self):
        return _Device()


def _operator(name):
    host = getattr(operator, name, None)

    def call(self, other):
        return _wrapped(host(self._host, _unwrapped(other)))

    def reflected(self, other):
        return _wrapped(host(_unwrapped(other), self._host))

    def in_place(self, other):
        other = _unwrapped(other)
        if self._host.ndim == 0:  # Python would make a new one
            self._host[...] = host(self._host, other)
        else:
            getattr(operator, f"i{name.strip('_')}")(self._host, other)
        return self

    return call, reflected, in_place


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "matmul",
              "lshift", "rshift"):  # fmt: skip
    _stem = _name.strip("_")
    for _prefix, _method in zip(("", "r", "i"), _operator(_name), strict=True):
        if f"__{_prefix}{_stem}__" in _METHODS:
            setattr(ndarray, f"__{_prefix}{_stem}__", _method)
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _operator(_name)[0])
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", lambda self, name=_name: _wrapped(getattr(operator, name)(self._host)))
ndarray.__module__ = "cupy"
ndarray.__qualname__ = "ndarray"


def _waited(why, host):
    waits.append(why)
    return host


def _wrapped(result):
    if isinstance(result, (np.ndarray, np.bool_, np.number)):
        return ndarray(result)
    if isinstance(result, (tuple, list)) and any(isinstance(r, np.ndarray) for r in result):
        return type(result)(map(_wrapped, result))
    return result


def _unwrapped(value):
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: a host array of shape {value.shape}")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_unwrapped, value))
    return value


def _index(index):
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, ndarray) and part.dtype == bool for part in parts):
        waits.append("boolean index")
    return _unwrapped(index)


def _restricted(name, function, parameters):
    """Return NumPy's function with the arguments that CuPy's has, over arrays of the device."""
    named = [p for p in parameters or () if not p.startswith("*")]
    any_name = parameters is None or any(p.startswith("**") for p in parameters)
    any_count = parameters is None or any(p.startswith("*") and not p.startswith("**") for p in parameters)

    def call(*args, **kwargs):
        if not any_count and len(args) > len(named):
            raise TypeError(f"cupy.{name} takes {', '.join(named)}, got {len(args)} arguments")
        if not any_name and (unknown := sorted(kwargs.keys() - set(named))):
            raise TypeError(f"cupy.{name} has no argument {', '.join(unknown)}; it takes {', '.join(named)}")
        if name in ("nonzero", "flatnonzero", "argwhere", "unique", "array_equal", "allclose"):
            waits.append(name)
        given = args if name in _FROM_HOST else _unwrapped(args)
        if name in _FROM_HOST:
            given = (args[0]._host if isinstance(args[0], ndarray) else args[0], *args[1:])
        out = kwargs.get("out")
        result = function(*given, **{k: _unwrapped(v) for k, v in kwargs.items()})
        return out if isinstance(out, ndarray) else _wrapped(result)

    call.__name__ = name
    return call


class _Ufunc:
    """A ufunc of CuPy: no `where`, and fewer methods."""

    def __init__(self, name, host):
        self.__name__ = name
        self._call = _restricted(name, host, ["*args", "out", "dtype", "casting"])
        self._host = host

    def __call__(self, *args, **kwargs):
        return self._call(*args, **kwargs)

    def __getattr__(self, method):
        if method not in ("reduce", "accumulate", "reduceat", "at", "outer"):
            raise AttributeError(f"CuPy's ufuncs have no {method!r}")
        return _restricted(f"{self.__name__}.{method}", getattr(self._host, method), None)


class _Module(types.ModuleType):
    """A module of CuPy: the names that it has, with the arithmetic of the host's of the same name."""

    def __init__(self, name, host):
        super().__init__(name)
        self._names, self._of = RECORDED["modules"][name], host

    def __getattr__(self, name):
        if name.startswith("__") or name not in self._names:
            raise AttributeError(f"module {self.__name__!r} of CuPy 14 has no attribute {name!r}")
        kept, host = self._names[name], getattr(self._of, name)
        if kept == "ufunc":
            made = _Ufunc(name, host)
        elif kept == "other" or isinstance(host, type):
            made = host
        else:
            made = _restricted(name, host, kept)
        setattr(self, name, made)
        return made


class OutOfMemoryError(MemoryError):
    """Error that CuPy raises where the memory of the device runs out."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class _Pool:
    """The memory of the device: arrays that are made may take so many bytes each."""

    limit = None

    def __init__(self):
        self.kept = []  # arrays alive whenever unused memory was given back

    def set_limit(self, size=None):
        self.limit = size or None

    def used_bytes(self):
        return 0

    def free_all_blocks(self, stream=None):
        self.kept.append(living())

    def take(self, size):
        if self.limit is not None and size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: 0 bytes).")


POOL = _Pool()


def living():
    """Count the arrays that something still holds."""
    return sum(type(x) is ndarray for x in gc.get_objects())


def _named(module, **names):
    """Make a module's face of names that CuPy has too."""
    assert names.keys() <= RECORDED["modules"][module].keys()
    return types.SimpleNamespace(**names)


def modules():
    """Build the modules by their names in sys.modules."""
    cupy = _Module("cupy", np)
    cupy.ndarray, cupy.RawModule = ndarray, RawModule
    cupy.__version__ = RECORDED["version"]
    assert "get_default_memory_pool" in cupy._names
    cupy.get_default_memory_pool = lambda: POOL
    cupy.lib = types.SimpleNamespace(stride_tricks=_Module("cupy.lib.stride_tricks", np.lib.stride_tricks))
    cupy.linalg = _Module("cupy.linalg", np.linalg)
    special = _Module("cupyx.scipy.special", scipy.special)
    scipy_face = types.SimpleNamespace(special=special)
    cupyx = types.ModuleType("cupyx")
    cupyx.scipy = scipy_face
    runtime = _named(
        "cupy.cuda.runtime",
        getDeviceCount=lambda: 1,
        CUDARuntimeError=RuntimeError,
        getDeviceProperties=lambda number: {"name": b"stand-in"},
        runtimeGetVersion=lambda: 12090,
    )
    memory = _named("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError)
    stream = types.SimpleNamespace(synchronize=lambda: waits.append("synchronize"))
    cuda = _named("cupy.cuda", Device=_Device, get_current_stream=lambda: stream)
    cuda.runtime, cuda.memory = runtime, memory
    cupy.cuda = cuda
    return {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": scipy_face, "cupyx.scipy.special": special}


class _Device:
    def __init__(self, number=0):
        self.id = number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def use(self):
        return None


@contextmanager
def installed():
    """Let the stand-in be `cupy` for a while."""
    before = {name: sys.modules.get(name) for name in modules()}
    sys.modules.update(modules())
    try:
        yield sys.modules["cupy"]
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
