"""The other end of the API, for the commands: standard library only, so that `edge-agent status` starts fast."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from edge_agent.api.address import Address, UnixAddress
from edge_agent.errors import ControlError
from edge_agent.options import Secret

_MAX_ANSWER = 256_000_000
_READ_S = 15.0
_CHANGE_S = 150.0


class ApiClient:
    """Talks to the agent that listens on ``address``; every method raises :class:`~edge_agent.errors.ControlError`
    with a message for the user when there is no agent (503), no permission, or the agent says no."""

    def __init__(self, address: Address, token: Secret | None = None) -> None:
        self._address = address
        self._token = token

    def status(self) -> dict[str, Any]:
        """State of the whole agent."""
        return self._get("/api/v1/status")

    def sensors(self) -> list[dict[str, Any]]:
        """All sensors."""
        found: list[dict[str, Any]] = self._get("/api/v1/sensors")["sensors"]
        return found

    def sensor(self, name: str) -> dict[str, Any]:
        """One sensor."""
        return self._get("/api/v1/sensors/" + quote(name, safe=""))

    def graph(self) -> dict[str, Any]:
        """Nodes and edges."""
        return self._get("/api/v1/graph")

    def incidents(self, limit: int = 100, state: str | None = None, since: str | None = None) -> list[dict[str, Any]]:
        """Newest first; ``state`` is ``open`` or ``closed``, ``since`` a time as in RFC 3339."""
        query = {"limit": limit, "state": state, "since": since}
        given = urlencode({key: value for key, value in query.items() if value is not None})
        found: list[dict[str, Any]] = self._get(f"/api/v1/incidents?{given}")["incidents"]
        return found

    def incident(self, incident_id: str) -> dict[str, Any]:
        """One incident."""
        return self._get("/api/v1/incidents/" + quote(incident_id, safe=""))

    def judge_incident(self, incident_id: str, verdict: str, note: str = "", by: str = "") -> dict[str, Any]:
        """Say whether an incident was a ``true_alarm`` or a ``false_alarm``."""
        body = {"verdict": verdict, "note": note, "by": by}
        return self._post(f"/api/v1/incidents/{quote(incident_id, safe='')}/feedback", json.dumps(body).encode())

    def acknowledge_incident(self, incident_id: str, note: str = "", by: str = "") -> dict[str, Any]:
        """Note that an open incident has been seen."""
        body = {"note": note, "by": by}
        return self._post(f"/api/v1/incidents/{quote(incident_id, safe='')}/acknowledge", json.dumps(body).encode())

    def orders(self) -> list[dict[str, Any]]:
        """Suppression orders in force."""
        found: list[dict[str, Any]] = self._get("/api/v1/orders")["orders"]
        return found

    def suppress(
        self, sensors: Sequence[str], areas: Sequence[str], lasts: str, note: str = "", by: str = ""
    ) -> dict[str, Any]:
        """Have incidents of these patterns disturb nobody for as long as ``lasts`` says, such as ``2h``."""
        body = {"sensors": list(sensors), "areas": list(areas), "for": lasts, "note": note, "by": by}
        return self._post("/api/v1/orders", json.dumps(body).encode())

    def lift_order(self, order_id: str, by: str = "") -> dict[str, Any]:
        """End an order before its time."""
        return self._post(f"/api/v1/orders/{quote(order_id, safe='')}/lift", json.dumps({"by": by}).encode())

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """What operators did, newest first."""
        found: list[dict[str, Any]] = self._get(f"/api/v1/audit?limit={limit}")["entries"]
        return found

    def model(self) -> dict[str, Any]:
        """The bundle in use and the one before."""
        return self._get("/api/v1/model")

    def swap_model(self, path: Path) -> dict[str, Any]:
        """Put the bundle at ``path`` (as the agent sees it) into use."""
        return self._post("/api/v1/model", json.dumps({"path": str(path.absolute())}).encode())

    def upload_model(self, path: Path) -> dict[str, Any]:
        """Send the bundle (a tar file) to the agent and put it into use."""
        try:
            with path.open("rb") as file:
                return self._post("/api/v1/model", file, "application/octet-stream", path.stat().st_size)
        except OSError as error:
            raise ControlError(f"{path}: cannot be read: {error.strerror}", status=400) from error

    def rollback_model(self) -> dict[str, Any]:
        """Bring back the bundle before this one."""
        return self._post("/api/v1/model/rollback")

    def ota(self) -> dict[str, Any]:
        """Where updates over the air stand."""
        return self._get("/api/v1/ota")

    def ota_check(self) -> dict[str, Any]:
        """Look for updates; where they stand after it."""
        return self._post("/api/v1/ota/check")

    def ota_activate(self) -> dict[str, Any]:
        """Begin to use what is staged."""
        return self._post("/api/v1/ota/activate")

    def ota_rollback(self) -> dict[str, Any]:
        """Give up what is worked on, or take the last release back."""
        return self._post("/api/v1/ota/rollback")

    def ota_sideload(self, path: Path) -> dict[str, Any]:
        """Look for updates in a repository on the gateway."""
        return self._post("/api/v1/ota/sideload", json.dumps({"path": str(path.absolute())}).encode())

    def reload(self) -> dict[str, Any]:
        """Have the configuration read again."""
        return self._post("/api/v1/reload")

    def health(self, ready: bool = True) -> tuple[bool, list[str]]:
        """Readiness, or liveness; reasons if not."""
        with self._exchange("GET", "/readyz" if ready else "/livez", None, {}, _READ_S) as answer:
            found = _decoded(answer, accept=(200, 503))
        return bool(found["ok"]), list(found["reasons"])

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and body of each live event, until the agent stops; the agent proves to be alive each 15 s."""
        with self._exchange("GET", "/api/v1/events", None, {}, 3 * _READ_S) as answer:
            if answer.status != 200:
                _decoded(answer)
            kind = ""
            for line in answer:
                field, _, value = line.decode("utf-8", "replace").rstrip("\n").partition(": ")
                if field == "event":
                    kind = value
                elif field == "data":
                    yield kind, json.loads(value)

    def _get(self, path: str) -> dict[str, Any]:
        with self._exchange("GET", path, None, {}, _READ_S) as answer:
            return _decoded(answer)

    def _post(
        self, path: str, body: bytes | IO[bytes] = b"{}", kind: str = "application/json", size: int | None = None
    ) -> dict[str, Any]:
        headers = {"Content-Type": kind}
        if size is not None:
            headers["Content-Length"] = str(size)
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        with self._exchange("POST", path, body, headers, _CHANGE_S) as answer:
            return _decoded(answer)

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: bytes | IO[bytes] | None, headers: dict[str, str], timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _connection(self._address, timeout_s)
        try:
            _send(connection, method, path, body, headers)
            with connection.getresponse() as answer:
                yield answer
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise ControlError(
                f"no agent answers at {self._address}: start one with `edge-agent run -c FILE`, "
                "or say where it listens, by its configuration (`-c FILE`) or by `--url`",
                status=503,
            ) from error
        except TimeoutError as error:
            raise ControlError(f"the agent at {self._address} did not answer in {timeout_s:g} s", status=504) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControlError(f"the agent at {self._address} cannot be asked: {error!r}", status=502) from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if isinstance(address, UnixAddress):
        return _UnixConnection(address.path, timeout_s)
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | IO[bytes] | None,
    headers: dict[str, str],
) -> None:
    try:
        connection.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        # Refused before the whole upload was sent: the answer is already there and says why.
        if connection.sock is None:
            raise


def _decoded(answer: http.client.HTTPResponse, accept: tuple[int, ...] = (200,)) -> dict[str, Any]:
    found = json.loads(answer.read(_MAX_ANSWER))
    if not isinstance(found, dict):
        raise ValueError(f"got JSON of type {type(found).__name__}, expected an object")
    if answer.status not in accept:
        raise ControlError(str(found.get("error", f"answered {answer.status}")), status=answer.status)
    return found
