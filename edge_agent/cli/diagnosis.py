"""What `edge-agent doctor` looks at. Each check is one function that says what it found and what to do."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.errors import ConfigError, EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig

MIN_FREE_BYTES = 200 * 2**20
MIN_FILES = 1024
MIN_MEMORY_BYTES = 128 * 2**20
SLOW_FSYNC_S = 0.5
_ADJTIMEX_NOT_SYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis; ``advice`` is empty when there is nothing to do."""

    level: Level
    what: str
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def diagnose(config_path: Path | None = None) -> list[Finding]:
    """Everything that is found on this machine, and in the configuration at ``config_path`` if given."""
    findings = [check() for check in _MACHINE]
    config = None
    if config_path is not None:
        config, finding = _configuration(config_path)
        findings.append(finding)
    findings += _storage(config.agent.data_dir if config is not None else None)
    findings += _extras(config)
    if config is not None:
        findings += _port(config)
        findings += _updates(config)
    findings.append(_model(config))
    return findings


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.machine()}, {struct.calcsize('P') * 8} bit"
    if sys.version_info < (3, 11) or struct.calcsize("P") != 8:
        return Finding(Level.FAIL, "Python", found, "install Python 3.11 or later on a 64-bit system")
    if platform.machine() not in ("x86_64", "aarch64", "arm64", "AMD64"):
        return Finding(Level.WARN, "Python", found, "only arm64 and amd64 are tested")
    return Finding(Level.OK, "Python", found)


def _runtime() -> Finding:
    # By its metadata: importing it costs memory, and only the inference layer may.
    try:
        version = metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        advice = "pip install 'onnxruntime>=1.20.1,<1.30' (as edge-graph-agent asks for)"
        return Finding(Level.FAIL, "ONNX Runtime", "not installed", advice)
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= (1, 30):
        advice = "its wheels from 1.30 on send telemetry unless told not to; install one below 1.30"
        return Finding(Level.WARN, "ONNX Runtime", version, advice)
    return Finding(Level.OK, "ONNX Runtime", f"{version}, without telemetry")


def _clock() -> Finding:
    built = Path(__file__).stat().st_mtime
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < built - 86_400:
        advice = "set the clock (time server or battery clock): certificates and timestamps will be wrong until then"
        return Finding(Level.WARN, "clock", f"{text} is before this program was installed", advice)
    return Finding(Level.OK, "clock", text)


def _time_sync() -> Finding:
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: only asks
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return Finding(Level.WARN, "time server", "cannot be asked on this system", "")
    if state in (-1, _ADJTIMEX_NOT_SYNCHRONISED):
        advice = "enable systemd-timesyncd or chrony; until then times in incidents are only as good as the clock"
        return Finding(Level.WARN, "time server", "the clock is not synchronised", advice)
    return Finding(Level.OK, "time server", "the clock is synchronised")


def _battery_clock() -> Finding:
    if any(Path("/sys/class/rtc").glob("rtc*")) or Path("/dev/rtc0").exists():
        return Finding(Level.OK, "battery clock", "present")
    advice = "after a power cut the clock is wrong until a time server is reached; the agent copes, times are labelled"
    return Finding(Level.WARN, "battery clock", "none found", advice)


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_FILES:
        return Finding(Level.WARN, "open files", f"limit {soft}", f"raise it to {MIN_FILES} (LimitNOFILE=, ulimit -n)")
    return Finding(Level.OK, "open files", f"limit {soft}")


def _memory() -> Finding:
    available = _available_memory()
    if available is None:
        return Finding(Level.WARN, "memory", "cannot be read on this system", "")
    found = f"{available // 2**20} MiB available"
    if available < MIN_MEMORY_BYTES:
        return Finding(Level.WARN, "memory", found, f"the agent wants {MIN_MEMORY_BYTES // 2**20} MiB")
    return Finding(Level.OK, "memory", found)


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


_MACHINE: tuple[Callable[[], Finding], ...] = (
    _python,
    _runtime,
    _clock,
    _time_sync,
    _battery_clock,
    _open_files,
    _memory,
)


def _configuration(path: Path) -> tuple[AgentConfig | None, Finding]:
    from edge_agent.config import load_in_use

    try:
        config = load_in_use(path)
        left_out = config.layers.left_out
        if left_out is not None:
            return config, Finding(Level.WARN, "configuration", left_out, "the gateway's own file is in use without it")
        over = "" if config.layers.overlay is None else ", with what came over the air"
        return config, Finding(Level.OK, "configuration", f"{path}{over}")
    except ConfigError as error:
        first = error.problems[0]
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        return None, Finding(Level.FAIL, "configuration", first + more, f"edge-agent check {path}")


def _storage(data_dir: Path | None) -> Iterator[Finding]:
    from edge_agent.config.agent import AgentOptions

    folder = data_dir or AgentOptions().data_dir
    if not folder.is_dir():
        yield _absent(folder)
        return
    free = shutil.disk_usage(folder).free
    level, advice = (
        (Level.OK, "") if free >= MIN_FREE_BYTES else (Level.WARN, "make room: undelivered events are kept here")
    )
    yield Finding(level, "disk space", f"{free // 2**20} MiB free in {folder}", advice)
    yield _write_test(folder)


def _absent(folder: Path) -> Finding:
    """The agent makes the folder at its start, where it may."""
    existing = next(parent for parent in folder.absolute().parents if parent.is_dir())
    if os.access(existing, os.W_OK | os.X_OK):
        return Finding(Level.OK, "data folder", f"{folder} does not exist yet; it is made at the first start")
    advice = f"install -d -o edge-agent {folder} (the systemd unit does it by StateDirectory=)"
    return Finding(Level.WARN, "data folder", f"{folder} does not exist, and {existing} is not writable", advice)


def _write_test(folder: Path) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(os.urandom(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took = time.perf_counter() - began
    except OSError as error:
        advice = "give the user that runs edge-agent the right to write there"
        return Finding(Level.FAIL, "data folder", f"{folder}: {error.strerror}", advice)
    found = f"{folder} is writable, one safe write takes {took * 1000:.0f} ms"
    if took > SLOW_FSYNC_S:
        return Finding(Level.WARN, "data folder", found, "the card or disk is slow or worn; consider replacing it")
    return Finding(Level.OK, "data folder", found)


def _extras(config: AgentConfig | None) -> Iterator[Finding]:
    """Extras that the configuration needs; without one, all extras that adapters name."""
    from edge_agent import registry

    for extra, users in sorted(_users_of_extras(config).items()):
        missing = registry.missing_packages(extra)
        if not missing:
            yield Finding(Level.OK, f"extra {extra}", "installed")
            continue
        level = Level.FAIL if config is not None else Level.WARN
        advice = f"pip install '{registry.DISTRIBUTION}[{extra}]'"
        yield Finding(level, f"extra {extra}", f"{', '.join(missing)} missing; wanted by {', '.join(users)}", advice)
    for group in registry.ADAPTER_GROUPS:
        for broken in registry.adapters(group)[1]:
            yield Finding(Level.WARN, f"{group.noun} {broken.name}", broken.problem, f"reinstall {broken.distribution}")


def _users_of_extras(config: AgentConfig | None) -> dict[str, list[str]]:
    from edge_agent import registry

    users: dict[str, list[str]] = {}
    for group in registry.ADAPTER_GROUPS:
        chosen = getattr(config, group.section) if config is not None else None
        adapters = {adapter.name: adapter for adapter in registry.adapters(group)[0]}
        wanted = {options.type for options in chosen.values()} if chosen is not None else set(adapters)
        for name in sorted(wanted):
            extra = adapters[name].extra
            if extra is not None:
                users.setdefault(extra, []).append(f"{group.noun} {name}")
    if config is not None and config.telemetry.endpoint is not None:
        users.setdefault("otlp", []).append("telemetry")
    if config is not None and config.ota.repository is not None:
        users.setdefault("ota", []).append("ota.repository")
    return users


def _port(config: AgentConfig) -> Iterator[Finding]:
    from edge_agent.api.address import TcpAddress

    address = config.api.address
    if not config.api.enabled or not isinstance(address, TcpAddress):
        return
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            advice = "fine if that is the running daemon (`edge-agent status`); else change api.listen"
            yield Finding(Level.WARN, "API port", f"{config.api.listen}: {error.strerror}", advice)
            return
    yield Finding(Level.OK, "API port", f"{config.api.listen} is free")


def _updates(config: AgentConfig) -> Iterator[Finding]:
    from edge_agent.cli.repository import read_root

    if config.ota.root is None:
        return
    advice = "put the root.json there that came with the repository; without it there are no updates"
    try:
        version, expires = read_root(config.ota.root)
    except EdgeAgentError as error:
        yield Finding(Level.FAIL, "updates", str(error), advice)
        return
    yield Finding(Level.OK, "updates", f"{config.ota.root} is version {version} of the root, until {expires}")


def _model(config: AgentConfig | None) -> Finding:
    from edge_agent.cli.model_check import check_bundle

    path = config.model.path() if config is not None else None
    try:
        return Finding(Level.OK, "model", check_bundle(path))
    except EdgeAgentError as error:
        advice = "the agent would run its statistical fallback; install the bundle again"
        return Finding(Level.FAIL, "model", str(error), advice)
