"""Links that can be cut, fall silent or lead elsewhere: a forwarder in front of a port or of a database's socket. It runs as a
process of its own, so that neither clients nor watchers slow it down, and ends when its standard input closes."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_PIECE = 64 * 1024


class Links:
    """All links of a run."""

    def __init__(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, __file__], **pipes)
        self._lock = threading.Lock()

    def tell(self, **order: Any) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the links are gone"
        return json.loads(answer)

    def to_address(self, address: str) -> "Link":
        """A link to `ip:port`, itself reached at a port of its own."""
        return Link(self, self.tell(to=address))

    def to_socket(self, socket: Path, folder: Path) -> "Link":
        """A link to a database's socket, itself one in `folder`."""
        folder.mkdir()
        self.tell(to=str(socket), at=str(folder / socket.name))
        return Link(self, str(folder), str(folder / socket.name))

    def from_port(self, socket: Path) -> "Link":
        """A link to a database's socket, itself reached at a port."""
        return Link(self, self.tell(to=str(socket)))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)


class Link:
    """A way to one place. It stays what it is when what is behind it dies and comes back."""

    def __init__(self, links: Links, address: str, name: str | None = None) -> None:
        self._links, self.address, self._name = links, address, name or address

    def cut(self) -> None:
        """Resets every connection and lets none be made."""
        self._links.tell(link=self._name, do="cut")

    def freeze(self) -> None:
        """Lets connections stand, and nothing pass."""
        self._links.tell(link=self._name, do="freeze")

    def heal(self) -> None:
        self._links.tell(link=self._name, do="heal")

    def lead(self, target: str | Path) -> None:
        """Leads elsewhere from now on, and resets what leads to where it was."""
        self._links.tell(link=self._name, do="lead", target=str(target))


class Forwarder:
    """The process's side of a link."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._broken = False

    async def listen(self, at: str | None) -> str:
        if at is not None:
            await asyncio.start_unix_server(self._accept, at)
            # The server that connects may run as somebody else.
            os.chmod(at, 0o666)
            return at
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if self._broken:
                return
            if self._target.startswith("/"):
                there, back = await asyncio.open_unix_connection(self._target)
            else:
                host, _, port = self._target.rpartition(":")
                there, back = await asyncio.open_connection(host, int(port))
            ends.append(back)
            self._open.update(ends)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            pass
        finally:
            for end in ends:
                self._open.discard(end)
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_PIECE):
                # A silent link loses nothing, and tells neither side.
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self) -> None:
        self._broken = True
        self._flows.set()
        self._reset()

    def lead(self, target: str) -> None:
        self._target = target
        self._reset()

    def _reset(self) -> None:
        for writer in list(self._open):
            # As from a router that forgot the connection.
            writer.transport.abort()

    def freeze(self) -> None:
        self._flows.clear()

    def heal(self) -> None:
        self._broken = False
        self._flows.set()


async def main() -> None:
    forwarders: dict[str, Forwarder] = {}
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        answer = ""
        if "to" in order:
            forwarder = Forwarder(order["to"])
            answer = await forwarder.listen(order.get("at"))
            forwarders[answer] = forwarder
        else:
            getattr(forwarders[order.pop("link")], order.pop("do"))(**order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
