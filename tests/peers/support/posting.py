"""Many POSTs at once, each byte for byte as given, over connections that stay open and are asked ahead of their answers."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_CONNECTIONS, _AHEAD = 16, 8
# So often a connection may end without one more answer; a server that refuses what it cannot read ends it after each.
_TRIES = 3


@dataclass(frozen=True)
class Post:
    """One request. Nothing is encoded: whoever makes it may say what no client would."""

    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def bytes(self, host: str) -> bytes:
        lines = [b"POST %b HTTP/1.1" % self.target, b"Host: " + host.encode()]
        lines += [b"%b: %b" % header for header in self.headers]
        lines += [b"Content-Length: %d" % len(self.body), b"", self.body]
        return b"\r\n".join(lines)


def post_all(address: str, posts: Iterable[Post]) -> list[int]:
    """The status of each answer, in the order of the requests, which are made while they are sent."""
    statuses: dict[int, int] = {}
    numbered = enumerate(posts)

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(_Line(address, numbered, statuses).run())

    asyncio.run(all_of_them())
    return [statuses[number] for number in range(len(statuses))]


class _Line:
    """One connection after the other, with what it was asked and has not answered yet."""

    def __init__(self, address: str, posts: Iterator[tuple[int, Post]], statuses: dict[int, int]) -> None:
        self._address, self._posts, self._statuses = address, posts, statuses
        self._open: deque[tuple[int, bytes]] = deque()

    async def run(self) -> None:
        failed = 0
        while self._open or self._refill(1):
            before = len(self._statuses)
            host, _, port = self._address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                await self._talk(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                failed = 0 if len(self._statuses) > before else failed + 1
                if failed == _TRIES:
                    raise
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # After a break the first goes alone: were others sent behind it, its answer might be lost once more.
        sent = 0
        ahead = 1
        while self._open or self._refill(ahead):
            self._refill(ahead)
            writer.write(b"".join(data for _, data in list(self._open)[sent:ahead]))
            sent = min(ahead, len(self._open))
            status = await _status(reader)
            number, _ = self._open.popleft()
            self._statuses[number] = status
            sent -= 1
            ahead = _AHEAD

    def _refill(self, most: int) -> bool:
        while len(self._open) < most:
            following = next(self._posts, None)
            if following is None:
                break
            number, post = following
            self._open.append((number, post.bytes(self._address)))
        return bool(self._open)


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    line, _, headers = head.partition(b"\r\n")
    for header in headers.split(b"\r\n"):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            await reader.readexactly(int(value))
    return int(line.split(b" ")[1])
