"""Bundles whose wrapping is hostile: archives, arrays, manifests. None of them reaches the gate of models."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bundle_factory import make_files
from corpus import GATE, Case, folder, golden_case, manifest_case, sealed

MIB = 1 << 20


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> bytes:
    """One entry of a tar, whatever it says."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content.ljust(-(-len(content) // 512) * 512, b"\0")


def tar(entries: dict[str, bytes] | None = None, last: bytes = b"", first: bytes = b"") -> bytes:
    content = make_files() if entries is None else entries
    return first + b"".join(member(name, content=raw) for name, raw in content.items()) + last + bytes(1_024)


def tar_case(name: str, message: str, raw: Callable[[], bytes]) -> Case:
    def make(place: Path) -> Path:
        path = place / "bundle.tar"
        path.write_bytes(raw())
        return path

    return Case(name, GATE, message, make)


def sized(size: bytes) -> bytes:
    """An entry with this in its field of the size, and a checksum that agrees."""
    header = bytearray(member("big"))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def hollow_tar(place: Path) -> Path:
    """A terabyte on paper, nothing on the disk."""
    path = place / "bundle.tar"
    path.touch()
    os.truncate(path, 1 << 40)
    return path


def piped(place: Path) -> Path:
    """Whoever opens it waits for ever."""
    os.mkfifo(place / "bundle.tar")
    return place / "bundle.tar"


def hollow_folder(place: Path) -> Path:
    path = folder(make_files())(place)
    os.truncate(path / "model.onnx", 1 << 40)
    return path


def odd_folder(name: str, message: str, change: Callable[[Path], None]) -> Case:
    def make(place: Path) -> Path:
        path = folder(make_files())(place)
        change(path)
        return path

    return Case(name, GATE, message, make)


def replace(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return change


def many_files(path: Path) -> None:
    for number in range(1_000):
        (path / f"f{number}").touch()


def arrays_case(name: str, message: str, raw: Callable[[], bytes], where: str = "golden__npz") -> Case:
    return Case(name, GATE, message, lambda place: folder(sealed(**{where: raw()}))(place))


def npz(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=9 if method == zipfile.ZIP_DEFLATED else None) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An array file with any header."""
    text = header.encode().ljust(118 if len(header) < 118 else len(header)) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def array(shape: str, descr: str = "'<f4'", data: bytes = b"") -> Callable[[], bytes]:
    return lambda: npz({"in.value.npy": npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", data)})


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    return npz({"in.value.npy": buffer.getvalue()})


def bomb() -> bytes:
    """100 MiB of zeros in 100 KiB."""
    return npz(
        {"in.value.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (26214400,), }", bytes(100 * MIB))}
    )


def lying_bomb() -> bytes:
    """The same, and its announced size is a kilobyte."""
    raw = bytearray(bomb())
    real = struct.pack("<I", 128 + 100 * MIB)
    for place in [found.start() for found in re.finditer(re.escape(real), bytes(raw))]:
        raw[place : place + 4] = struct.pack("<I", 1_024)
    return bytes(raw)


def directory() -> bytes:
    """A million entries of the directory and nothing in them: a gigabyte of objects."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[20, 0, 20, 0], *[0] * 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    size = 1_000_000 * len(entry)
    return entry * 1_000_000 + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65_535, 65_535, size, 0, 0)


def overlapping() -> bytes:
    """Many entries of the directory, all of one content."""
    raw = bytearray(npz({f"a{number:02}.npy": b"x" for number in range(60)}))
    for found in re.finditer(b"PK\x01\x02", bytes(raw)):
        raw[found.start() + 42 : found.start() + 46] = struct.pack("<I", 0)
    return bytes(raw)


def flagged(flag: int) -> Callable[[], bytes]:
    """All entries with a flag set, encryption say."""

    def make() -> bytes:
        raw = bytearray(npz({"in.value.npy": b"x" * 100}))
        raw[6] |= flag
        raw[raw.index(b"PK\x01\x02") + 8] |= flag
        return bytes(raw)

    return make


def deep(text: str) -> str:
    return text.replace('"sensors": []', f'"sensors": {"[" * 100_000}{"]" * 100_000}')


def spoil(name: str, place: tuple[int, ...], value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name][place] = value

    return change


def drop(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        del arrays[name]

    return change


def bomb_entry() -> bytes:
    return tar(last=member("surplus.md", content=bytes(2 * MIB)))


ORDINARY, TOP, PLAIN = "expected ordinary files only", "expected a file in the top folder", "not a readable plain tar"
UNREADABLE, AGREE = "golden.npz: not a readable .npz file", "expected them to agree"
CASES = [
    tar_case("path upwards", TOP, lambda: tar(last=member("../../etc/cron.d/x"))),
    tar_case("absolute path", TOP, lambda: tar(last=member("/etc/cron.d/x"))),
    tar_case("path in folders", TOP, lambda: tar(last=member("a/b/c/d"))),
    tar_case("symbolic link", ORDINARY, lambda: tar(last=member("link", tarfile.SYMTYPE, "/etc/passwd"))),
    tar_case("hard link", ORDINARY, lambda: tar(last=member("link", tarfile.LNKTYPE, "/etc/passwd"))),
    tar_case("device", ORDINARY, lambda: tar(last=member("null", tarfile.CHRTYPE))),
    tar_case("block device", ORDINARY, lambda: tar(last=member("disk", tarfile.BLKTYPE))),
    tar_case("pipe", ORDINARY, lambda: tar(last=member("pipe", tarfile.FIFOTYPE))),
    tar_case("sparse entry", ORDINARY, lambda: tar(last=member("sparse", tarfile.GNUTYPE_SPARSE))),
    tar_case("file twice", "expected each file once", lambda: tar(last=member("model.onnx", content=b"x"))),
    tar_case("two folders", "all in one folder", lambda: tar(last=member("other/x"))),
    tar_case("entry above its limit", "got more than 1048576 bytes", bomb_entry),
    tar_case("10,000 entries", "entries in the tar", lambda: tar(last=member("d", tarfile.DIRTYPE) * 10_000)),
    tar_case("entry of a terabyte", PLAIN, lambda: tar(last=sized(b"\x80" + (1 << 40).to_bytes(11, "big")))),
    tar_case("entry of less than nothing", PLAIN, lambda: tar(last=sized(b"\xff" * 12))),
    tar_case("names upon names", ORDINARY, lambda: member("x", tarfile.GNUTYPE_LONGNAME, content=b"abc") * 3_000),
    tar_case("header of 100 MiB", PLAIN, lambda: member("x", tarfile.XHDTYPE, content=b"9" * (100 * MIB))),
    tar_case("compressed tar", "expected a folder or an uncompressed tar", lambda: gzip.compress(tar())),
    tar_case("compressed bomb", PLAIN, lambda: zlib.compress(bytes(100 * MIB))),
    tar_case("tar of noise", PLAIN, lambda: np.random.default_rng(1).bytes(20_000)),
    tar_case("tar cut off", "expected", lambda: tar()[:3_000]),
    tar_case("empty tar", "manifest.json: missing", lambda: tar({})),
    tar_case("empty file", PLAIN, bytes),
    Case("tar of a terabyte", GATE, "expected a tar of at most", hollow_tar),
    Case("pipe in place of a tar", GATE, "expected an ordinary file", piped),
    Case("folder of a terabyte", GATE, "got more than 67108864 bytes", hollow_folder),
    Case("file that is not there", GATE, "No such file", lambda place: place / "bundle.tar"),
    odd_folder(
        "link in a folder", "expected an ordinary file", replace("card.md", lambda p: p.symlink_to("/etc/passwd"))
    ),
    odd_folder("pipe in a folder", "expected an ordinary file", replace("card.md", os.mkfifo)),
    odd_folder("folder in a folder", "expected an ordinary file", replace("card.md", Path.mkdir)),
    odd_folder("1,000 files", "expected at most 17", many_files),
    odd_folder("file that is not listed", "not listed in manifest.json", lambda path: (path / "run.sh").touch()),
    odd_folder("file missing", "golden.npz: missing", lambda path: (path / "golden.npz").unlink()),
    odd_folder("other weights", "model.onnx: got ", lambda path: (path / "model.onnx").write_bytes(b"x")),
    odd_folder(
        "manifest of 17 MiB", "got more than", lambda path: (path / "manifest.json").write_bytes(bytes(17 * MIB))
    ),
    manifest_case(
        "wrong sha256", "got sha256", lambda text: re.sub(r'"sha256": "\w{64}"', f'"sha256": "{"0" * 64}"', text)
    ),
    manifest_case("no JSON", "manifest.json: not JSON", lambda text: text[:-5]),
    manifest_case("deep JSON", "too many nested levels", deep),
    manifest_case("key twice", "appears twice", lambda text: '{"format": 1,' + text.lstrip()[1:]),
    manifest_case("key unknown", "expected only the keys", lambda text: '{"run": "rm -rf /",' + text.lstrip()[1:]),
    manifest_case(
        "number that is infinite", "expected finite numbers only", lambda text: text.replace("500.0", "Infinity")
    ),
    manifest_case("number beyond all bounds", "limits.p99_ms: got inf", lambda text: text.replace("500.0", "1e400")),
    manifest_case("number of 100,000 digits", "manifest.json: ", lambda text: text.replace("500.0", "9" * 100_000)),
    manifest_case("widest of states", "expected", lambda text: text.replace('"shape": []', '"shape": [65536, 65536]')),
    manifest_case(
        "format of the future", "a newer agent may be needed", lambda text: text.replace('"format": 1', '"format": 2')
    ),
    manifest_case(
        "file name upwards",
        "expected a plain file name",
        lambda text: text.replace('"files": {', '"files": {"../x": {},'),
    ),
    golden_case("golden output that is not finite", "not finite", spoil("out.score", (3, 1), np.nan)),
    golden_case("golden input that is not finite", "not finite", spoil("in.value", (3, 1), np.inf)),
    golden_case(
        "golden neighbour outside", "in.neighbour: got an index outside", spoil("in.neighbour", (3, 1, 0), 2**40)
    ),
    golden_case("golden output missing", "got arrays", drop("out.score")),
    arrays_case("array bomb", "bytes unpacked", bomb),
    arrays_case("array bomb that lies", "golden.npz", lying_bomb),
    arrays_case("pickle among arrays", "got type object", pickled),
    arrays_case("array of a terabyte", AGREE, array(f"({2**40},)")),
    arrays_case("array whose shape overflows", AGREE, array(f"({2**63}, {2**63})")),
    arrays_case("array below zero", "golden.npz", array("(-1,)", data=bytes(4))),
    arrays_case("array of structures of objects", "golden.npz", array("(1,)", "[('a', '|O')]", bytes(8))),
    arrays_case(
        "array header that is code", "golden.npz", lambda: npz({"in.value.npy": npy("__import__('os').abort()")})
    ),
    arrays_case("array header of 60 kB", "golden.npz", lambda: npz({"in.value.npy": npy("(" * 60_000)})),
    arrays_case("array header of 20 MiB", "golden.npz", lambda: npz({"a.npy": npy(" " * (20 * MIB), version=2)})),
    arrays_case(
        "1,000 arrays", "got more than 64 arrays", lambda: npz({f"a{number}.npy": b"" for number in range(1_000)})
    ),
    arrays_case("a million arrays", "got more than 64 arrays", directory),
    arrays_case("arrays upon one another", "golden.npz", overlapping),
    arrays_case("encrypted arrays", "golden.npz", flagged(1)),
    arrays_case("arrays in a strange packing", "golden.npz", lambda: npz({"in.value.npy": b"x"}, zipfile.ZIP_LZMA)),
    arrays_case("arrays cut off", UNREADABLE, lambda: make_files()["golden.npz"][:-30]),
    arrays_case("calibration that is a pickle", "got type object", pickled, "calibration__npz"),
    arrays_case("calibration bomb", "calibration.npz", bomb, "calibration__npz"),
]
