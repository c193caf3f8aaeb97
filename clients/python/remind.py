"""Reminds patients of their visits, and tells what becomes of each reminder. ../README.md says what goes in and out.

The client's modules are generated beside this file:

    pip install -r requirements.txt
    python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. ../../proto/heedwell/v1/*.proto
"""

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from heedwell.v1 import notify_service_pb2 as pb
from heedwell.v1 import notify_service_pb2_grpc as rpc
from heedwell.v1 import types_pb2 as types

ADDRESS = os.environ.get("HEEDWELL_ADDR", "127.0.0.1:50051")
PRACTICE = os.environ["HEEDWELL_PRACTICE"]
TOKEN_FILE = Path(os.environ["HEEDWELL_TOKEN_FILE"])

# Deadlines, and what the channel repeats by itself. That bridges a moment; the loops below bridge everything longer.
SERVICE_CONFIG = Path(__file__).resolve().parents[1] / "service_config.json"

# A stream says at least every so many seconds that it is alive. One that misses three is dead, whatever TCP thinks of it.
HEARTBEAT = 5

# So many visits are sent side by side: one that has to wait holds up no other.
SIDE_BY_SIDE = 16

# A token that is refused for so many seconds is not going to be renewed.
TOKEN_LIMIT = 300

# After these the same call may do. Every call may be repeated: request_id sees to it that it happens once.
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAUTHENTICATED,  # By then there may be a new token.
}


def say(**event) -> None:
    print(json.dumps(event), flush=True)


def bearer() -> tuple:
    """Read for each call: whoever renews the token writes it to the file before the old one ends."""
    return (("authorization", f"Bearer {TOKEN_FILE.read_text().strip()}"),)


def detail(error: grpc.RpcError, message):
    """The message of google.rpc that came with an error; empty if none of its type did."""
    status = rpc_status.from_call(error)
    for packed in status.details if status else ():
        if packed.Unpack(message):
            break
    return message


class Pauses:
    """Between the tries of one call."""

    def __init__(self) -> None:
        self._failures = 0
        self._refused: float | None = None

    async def wait(self, error: grpc.RpcError) -> None:
        """Waits longer each time, never less than the server asks for, and not as long as everybody else."""
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            self._refused = None
        elif self._refused is None:
            self._refused = time.monotonic()
        elif time.monotonic() - self._refused > TOKEN_LIMIT:
            print(f"The token has been refused for {TOKEN_LIMIT} seconds: {error.details()}", file=sys.stderr, flush=True)
            # At once: no other task has anything to add, and each line was written as it was said.
            os._exit(1)
        say(waiting=error.code().name)
        asked = detail(error, error_details_pb2.RetryInfo()).retry_delay.ToTimedelta().total_seconds()
        await asyncio.sleep(max(asked, 1 + random.random() * min(29, 2**self._failures)))
        self._failures += 1


def when(text: str) -> datetime:
    """A time with its zone: without, it would be another one on each machine."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return instant


def reminder(line: str) -> pb.SendNotificationRequest:
    """What is asked of the server for one line."""
    visit = json.loads(line)
    start = when(visit["start"])
    return pb.SendNotificationRequest(
        practice_id=PRACTICE,
        # Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice. A
        # visit that was moved is another one.
        request_id=f"reminder:{visit['appointment']}:{int(start.timestamp())}",
        notification=pb.NotificationInput(
            patient_id=visit["patient"],
            appointment_reminder=pb.AppointmentDetails(start_time=start),
            schedule_time=when(visit["send"]) if "send" in visit else None,
            reference=visit["appointment"],
        ),
    )


async def remind(notify: rpc.NotifyServiceStub, number: int, line: str) -> None:
    """Sends one reminder, however long the server may be away."""
    try:
        request = reminder(line)
    except (ValueError, KeyError, TypeError) as error:
        # One bad line is no reason to leave the others.
        wrong = {"field": "line", "description": repr(error)}
        return say(refused=f"line {number}", reason="NOT_A_VISIT", violations=[wrong])
    pauses = Pauses()
    while True:
        try:
            answer = await notify.SendNotification(request, metadata=bearer())
            return say(accepted=request.request_id, replayed=answer.replayed)
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                reason = detail(error, error_details_pb2.ErrorInfo()).reason
                wrong = detail(error, error_details_pb2.BadRequest()).field_violations
                violations = [{"field": each.field, "description": each.description} for each in wrong]
                return say(refused=request.request_id, reason=reason, violations=violations)
            await pauses.wait(error)


class Deliveries:
    """All deliveries of the practice, as of the last change."""

    def __init__(self, notify: rpc.NotifyServiceStub) -> None:
        self._notify = notify
        self._revisions: dict[str, int] = {}

    async def follow(self) -> None:
        """Keeps up, across the end of every stream."""
        cursor, pauses = "", Pauses()
        while True:
            try:
                cursor = cursor or await self._list()
                async for cursor in self._watch(cursor):
                    pauses = Pauses()
                # Ended as planned. A server that stops ends all its streams, so not everybody comes back at once.
                await asyncio.sleep(random.random())
            except TimeoutError:
                say(waiting="HEARTBEAT")
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                    # The changes after the cursor are gone: it is a week old, or the database came back from a backup.
                    say(gap=True)
                    cursor = ""
                elif error.code() in PASSING:
                    await pauses.wait(error)
                else:
                    raise

    async def _list(self) -> str:
        """Takes everything in, and returns where to watch from: a cursor from before the first page was read."""
        request = pb.ListDeliveriesRequest(practice_id=PRACTICE, page_size=500)
        cursor = ""
        while True:
            page = await self._notify.ListDeliveries(request, metadata=bearer())
            cursor = cursor or page.watch_cursor
            for delivery in page.deliveries:
                self._apply(delivery)
            # A page may be short and still not be the last.
            if not page.next_page_token:
                return cursor
            request.page_token = page.next_page_token

    async def _watch(self, cursor: str) -> AsyncIterator[str]:
        """One stream; yields where to go on from."""
        request = pb.WatchDeliveriesRequest(practice_id=PRACTICE, cursor=cursor, heartbeat_interval={"seconds": HEARTBEAT})
        stream = self._notify.WatchDeliveries(request, metadata=bearer())
        while (step := await asyncio.wait_for(stream.read(), 3 * HEARTBEAT)) is not grpc.aio.EOF:
            for change in step.changes:
                self._apply(change.delivery)
            # Not before its changes are applied, else a crash in between loses them. Kept on disk, both go there together.
            yield step.cursor

    def _apply(self, delivery: pb.Delivery) -> None:
        # Lists and watches overlap, and a watch may repeat itself.
        if delivery.revision > self._revisions.get(delivery.delivery_id, 0):
            self._revisions[delivery.delivery_id] = delivery.revision
            say(delivery=delivery.delivery_id, revision=delivery.revision, state=state_name(delivery.state))


def state_name(state: int) -> str:
    """A newer server may have states that this program was not built with."""
    known = state in types.DeliveryState.values()
    return types.DeliveryState.Name(state).removeprefix("DELIVERY_STATE_") if known else "OTHER"


async def lines() -> AsyncIterator[str]:
    """From standard input, until it ends; in a thread, since reading it blocks."""
    read: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def follow() -> None:
        # Not sys.stdin, whose lock a thread that waits would keep from a program that ends.
        with open(0, closefd=False) as given:
            for line in given:
                loop.call_soon_threadsafe(read.put_nowait, line)
        loop.call_soon_threadsafe(read.put_nowait, "")

    threading.Thread(target=follow, daemon=True).start()
    while line := await read.get():
        yield line


async def send(notify: rpc.NotifyServiceStub) -> None:
    """Reminds of every visit that is given."""
    free, number = asyncio.Semaphore(SIDE_BY_SIDE), 0

    async def one(number: int, line: str) -> None:
        try:
            await remind(notify, number, line)
        finally:
            free.release()

    async with asyncio.TaskGroup() as tasks:
        async for line in lines():
            number += 1
            await free.acquire()
            tasks.create_task(one(number, line))


async def main() -> None:
    options = [("grpc.service_config", SERVICE_CONFIG.read_text()), ("grpc.max_reconnect_backoff_ms", 5_000)]
    # To another machine: grpc.aio.secure_channel(ADDRESS, grpc.ssl_channel_credentials(), options).
    async with grpc.aio.insecure_channel(ADDRESS, options) as channel, asyncio.TaskGroup() as tasks:
        notify = rpc.NotifyServiceStub(channel)
        following = tasks.create_task(Deliveries(notify).follow())
        await send(notify)
        following.cancel()


asyncio.run(main())
