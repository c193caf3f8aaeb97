"""Loopback addresses for the processes under test, and plain HTTP to them."""

import base64
import json
import os
import random
import socket
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

# Below the range from which the system takes ports for outgoing connections: a server that was killed must find its port
# free when it comes back, and a client's connection could have taken it meanwhile.
# Workers that run beside each other have a range each.
_WIDTH = 2_000
_FIRST = 20_000 + _WIDTH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_LAST = _FIRST + _WIDTH
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that no other caller here was given."""
    for port in random.SystemRandom().sample(range(_FIRST, _LAST), 200):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no loopback port is free")


@dataclass(frozen=True)
class Answer:
    """What an HTTP server said, whatever the status."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _Straight(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the caller, who wants to see them."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


# A proxy of the machine would be asked for loopback addresses too, hence the empty handler.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Straight)


def http(
    method: str,
    url: str,
    *,
    form: dict[str, str] | list[tuple[str, str]] | bytes | None = None,
    document: Any = None,
    headers: dict[str, str] | None = None,
    login: tuple[str, str] | None = None,
    limit: float = 40,
) -> Answer:
    """One request. An unreachable server raises `OSError`."""
    headers = dict(headers or {})
    data = None
    if form is not None:
        data = form if isinstance(form, bytes) else urllib.parse.urlencode(form).encode()
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
    elif document is not None:
        data = json.dumps(document).encode()
        headers.setdefault("Content-Type", "application/json")
    if login is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with _opener.open(request, timeout=limit) as reply:
            return Answer(reply.status, reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read())
