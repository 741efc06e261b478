"""Files made to harm: each is refused by name, soon, in little memory, and nothing of it is run."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

import fconv as fc
from fconv.files.formats.pt.files import write_pt
from tests.data import record_pt
from tests.spending import processor_time

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
SENTINEL = "FCONV_WAS_HARMED"


def archive(pickled, storages=None, names=(), **members):
    """Return a zip file as torch.save would write it around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            zipped.writestr(f"archive/data/{key}", data)
        for name, data in members.items():
            zipped.writestr(f"archive/{name}", data)
        for name in names:
            zipped.writestr(name, b"")
    return buffer.getvalue()


class Harm:
    def __reduce__(self):
        return os.putenv, (SENTINEL, "1")


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def tensor(
    offset=0, shape=(2,), strides=(1,), count=2, kind=b"ctorch\nFloatStorage\n", key="0", metadata=None
):
    """Return the pickle of one tensor."""

    def numbers(values):
        return b"(" + b"".join(b"\x8a\x09" + v.to_bytes(9, "little", signed=True) for v in values) + b"t"

    identifier = b"(" + text("storage") + kind + text(key) + text("cpu") + numbers([count])[1:-1] + b"tQ"
    tail = b"\x89ccollections\nOrderedDict\n)R" + (metadata or b"") + b"tR."
    start = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    return start + identifier + numbers([offset])[1:-1] + numbers(shape) + numbers(strides) + tail


DEEP = b"\x80\x02" + b"]" * 2000 + b"a" * 1999 + b"."
LOOP = b"\x80\x02]q\x00h\x00a."
# A list of ten times a list of ten times ...: 10**30 values in some hundred bytes.
BOMB = (
    b"\x80\x02]q\x000" + b"".join(b"](" + bytes([0x68, i]) * 10 + b"eq" + bytes([i + 1]) + b"0" for i in range(30)) + b"h\x1e."
)  # fmt: skip
MASK = (1 << 61) - 1
KEYS = (
    b"\x80\x02}("
    + b"".join(b"\x8a\x10" + (MASK * i).to_bytes(16, "little") + b"N" for i in range(2**20, 2**20 + 9))
    + b"u."
)

LONG = BOMB[:-1]  # leaves the bomb of references on the stack

PICKLES = {
    "a bomb as a shape": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
        + b"K\x02tQK\x00" + LONG[2:] + b"\x85)\x89Ntq\xffR.", "a tensor has offset 0"),
    "a bomb as a class": (
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n" + LONG[2:] + b")NtR.", "a tensor of class"),
    "a bomb as a persistent id": (b"\x80\x02(" + LONG[2:] + b"NNNNtQ.", "a persistent id of"),
    "a negative boolean": (tensor(kind=b"ctorch\nBoolStorage\n", count=8, metadata=b"}" + text("neg") + b"\x88s"), "a tensor of booleans"),
    "calls os.system": (pickle.dumps(Harm(), 2), r"it asks for 'posix\.putenv'|it asks for 'nt\.putenv'|asks for 'os\.putenv'"),
    "protocol 4, by its stack": (pickle.dumps(Harm(), 4), "it asks for"),
    "protocol 0": (pickle.dumps(Harm(), 0), r"asks for|opcode"),
    "eval": (b"\x80\x02c__builtin__\neval\n" + text("1") + b"\x85R.", "it asks for '__builtin__.eval'"),
    "getattr": (b"\x80\x02cbuiltins\ngetattr\n.", "it asks for 'builtins.getattr'"),
    "a dotted name": (b"\x80\x04" + text("torch") + text("serialization.os.system") + b"\x93.", "it asks for 'torch.serialization.os.system'"),
    "a name that ends never": (b"\x80\x02c" + b"a" * 5000, "a name without an end"),
    "inst": (b"\x80\x02(ios\nsystem\n.", "it asks for 'os.system'"),
    "obj": (b"\x80\x02(cos\nsystem\no.", "it asks for 'os.system'"),
    "newobj_ex": (b"\x80\x04cos\nsystem\n)}\x92.", "it asks for 'os.system'"),
    "ext": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "reduce of a value": (b"\x80\x02" + text("os.system") + text("ls") + b"\x85R.", "calls 'os.system', which is no name"),
    "reduce with a list": (b"\x80\x02cbuiltins\nset\n]R.", "calls builtins.set with list, expected a tuple"),
    "newobj of a tensor": (b"\x80\x02ctorch\nTensor\n)\x81.", "a tensor made by its class"),
    "build of a name": (b"\x80\x02cbuiltins\nset\n}b.", "gives attributes to Name"),
    "build of a dict with a text": (b"\x80\x02}" + text("x") + b"b.", "gives attributes to dict"),
    "a whole module": (b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81.", "it asks for 'torch.nn.modules.linear.Linear'"),
    "a sparse tensor": (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n.", "it asks for 'torch._utils._rebuild_sparse_tensor'"),
    "a quantized tensor": (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "it asks for 'torch._utils._rebuild_qtensor'"),
    "a name left as a value": (b"\x80\x02cbuiltins\nset\n.", "where a value should stand"),
    "a class of storages left as a value": (b"\x80\x02ctorch\nFloatStorage\n.", "where a value should stand"),
    "deep": (DEEP, "nests more than 100 deep"),
    "contains itself": (LOOP, "holds a value that contains itself"),
    "a bomb of references": (BOMB, "unfolds to more than 1,00[0-9],[0-9]* values"),
    "keys that collide": (KEYS, "which is no 64-bit integer"),
    "a long integer": (b"\x80\x02\x8b" + struct.pack("<i", 1 << 20) + bytes(1 << 20) + b".", "an integer of 1048576 bytes"),
    "a long integer of negative size": (b"\x80\x02\x8b" + struct.pack("<i", -5) + b".", "ends early"),
    "text that is not there": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b".", "ends early"),
    "bytes that are not there": (b"\x80\x02B" + struct.pack("<I", 1 << 31) + b".", "ends early"),
    "text that is none": (b"\x80\x02X" + struct.pack("<I", 2) + b"\xff\xfe.", "damaged at byte"),
    "an empty stack": (b"\x80\x020.", "takes a value that is not there"),
    "no value": (b"\x80\x02.", "ends with 0 values"),
    "two values": (b"\x80\x02NN.", "ends with 2 values"),
    "an unknown memo": (b"\x80\x02h\x07.", "asks for value 7, which it never kept"),
    "a mark left": (b"\x80\x02(.", "ends with 1 values"),
    "no mark": (b"\x80\x02Nt.", "lacks a mark"),
    "a tuple of a mark": (b"\x80\x02N(N\x87.", "takes a value that is not there"),
    "appends to a dict": (b"\x80\x02}Na.", "adds to dict as if it were a list"),
    "sets an item of a list": (b"\x80\x02]NNs.", "adds to list as if it were a dict"),
    "a key without a value": (b"\x80\x02}(Nu.", "a key without a value"),
    "a list as a key": (b"\x80\x02}]Ns.", "a key of type list"),
    "another protocol": (b"\x80\x09N.", "a protocol other than 2 to 5"),
    "an odd OrderedDict": (b"\x80\x02ccollections\nOrderedDict\n](]e\x85R.", "an odd OrderedDict"),
    "too many arguments": (b"\x80\x02ctorch\ndevice\n(NNNNtR.", "calls torch.device with 4 arguments"),
    "an odd persistent id": (b"\x80\x02NQ.", "an odd persistent id"),
    "a module in a persistent id": (b"\x80\x02(" + text("module") + b"NNNNtQ.", "a persistent id of 'module'"),
    "a missing storage": (tensor(key="9"), "lacks the storage '9'"),
    "a storage name with a path": (tensor(key="../../etc/passwd"), "lacks the storage"),
    "an offset beyond": (tensor(offset=1), "reaches beyond its storage of 2 numbers"),
    "a huge offset": (tensor(offset=1 << 62), "reaches beyond its storage"),
    "a negative offset": (tensor(offset=-1), "a tensor has offset -1"),
    "a negative size": (tensor(shape=(-2,)), "a tensor has offset 0, shape"),
    "a stride beyond": (tensor(strides=(2,)), "reaches beyond its storage"),
    "a negative stride": (tensor(offset=1, strides=(-1,)), "a tensor has offset 1"),
    "more sizes than strides": (tensor(shape=(1, 2)), "a tensor has offset 0"),
    "a huge shape": (tensor(shape=(1 << 40, 1 << 40), strides=(0, 0)), "no array can have shape"),
    "repeated without end": (tensor(shape=(1 << 33,), strides=(0,)), "would come to more than 48 MB"),
    "a count that lies": (tensor(count=3), "has 8 bytes, expected 12"),
    "a negative count": (tensor(count=-1), "an odd storage"),
    "an unknown storage": (tensor(kind=b"ctorch\nQInt8Storage\n"), "it asks for 'torch.QInt8Storage'"),
    "an untyped storage": (tensor(kind=b"ctorch.storage\nUntypedStorage\n", count=8), "a storage without a dtype"),
    "metadata of a kind": (tensor(metadata=b"}" + text("spam") + b"\x88s"), "a tensor marked spam"),
}  # fmt: skip


def refused(path, text, most_seconds=20.0, most_bytes=64e6):
    """Require a ValueError that names the file, in bounded time and memory."""
    tracemalloc.start()
    with processor_time() as spent, pytest.raises(ValueError, match=text) as found:
        fc.load(path, strict=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent.seconds < most_seconds
    assert peak < most_bytes
    assert str(path) in str(found.value)
    assert SENTINEL not in os.environ
    assert os.environb.get(SENTINEL.encode()) is None


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_refused(tmp_path, name, mmap):
    pickled, message = PICKLES[name]
    path = tmp_path / "x.pt"
    path.write_bytes(archive(pickled, {"0": bytes(8)}))
    refused(path, message)
    with pytest.raises(ValueError, match=message):
        fc.load(path, mmap=mmap, strict=True)


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_in_the_older_format_is_refused(tmp_path, name):
    path = tmp_path / "x.pth"
    header = (MAGIC, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2))
    path.write_bytes(b"".join(header) + PICKLES[name][0])
    with pytest.raises(ValueError, match=r"load: .*x\.pth is not a whole file of PyTorch's"):
        fc.load(path)


def test_the_corpus_harms_a_reader_that_executes(tmp_path):
    """The sentinel works: the pickle of it does what it says where it is run."""
    code = f"import pickle, os; pickle.loads({pickle.dumps(Harm(), 2)!r}); raise SystemExit(os.system('test -n \"${SENTINEL}\"') != 0)"
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", record_pt.FILES)
def test_every_truncation_is_refused(tmp_path, name):
    whole = (record_pt.FOLDER / name).read_bytes()
    path = tmp_path / "x.pt"
    for end in [*range(0, len(whole), 10), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"load: .*x\.pt is not a whole file"):
            fc.load(path)


def test_a_zip_bomb_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("archive/data.pkl", tensor(count=1 << 28, shape=(1 << 28,)))
        with zipped.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(1 << 10):
                entry.write(bytes(1 << 20))
    path.write_bytes(buffer.getvalue())
    assert len(buffer.getvalue()) < 3e6
    refused(path, "would come to more than 48 MB", most_bytes=8e6)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (archive(b"\x80\x02N.", names=["other/data.pkl"]), "without the data.pkl"),
        (archive(b"\x80\x02N.", names=["archive/code/a.py"]), "it is a TorchScript program"),
        (archive(b"\x80\x02N.", names=["../outside"]), "could lead out of a folder"),
        (archive(b"\x80\x02N.", **{"fconv.json": b"[1]"}), "expected metadata that maps text to text"),
        (archive(b"\x80\x02N.", **{"fconv.json": b"{" * 100000}), "nested at most 2 deep"),
        (b"PK\x03\x04" + bytes(100), "does not end as a zip archive does"),
        (b"", "it begins as none of PyTorch's files does"),
        (pickle.dumps({"a": 1}), "it is a plain pickle"),
        (bytes(257) + b"ustar" + bytes(300), "it is a tar archive"),
        (MAGIC + pickle.dumps(1002, 2) + pickle.dumps({}, 2), "begins as none of PyTorch's files does"),
    ],
    ids=lambda v: "" if isinstance(v, bytes) else v,
)  # fmt: skip
def test_other_hostile_files_are_refused(tmp_path, data, text):
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    refused(path, text)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(archive(b"\x80\x02N.", names=["archive/data.pkl"]))
    refused(path, "two members are named")


def test_a_damaged_storage_is_found_where_it_is_read(tmp_path):
    path = tmp_path / "x.pt"
    write_pt(path, np.arange(100.0))
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(50).tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its bytes are not those that were written"):
        fc.load(path, mmap=False)


def test_storages_behind_the_older_format_must_fit(tmp_path):
    whole = (record_pt.FOLDER / "torch_legacy.pt").read_bytes()
    path = tmp_path / "x.pt"
    path.write_bytes(whole + b"x")
    refused(path, "1 bytes stand behind its last storage")


def _number(n):
    return b"J" + struct.pack("<i", n)


def _storage():
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"


EXPANDED = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(" + _storage() + _number(0) + _number(1 << 25) + b"\x85"
    + _number(0) + b"\x85\x89}tR"
)  # fmt: skip
LARGE_IN_MEMORY = {
    "a set for each byte": b"\x80\x02" + b"\x8f" * 2_000_000 + b".",
    "one text encoded again and again": (
        b"\x80\x02c_codecs\nencode\nq\x000" + text("a" * (1 << 20)) + text("latin1") + b"\x86q\x010]("
        + b"h\x00h\x01R" * 600 + b"e."
    ),
    "copies of one dict": (
        b"\x80\x02ccollections\nCounter\nq\x000}(" + b"".join(_number(i) + b"N" for i in range(20_000))
        + b"u\x85q\x010](" + b"h\x00h\x01R" * 300 + b"e."
    ),
    "tensors of 128 MB of one number": b"\x80\x02](" + EXPANDED * 6 + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_IN_MEMORY)
def test_a_small_file_does_not_make_much_of_itself(name, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(archive(LARGE_IN_MEMORY[name], {"0": bytes(4)}))
    message = r"would come to more than 48 MB and 16 times its size|hold a pickle of"
    tracemalloc.start()
    try:
        with processor_time() as spent, pytest.raises(ValueError, match=message):
            fc.load(path)
        assert tracemalloc.get_traced_memory()[1] < 600 << 20
    finally:
        tracemalloc.stop()
    assert spent.seconds < 120  # tracing memory takes most of it


def test_a_tensor_with_many_marks_is_refused(tmp_path):
    marks = b"}(" + b"".join(_number(i) + b"\x89" for i in range(200)) + b"u"
    path = tmp_path / "a.pt"
    call = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
    path.write_bytes(
        archive(
            call
            + _storage()
            + _number(0)
            + _number(1)
            + b"\x85"
            + _number(1)
            + b"\x85\x89}"
            + marks
            + b"tR.",
            {"0": bytes(4)},
        )
    )
    with pytest.raises(ValueError, match="a tensor whose metadata are no small dict"):
        fc.load(path)
