"""Puts together the root file system of the image: a Python interpreter, one virtual environment, and what they load.

``assemble.py ROOT VENV`` runs in the build stage. Nothing else gets into ROOT: no shell, no package manager. Without
them there is less to update and less to misuse, and the image has a third of the size.
"""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

USER = 10001
STATE = "var/lib/edge-agent"
OURS = {"edge_agent", "edge_adapters", "edge_models"}
NEVER_STALE = py_compile.PycInvalidationMode.UNCHECKED_HASH
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
USELESS_STDLIB = {
    *("test", "idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "ensurepip", "pydoc_data", "msilib"),
    *("__pycache__", "site-packages", "dist-packages", "EXTERNALLY-MANAGED"),
}
USELESS_EXTENSIONS = re.compile(
    r"_tkinter|_test|_ctypes_test|xxlimited|xxsubtype|_curses|ossaudiodev|readline|_dbm|_gdbm|nis"
)
# Installers; what onnxruntime declares for its tools only; the tools; its C library (the Python module has its own
# copy); what numpy has for compilers; what rich colours source code with.
USELESS_PACKAGES = (
    *("pip*", "setuptools*", "_distutils_hack", "distutils-precedence.pth", "pkg_resources*"),
    *("sympy*", "isympy*", "mpmath*", "coloredlogs*", "humanfriendly*", "pygments"),
    *(f"onnxruntime/{tool}" for tool in ("transformers", "quantization", "tools", "datasets", "backend")),
    "onnxruntime/capi/libonnxruntime.so*",
    *("numpy/f2py", "numpy/distutils", "numpy/_core/include", "numpy/_core/_simd*.so", "numpy/random/lib"),
)
FOR_COMPILERS = {".a", ".c", ".h", ".hpp", ".pxd", ".pyx", ".pyi"}


def main(root: Path, venv: Path) -> None:
    """Fill ``root`` (a new folder) with what ``venv`` needs to run, at the same paths as here."""
    prune(venv)
    merge_usr(root)
    copy_interpreter(root, venv)
    shutil.copytree(venv, inside(root, venv), symlinks=True)
    strip(venv, inside(root, venv))
    copy_libraries(root, venv)
    write_system_files(root)
    compile_all(root, venv)


def prune(venv: Path) -> None:
    """Remove from ``venv`` what a daemon never loads."""
    (site,) = venv.glob("lib/python3*/site-packages")
    for pattern in USELESS_PACKAGES:
        for path in site.glob(pattern):
            remove(path)
    for path in sorted(site.rglob("*"), reverse=True):
        if path.name in {"tests", "test", "__pycache__"} or (path.suffix in FOR_COMPILERS and path.is_file()):
            remove(path)
    for path in (venv / "bin").iterdir():
        if path.name != "edge-agent":
            remove(path)
    interpreter = Path(sys.executable).resolve()
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):  # scripts may begin with any of them
        (venv / "bin" / name).symlink_to(interpreter)
    (venv / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")


def merge_usr(root: Path) -> None:
    """The same links from /lib to /usr/lib as here, so that every library has one path."""
    for name in ("lib", "lib64", "bin", "sbin"):
        here = Path("/", name)
        target = root / (os.readlink(here) if here.is_symlink() else name)
        target.mkdir(parents=True, exist_ok=True)
        if here.is_symlink():
            (root / name).symlink_to(os.readlink(here))


def copy_interpreter(root: Path, venv: Path) -> None:
    """The interpreter and the part of its standard library that a daemon can need."""
    copy(root, Path(sys.executable).resolve())
    stdlib = Path(sysconfig.get_path("stdlib"))

    def useless(folder: str, names: list[str]) -> set[str]:
        if Path(folder).name == "lib-dynload":
            return {name for name in names if USELESS_EXTENSIONS.match(name)}
        return {name for name in names if name in USELESS_STDLIB or name.startswith("config-3")}

    shutil.copytree(stdlib, inside(root, stdlib), ignore=useless, dirs_exist_ok=True)


def copy_libraries(root: Path, venv: Path) -> None:
    """Every shared library that the interpreter or an extension module is linked to, and theirs."""
    binaries = [Path(sys.executable).resolve(), *Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")]
    binaries = [path for path in binaries if inside(root, path).exists()]
    for library in sorted(linked([*binaries, *venv.rglob("*.so*")])):
        if not library.is_relative_to(venv):
            copy(root, library)
    for conf in [Path("/etc/ld.so.conf"), *Path("/etc/ld.so.conf.d").glob("*.conf")]:
        copy(root, conf)
    subprocess.run(["ldconfig", "-r", root], check=True)


def linked(binaries: Iterable[Path]) -> set[Path]:
    """Paths of all libraries that the loader would take for ``binaries``, indirect ones included."""
    found: set[Path] = set()
    for binary in binaries:
        listing = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        if "not found" in listing:
            raise SystemExit(f"{binary}: a library it needs is not installed here:\n{listing}")
        found.update(Path(path) for path in re.findall(r"(?:=> |^\s)(/\S+) \(0x", listing, re.MULTILINE))
    return found


def strip(venv: Path, copied: Path) -> None:
    """Drop symbols. Not in ``*.libs``: patched by the wheel builders, they do not survive it."""
    for library in copied.rglob("*.so*"):
        if not library.parent.name.endswith(".libs"):
            subprocess.run(["strip", "--strip-unneeded", library], check=True)


def write_system_files(root: Path) -> None:
    """Names of users and hosts, trusted authorities, the usual empty folders, the folder for state."""
    for folder in ("proc", "sys", "dev", "run", "etc/edge-agent", "etc/ssl/certs", "tmp", STATE):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / STATE).chmod(0o700)
    os.chown(root / STATE, USER, USER)
    copy(root, Path(CERTIFICATES))
    (root / "etc/passwd").write_text(
        f"root:x:0:0::/:/sbin/nologin\nedge-agent:x:{USER}:{USER}::/{STATE}:/sbin/nologin\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\nedge-agent:x:{USER}:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def compile_all(root: Path, venv: Path) -> None:
    """Byte code only, except for our own packages: the root is read-only, a start compiles nothing, 30 MB less.

    Tracebacks still name file and line of every frame.
    """
    for folder in (Path(sysconfig.get_path("stdlib")), venv):
        for source in inside(root, folder).rglob("*.py"):
            name = str(Path("/", source.relative_to(root)))
            if OURS & set(source.parts):
                py_compile.compile(str(source), dfile=name, doraise=True, invalidation_mode=NEVER_STALE)
            else:
                py_compile.compile(str(source), cfile=f"{source}c", dfile=name, doraise=True)
                source.unlink()


def copy(root: Path, path: Path) -> None:
    """``path`` (links followed) to the same place below ``root``."""
    target = inside(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path.resolve(), target)


def inside(root: Path, path: Path) -> Path:
    """Where ``path`` is below ``root``."""
    return root / path.relative_to("/")


def remove(path: Path) -> None:
    """A file, link or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
