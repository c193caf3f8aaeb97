"""A small disk that fills up, again and again: new work is refused cleanly, what was accepted is finished, nothing is damaged or
lost, and the server goes on by itself when there is space again."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from support.contract import notify
from support.disk import Disk
from support.practice import CANCELLED, DELIVERED, EMAIL, IN_APP, PENDING, SENT, SMS, Practice, patient
from support.processes import Sandbox, Server
from support.waiting import until

MIB = 1 << 20
# With the usual limits a disk of this size would take nothing at all.
DISK, RESERVE, BALLAST = 64 * MIB, 16 * MIB, 4 * MIB
CYCLES = 4
# How soon sends are accepted again once there is space.
RESUME_LIMIT = 5


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk", DISK // MIB)
    yield disk
    disk.end()


@pytest.fixture
def practice(disk: Disk, tmp_path: Path, processes: list[Any], sandbox: Sandbox) -> Practice:
    """On a server whose database is on the small disk."""
    settings = {
        "HEEDWELL_DATA_DIR": str(tmp_path / "disk" / "data"),
        "HEEDWELL_DISK_RESERVE_MIB": str(RESERVE // MIB),
        "HEEDWELL_TWILIO_URL": sandbox.twilio_url,
        "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on",
    }
    server = Server("server", tmp_path, None, settings, within=disk.within)
    processes.append(server)
    server.start()
    patients = [patient(), patient("slow", email="slow@example.com")]
    return Practice(server).furnish(patients, sandbox=sandbox)


def ballast(disk: Disk) -> int:
    """The space that it takes."""
    file = disk.path("data/heedwell.db.ballast")
    return file.stat().st_blocks * 512 if file.exists() else 0


def holds_ballast(disk: Disk) -> None:
    until("the ballast is in its place", 30, lambda: ballast(disk) == BALLAST)


def refused(practice: Practice, request_id: str) -> bool:
    """Whether a send is refused, which it must be as the contract says."""
    try:
        practice.send(request_id, "system", channels=[IN_APP])
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
        status = rpc_status.from_call(error)
        assert status is not None
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert any(it.Unpack(info) for it in status.details) and info.reason == "STORE_UNAVAILABLE"
        assert any(it.Unpack(retry) for it in status.details) and retry.HasField("retry_delay")
        return True
    return False


def send_until_refused(practice: Practice, name: str) -> list[Any]:
    """Fills the disk as callers do, up to the reserve, and yields what was accepted."""
    accepted: list[Any] = []
    for batch in range(200):
        items = [
            notify.BatchSendNotificationsRequest.BatchItem(
                request_id=f"{name}-{batch}-{number}",
                notification=practice.request("", "document_shared", channels=[IN_APP]).notification,
            )
            for number in range(100)
        ]
        request = notify.BatchSendNotificationsRequest(practice_id=practice.id, items=items)
        results = practice.call(practice.notify.BatchSendNotifications, request).results
        accepted += [it.notification for it in results if it.HasField("notification")]
        if len([it for it in results if it.HasField("error")]) == len(items):
            return accepted
    raise AssertionError(f"20,000 sends were accepted; {practice.server.tail()}")


def stock(practice: Practice, name: str) -> list[Any]:
    """Notifications that are not due for long, to be called off one by one."""
    tomorrow = {"seconds": int(time.time()) + 86_400}
    items = [
        notify.BatchSendNotificationsRequest.BatchItem(
            request_id=f"{name}-{number}",
            notification=practice.request("", "system", channels=[IN_APP], schedule_time=tomorrow).notification,
        )
        for number in range(500)
    ]
    request = notify.BatchSendNotificationsRequest(practice_id=practice.id, items=items)
    return [it.notification for it in practice.call(practice.notify.BatchSendNotifications, request).results]


def cancel_until_the_ballast_is_gone(practice: Practice, disk: Disk, stock: list[Any]) -> int:
    """Writes what is never refused until nothing is left to write on, and a little more. A call that meets the end of the disk
    fails, and its repeat does not. Yields how many met it."""
    met, after = 0, 0
    for notification in stock:
        request = notify.CancelNotificationRequest(
            practice_id=practice.id, notification_id=notification.notification_id
        )
        while True:
            try:
                practice.call(practice.notify.CancelNotification, request)
                break
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE and ballast(disk) == 0, error
                met += 1
                assert met < 10, practice.server.tail()
        after += ballast(disk) == 0
        if after == 10:
            return met
    raise AssertionError("all could be called off, and the ballast was never needed")


def is_sound(disk: Disk, folder: Path) -> None:
    """Checks a copy of the database as it lies on the disk, with what is only in its log so far."""
    folder.mkdir()
    for name in ("heedwell.db", "heedwell.db-wal"):
        if disk.path(f"data/{name}").exists():
            shutil.copy(disk.path(f"data/{name}"), folder / name)
    with closing(sqlite3.connect(folder / "heedwell.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    shutil.rmtree(folder)


def test_a_disk_that_fills_up_again_and_again_loses_nothing(
    practice: Practice, disk: Disk, sandbox: Sandbox, tmp_path: Path
) -> None:
    server = practice.server
    holds_ballast(disk)
    accepted: list[Any] = []
    resumed: list[float] = []
    met = 0
    for cycle in range(CYCLES):
        # As callers fill it: the reserve is left.
        disk.fill(leave=RESERVE + MIB)
        accepted += send_until_refused(practice, f"fill-{cycle}")
        assert disk.free > RESERVE - 2 * MIB and ballast(disk) == BALLAST
        disk.empty()

        # As something else fills it, to the last byte, while mails are under way.
        to_cancel = stock(practice, f"stock-{cycle}")
        sandbox.tell("dials", slow_reply_ms=3_000)
        before = len(sandbox.journal("smtp_message"))
        mails = [practice.send(f"mail-{cycle}-{n}", "payment_due", "slow", channels=[EMAIL]) for n in range(12)]
        accepted += to_cancel + mails
        until("the relay has the mails", 60, lambda: len(sandbox.journal("smtp_message")) - before == len(mails))
        disk.fill(leave=0)
        assert refused(practice, f"full-{cycle}")
        met += cancel_until_the_ballast_is_gone(practice, disk, to_cancel)
        for mail in mails:
            practice.wait_for(mail, {EMAIL: SENT}, 60)
        assert refused(practice, f"full-{cycle}") and ballast(disk) == 0

        if cycle % 2:
            # Whatever state the kill finds it in.
            server.kill()
            is_sound(disk, tmp_path / "copy")
            disk.empty()
            server.restart()
        else:
            disk.empty()
        since = time.monotonic()
        until("sends are accepted again", RESUME_LIMIT, lambda cycle=cycle: not refused(practice, f"full-{cycle}"))
        resumed.append(time.monotonic() - since)
        accepted.append(practice.send(f"text-{cycle}", "payment_due", channels=[SMS]))
        holds_ballast(disk)

    promised = {it.delivery_id for notification in accepted for it in notification.deliveries}
    arrived = {IN_APP: (DELIVERED, CANCELLED, PENDING), EMAIL: (SENT,), SMS: (DELIVERED,)}
    listed = practice.wait("the end of them all", lambda it: all(one.state in arrived[one.channel] for one in it.values()))
    assert not promised - listed.keys(), f"{len(promised - listed.keys())} that were accepted are missing"
    # One more each cycle: the send that showed that there is space again.
    assert len(listed) == len(promised) + CYCLES
    server.stop()
    is_sound(disk, tmp_path / "copy")
    print(f"{len(promised)} accepted, {met} cancels met the end of the disk, resumed in {max(resumed):.2f} s at most")
