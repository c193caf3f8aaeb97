"""Clients by the dozen, as a deployment has them: they know all replicas, and follow the deadlines, retries and balancing that
clients/service_config.json tells every client. All of them live in one event loop, in a thread of its own."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc

from . import contract
from .contract import ROOT, notify, types
from .practice import ROLES, Practice
from .processes import Server

# A stream that says nothing for three of its shortest heartbeats is dead, whatever TCP thinks of it.
_HEARTBEAT = 5
# So many watches share a connection and a token: a server bears more of neither than 200 and 100.
_TOGETHER = 50
# These mean that the server or the way to it is gone for now: call again with the last cursor.
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)
# After these the application may ask once more by itself; nothing was said of what became of the call.
_REPEAT = (*_AGAIN, grpc.StatusCode.DEADLINE_EXCEEDED)
# The contract: at once after a planned end, but not all at once; with a growing pause after an error.
_JITTER, _PAUSE = 1.0, (1.0, 30.0)


class Stream:
    """One watch over the deliveries of one patient, or of all, which is resumed by its cursor across every end."""

    def __init__(self, patient_id: str, cursor: str) -> None:
        self.patient_id, self.cursor = patient_id, cursor
        # The revision and the state in which each delivery was told last.
        self.told: dict[str, tuple[int, int]] = {}
        # Changes that were left out, and that came once more or late.
        self.missed = self.repeated = 0
        self.ends: Counter[str] = Counter()
        # The longest time without a stream, in seconds, but for the pauses that the client makes by itself.
        self.away = 0.0

    def take(self, change: Any) -> None:
        it = change.delivery
        revision, state = self.told.get(it.delivery_id, (0, types.DELIVERY_STATE_UNSPECIFIED))
        if it.revision <= revision:
            self.repeated += 1
            return
        if it.revision != revision + 1 or change.previous_state != state:
            self.missed += 1
        self.told[it.delivery_id] = (it.revision, it.state)

    def agrees(self, listed: dict[str, Any]) -> bool:
        """Whether what was told is just what a list shows."""
        mine = {
            it.delivery_id: (it.revision, it.state)
            for it in listed.values()
            if self.patient_id in ("", it.patient_id)
        }
        return self.told == mine


class Load:
    """Sends at a rate, and streams. What failed is counted by what was said of it, after gRPC's own tries."""

    def __init__(self, practice: Practice, servers: Sequence[Server], patients: Sequence[str], config: str | None = None) -> None:
        """`config` in place of the published one is for showing what that is good for."""
        self._practice = practice
        self._target = "ipv4:" + ",".join(server.grpc_address for server in servers)
        self._config = config or (ROOT / "clients" / "service_config.json").read_text()
        self._patients = patients
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._pace: asyncio.Task[None] | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self.streams: list[Stream] = []
        self.failed: Counter[str] = Counter()
        # What was accepted, and when (`time.monotonic()`), by the number of the send; and how many sends there were.
        self.accepted: dict[str, tuple[str, float]] = {}
        self.sends = 0
        # Calls that the application made again, after gRPC's own tries.
        self.again: Counter[str] = Counter()

    def _do(self, work: Coroutine[Any, Any, Any], limit: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=limit)

    def _stub(self) -> Any:
        options = [
            ("grpc.service_config", self._config),
            # Of a list of addresses gRPC's own choice is no authority that HTTP/2 would allow.
            ("grpc.default_authority", "heedwell"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        return contract.notify_service_pb2_grpc.NotifyServiceStub(grpc.aio.insecure_channel(self._target, options))

    # Sending.

    def send(self, rate: float, insist: bool = False) -> None:
        """Begins to send so many a second. Who insists repeats what failed until it is accepted."""

        async def begin() -> None:
            self._pace = asyncio.create_task(self._guard(self._send_all(self._stub(), rate, insist)))

        self._do(begin())

    async def _send_all(self, stub: Any, rate: float, insist: bool) -> None:
        began = time.monotonic()
        first = self.sends
        while True:
            # By the clock, and not one pause after the other, so that a busy machine sends as much as an idle one.
            while self.sends - first < (time.monotonic() - began) * rate:
                task = asyncio.create_task(self._guard(self._send_one(stub, self.sends, insist)))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                self.sends += 1
            await asyncio.sleep(1 / rate)

    async def _send_one(self, stub: Any, number: int, insist: bool) -> None:
        name = f"send-{number}"
        patient_id = self._patients[number % len(self._patients)]
        # It has a secure link, so that no two texts are alike.
        request = self._practice.request(name, "appointment_confirmed", patient_id, channels=[types.CHANNEL_SMS])
        while True:
            try:
                answer = await stub.SendNotification(request, metadata=self._practice.metadata)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                # Who is turned away comes again, no sooner than after what the server asks for, a second.
                if code is grpc.StatusCode.RESOURCE_EXHAUSTED or (insist and code in _REPEAT):
                    self.again[f"{code.name}: {error.details()}"] += 1
                    await asyncio.sleep(random.uniform(1.0, 2.0))
                    continue
                self.failed[f"{error.code().name}: {error.details()}"] += 1
                return
            self.accepted[name] = (answer.notification.notification_id, time.monotonic())
            return

    def stop_sending(self) -> None:
        """Sends no more, and waits for what is under way."""

        async def end() -> None:
            assert self._pace is not None
            self._pace.cancel()
            while self._under_way:
                await asyncio.gather(*self._under_way)

        self._do(end(), limit=180)
        self.check()

    # Watching.

    def watch(self, count: int, cursor: str) -> None:
        """Opens streams: the first shows all, each of the others what is one patient's."""
        names = ["", *(self._patients[number % len(self._patients)] for number in range(count - 1))]
        self.streams = [Stream(name, cursor) for name in names]
        tokens = [
            self._practice.server.token(*ROLES, practice=self._practice.id, subject=f"watcher-{number}")
            for number in range((count - 1) // _TOGETHER + 1)
        ]

        async def begin() -> None:
            for number, token in enumerate(tokens):
                stub, metadata = self._stub(), (("authorization", f"Bearer {token}"),)
                for stream in self.streams[number * _TOGETHER : (number + 1) * _TOGETHER]:
                    self._watches.append(asyncio.create_task(self._guard(self._follow(stub, metadata, stream))))

        self._do(begin())

    async def _follow(self, stub: Any, metadata: Any, stream: Stream) -> None:
        ended, pause = time.monotonic(), _PAUSE[0]
        selector = notify.DeliveryFilter(patient_ids=[stream.patient_id] if stream.patient_id else [])
        while True:
            request = notify.WatchDeliveriesRequest(
                practice_id=self._practice.id,
                filter=selector,
                cursor=stream.cursor,
                heartbeat_interval={"seconds": _HEARTBEAT},
            )
            call = stub.WatchDeliveries(request, metadata=metadata)
            try:
                while True:
                    # Bears the opening, too.
                    async with asyncio.timeout(3 * _HEARTBEAT):
                        response = await call.read()
                    if response is grpc.aio.EOF:
                        break
                    if ended:
                        stream.away = max(stream.away, time.monotonic() - ended)
                        ended, pause = 0.0, _PAUSE[0]
                    for change in response.changes:
                        stream.take(change)
                    # Kept only once the changes are: that is what makes the resume complete.
                    stream.cursor = response.cursor
                code = await call.code()
            except TimeoutError:
                call.cancel()
                code = grpc.StatusCode.CANCELLED
            except grpc.aio.AioRpcError as error:
                code = error.code()
            ended = ended or time.monotonic()
            stream.ends[code.name] += 1
            if code is grpc.StatusCode.OK:
                ended += await _rest(_JITTER)
            elif code in _AGAIN or code is grpc.StatusCode.CANCELLED:
                ended += await _rest(pause)
                pause = min(2 * pause, _PAUSE[1])
            else:
                raise AssertionError(f"a watch ended with {code}")

    def watching(self) -> bool:
        """Whether every stream has been heard."""
        self.check()
        return all(stream.away for stream in self.streams)

    # The end.

    async def _guard(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - shown by the thread that asks.
            self.error = self.error or error

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        async def end() -> None:
            tasks = [it for it in asyncio.all_tasks() if it is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


async def _rest(longest: float) -> float:
    """A pause of any length up to that. Says how long it was."""
    began = time.monotonic()
    await asyncio.sleep(random.uniform(0, longest))
    return time.monotonic() - began
