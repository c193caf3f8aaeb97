"""Masters and data keys are rotated while servers work: by `heedwell keys` beside them, as an operator does it, and with clocks that
are set forward, since nobody waits minutes for what takes over in minutes. A text that does not open, or a call that fails, would be
found at once."""

import json
import random
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from support import seeds
from support.contract import ROOT, notify, notify_service_pb2_grpc
from support.faketime import Clock
from support.load import Load
from support.postgres import Cluster
from support.practice import Practice, patient
from support.processes import Sandbox, Server
from support.waiting import until

RATE = 15.0
PEOPLE = 20
# Keys are read again after a minute, and a new one takes over after three. Five minutes of skew are borne.
FRESH, TAKES_OVER = 70, 250


class Reader:
    """Reads the texts of what was accepted, one after the other, until it is told to stop."""

    def __init__(self, practice: Practice, servers: list[Server], load: Load) -> None:
        options = [
            ("grpc.service_config", (ROOT / "clients" / "service_config.json").read_text()),
            ("grpc.default_authority", "heedwell"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        ]
        target = "ipv4:" + ",".join(server.grpc_address for server in servers)
        self._stub = notify_service_pb2_grpc.NotifyServiceStub(grpc.insecure_channel(target, options))
        self._practice, self._load = practice, load
        self._stopped = threading.Event()
        self.read: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        chance = random.Random(1)
        while not self._stopped.is_set():
            known = list(self._load.accepted.values())
            if not known:
                self._stopped.wait(0.05)
                continue
            notification, _ = chance.choice(known)
            try:
                assert text_of(self._stub, self._practice, notification), "there is no text"
                self.read[notification] += 1
            except (grpc.RpcError, AssertionError) as error:
                self.errors[str(error)] += 1

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()


def text_of(stub: Any, practice: Practice, notification_id: str) -> str:
    request = notify.GetNotificationRequest(
        practice_id=practice.id, notification_id=notification_id, view=notify.NOTIFICATION_VIEW_FULL
    )
    found = stub.GetNotification(request, timeout=30, metadata=practice.metadata)
    return "".join(it.content.text for it in found.details)


def passed(load: Load, reader: Reader, count: int) -> None:
    """Waits until so many more sends were accepted, and as many texts were read."""
    goal = len(load.accepted) + count, reader.read.total() + count

    def reached() -> bool:
        load.check()
        assert not load.failed and not reader.errors, f"{load.failed} {reader.errors}"
        return len(load.accepted) >= goal[0] and reader.read.total() >= goal[1]

    until(f"{count} sends and reads more", 60, reached)


def masters(server: Server) -> list[tuple[str, bool]]:
    """The master of each data key, and whether the key seals."""
    lines = server.verb("keys", "list").splitlines()
    found = [re.fullmatch(r"acme [0-9a-f]{32} (master\.\d+) since \S+ (seals|until \S+), \d+ uses", line) for line in lines]
    assert all(found), lines
    return [(it[1], it[2] == "seals") for it in found if it]


@pytest.mark.parametrize("replicas", [1, 2], ids=["sqlite", "postgres"])
def test_keys_are_rotated_under_load(
    replicas: int,
    request: pytest.FixtureRequest,
    sandboxed: Callable[..., Server],
    sandbox: Sandbox,
    tmp_path: Path,
) -> None:
    say = seeds.telling(request)
    cluster: Cluster | None = request.getfixturevalue("cluster") if replicas > 1 else None
    database = cluster.database() if cluster else None
    clock = Clock(tmp_path / "clock")
    settings = {"HEEDWELL_DATA_DIR": str(tmp_path / "data"), **clock.settings}
    servers = [sandboxed(database, "replica-0", **settings)]
    for number in range(1, replicas):
        server = sandboxed(database, f"replica-{number}", HEEDWELL_PUBLIC_URL=servers[0].url, **settings)
        server.private = servers[0].private
        servers.append(server)
    sandbox.tell("dials", callback_hosts=[server.http_address for server in servers])
    people = [patient(f"p{number:04}", mobile_phone=f"+1201555{2000 + number}") for number in range(PEOPLE)]
    practice = Practice(servers[0]).furnish(people, sandbox=sandbox)
    operator, key_file = servers[0], tmp_path / "data" / "master-key"
    load = Load(practice, servers, [it.patient_id for it in people])
    reader = Reader(practice, servers, load)
    try:
        load.send(RATE)
        passed(load, reader, 15)
        assert masters(operator) == [("master.1", True)]
        said = operator.verb("keys", "rotate", "--new-master")
        assert said == "added master.2: copy the file to every replica, and start one of them anew\n"
        if replicas > 1:
            servers[-1].stop()
            servers[-1].start()
        # The one that was started anew may have wrapped it already.
        said = operator.verb("keys", "rotate", "--data")
        expected = r"[01] data keys wrapped anew; in use: master\.2\nacme: a new data key takes over in three minutes\n"
        assert re.fullmatch(expected, said), said
        assert masters(operator) == [("master.2", False), ("master.2", True)]
        passed(load, reader, 15)
        # Whoever was not started anew meets a master that it does not know.
        clock.set(FRESH)
        passed(load, reader, 15)
        clock.set(TAKES_OVER)
        passed(load, reader, 15)
        # The old master is needed by nobody any more.
        lines = key_file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("master.1 ")]
        assert len(kept) == len(lines) - 1
        key_file.write_text("".join(kept))
        if replicas > 1:
            servers[-1].stop()
            servers[-1].start()
        passed(load, reader, 15)
        load.stop_sending()
        reader.stop()
        assert not load.failed and not reader.errors, f"{load.failed} {reader.errors}"
        for server in servers:
            stub = notify_service_pb2_grpc.NotifyServiceStub(server.channel())
            for notification, _ in load.accepted.values():
                assert text_of(stub, practice, notification)
        say(f"{len(load.accepted)} sends, {reader.read.total()} reads, 0 errors")
    finally:
        reader.stop()
        load.close()
    for server in reversed(servers):
        server.stop()
    said = operator.audit("verify")
    assert said.endswith(": holds\n"), said
    trail = [json.loads(line) for line in operator.audit("export", "--practice", "acme").splitlines()]
    told = Counter((it["action"], it["resource"]) for it in trail if it["action"].startswith("keys."))
    assert told == {("keys.master", "keys/master.2"): 1, ("keys.wrap", "keys/master.2"): 1, ("keys.begin", "keys"): 1}
    # Both keys have sealed what is there, the old one what came first.
    assert sealed_by(cluster, database, tmp_path / "data" / "heedwell.db") == 2


def sealed_by(cluster: Cluster | None, database: str | None, file: Path) -> int:
    """How many keys sealed the entries of the trail."""
    if cluster and database:
        said = cluster.execute(database, "SELECT 'keys=' || count(DISTINCT substr(body_ct, 2, 16)) FROM audit")
        return int(re.findall(r"keys=(\d+)", said)[0])
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        return db.execute("SELECT count(DISTINCT substr(body_ct, 2, 16)) FROM audit").fetchone()[0]
