"""Three replicas on one PostgreSQL, and what operators do to them and to the database while clients go on: rolling restarts, a
crash of the database, a standby that takes over, a schema that is newer, a pooler. `HEEDWELL_DRILL_RESTARTS`, `_RATE`, `_STREAMS`
and `_DRAIN_SECONDS` make the rolling restarts longer.

What a replica does that stands still for longer than a lease is asked by `tests/chaos/run --profile stops`."""

import json
import os
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support import seeds
from support.contract import notify
from support.links import Links
from support.load import Load
from support.pooler import Pooler
from support.postgres import Cluster
from support.practice import DELIVERED, PENDING, SENT, UNCONFIRMED, Practice, patient, table
from support.processes import Process, Sandbox, Server, binary
from support.waiting import until

T = TypeVar("T")

REPLICAS = 3
RESTARTS = int(os.environ.get("HEEDWELL_DRILL_RESTARTS") or 3)
RATE = float(os.environ.get("HEEDWELL_DRILL_RATE") or 20)
STREAMS = int(os.environ.get("HEEDWELL_DRILL_STREAMS") or 40)
DRAIN = os.environ.get("HEEDWELL_DRILL_DRAIN_SECONDS") or "1"
# What is long waits for the end of everything that is in doubt as well.
LONG = "HEEDWELL_DRILL_RESTARTS" in os.environ
# Streams where they are not what is asked about.
FEW = 6
# Connections to each replica that never say a word.
MUTE = 50
# How long a stream may be away, in seconds.
AWAY = 2.0
# A delivery in doubt may need, one after the other: its lease (60 s), the next search for ended leases (5 s), and the second
# look at the provider (120 s and a fifth). The rest is for a busy machine.
SETTLE_LIMIT = 60 + 5 + 144 + 120


def patients(count: int) -> list[Any]:
    return [
        patient(f"p{number:04}", mobile_phone=f"+1{201 + number // 5000}555{2000 + number % 5000}", email=f"p{number:04}@example.com")
        for number in range(count)
    ]


@dataclass
class Replicas:
    """A deployment: replicas, the stand-ins of its providers, and a practice."""

    servers: list[Server]
    sandbox: Sandbox
    practice: Practice
    patients: list[str]

    def settled(self, load: Load, since: float = 0) -> dict[str, Any]:
        """All deliveries, once none is open that was accepted since (`time.monotonic()`), nobody reports any more and every stream
        shows the same."""
        undecided = notify.DeliveryFilter(states=[PENDING, UNCONFIRMED])

        def closed() -> bool:
            waited = {notification for notification, at in load.accepted.values() if at > since}
            found = self.practice.deliveries(filter=undecided)
            return not any(it.notification_id in waited for it in found.values())

        until("nothing is open", SETTLE_LIMIT, closed, pause=0.2)
        self.sandbox.stop()
        # A callback that came last may still be on its way into the database.
        return until("every stream shows what is listed", 60, lambda: self._agreed(load), pause=0.5)

    def _agreed(self, load: Load) -> dict[str, Any] | None:
        load.check()
        listed = self.practice.deliveries()
        return listed if all(stream.agrees(listed) for stream in load.streams) else None

    def check_sent_once(self, load: Load, listed: dict[str, Any]) -> int:
        """Each send was accepted once, is listed, and reached the provider once. Says of how many that is not known yet."""
        assert not load.failed, f"calls failed: {load.failed}"
        ids = [notification for notification, _ in load.accepted.values()]
        assert len(ids) == load.sends == len(set(ids))
        assert Counter(it.notification_id for it in listed.values()) == Counter(ids), "the list and what was accepted differ"
        doubtful = {it.delivery_id for it in listed.values() if it.state in (PENDING, UNCONFIRMED)}
        known = [it for it in listed.values() if it.delivery_id not in doubtful]
        wrong = [it for it in known if it.state not in (SENT, DELIVERED) or it.possible_duplicate]
        assert not wrong, table(wrong)
        entries = map(json.loads, self.sandbox.journal_file.read_text().splitlines())
        left = {it["sid"]: (it["to"], it["body"]) for it in entries if it["event"] == "twilio_create"}
        twice = {text: count for text, count in Counter(left.values()).items() if count > 1}
        assert not twice, f"{len(twice)} texts went out more than once"
        sids = {it.provider_message_id for it in known}
        assert len(sids) == len(known) and sids <= left.keys(), "a text that is listed as sent did not leave"
        assert len(left) - len(known) <= len(doubtful), "texts left that nobody asked for"
        return len(doubtful)

    def check_streams(self, load: Load) -> str:
        """Each stream told every change once and in order. Says how many there were."""
        missed, repeated = (sum(getattr(it, name) for it in load.streams) for name in ("missed", "repeated"))
        assert (missed, repeated) == (0, 0), f"of the changes {missed} were missed and {repeated} repeated"
        told = sum(revision for it in load.streams for revision, _ in it.told.values())
        ends = sum((it.ends for it in load.streams), Counter())
        away = max(it.away for it in load.streams)
        return f"{told} changes told by {len(load.streams)} streams, which ended {dict(ends)} and were away {away:.1f} s at most"


Start = Callable[..., Replicas]


@pytest.fixture
def replicas(sandboxed: Callable[..., Server], sandbox: Sandbox, tmp_path: Path) -> Start:
    """Starts replicas on a database: `replicas(url, HEEDWELL_DRAIN_SECONDS="1")`."""

    def start(database: str, people: int = STREAMS, **settings: str) -> Replicas:
        settings = {"HEEDWELL_DATA_DIR": str(tmp_path / "data"), "RUST_LOG": "info", **settings}
        # It makes the keys, and has the address under which a load balancer would have all of them.
        servers = [sandboxed(database, "replica-0", **settings)]
        for number in range(1, REPLICAS):
            server = sandboxed(database, f"replica-{number}", HEEDWELL_PUBLIC_URL=servers[0].url, **settings)
            server.private = servers[0].private
            servers.append(server)
        sandbox.tell("dials", callback_hosts=[server.http_address for server in servers])
        people_ = patients(people)
        practice = Practice(servers[0]).furnish(people_, sandbox=sandbox)
        return Replicas(servers, sandbox, practice, [it.patient_id for it in people_])

    return start


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    return seeds.telling(request)


@contextmanager
def loaded(deployment: Replicas, config: str | None = None) -> Iterator[Load]:
    load = Load(deployment.practice, deployment.servers, deployment.patients, config)
    try:
        yield load
    finally:
        load.close()


@contextmanager
def closing_with(it: T, close: Callable[[T], None]) -> Iterator[T]:
    try:
        yield it
    finally:
        close(it)


@contextmanager
def mute(server: Server) -> Iterator[None]:
    """Connections to the gRPC port that never say a word; the server may end them."""
    host, _, port = server.grpc_address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(MUTE):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
        yield


def passed(load: Load, count: int) -> None:
    """Waits until so many more sends were accepted."""
    goal = len(load.accepted) + count

    def reached() -> bool:
        load.check()
        return len(load.accepted) + load.failed.total() >= goal

    until(f"{count} sends more", 60 + count, reached)


def test_rolling_restarts_lose_no_call_and_no_change(cluster: Cluster, replicas: Start, say: Callable[[str], None]) -> None:
    deployment = replicas(cluster.database(), HEEDWELL_DRAIN_SECONDS=DRAIN)
    exits: list[float] = []
    with loaded(deployment) as load:
        load.watch(STREAMS, deployment.practice.cursor())
        until("every stream is open", 60, load.watching)
        load.send(RATE)
        for turn in range(RESTARTS):
            # As long as a deployment waits before it goes on to the next one.
            passed(load, round(RATE))
            server = deployment.servers[turn % REPLICAS]
            with mute(server):
                began = time.monotonic()
                server.stop()
                exits.append(time.monotonic() - began)
            server.start()
        passed(load, round(RATE))
        load.stop_sending()
        listed = deployment.settled(load)
        say(
            f"{RESTARTS} restarts: {load.sends} sends, failed {dict(load.failed)}, turned away {dict(load.again)}; "
            f"exits took {statistics.median(exits):.1f} s, the slowest {max(exits):.1f} s"
        )
        say(deployment.check_streams(load))
        assert deployment.check_sent_once(load, listed) == 0
        assert RESTARTS < REPLICAS or all(it.ends["OK"] for it in load.streams), "a stream saw nothing of it"
        away = max(it.away for it in load.streams)
        assert away <= AWAY, f"a stream was away for {away:.1f} s"


def test_a_crash_of_the_database_loses_nothing(cluster: Cluster, replicas: Start, say: Callable[[str], None]) -> None:
    deployment = replicas(cluster.database())
    with loaded(deployment) as load:
        load.watch(FEW, deployment.practice.cursor())
        until("every stream is open", 60, load.watching)
        load.send(RATE, insist=True)
        passed(load, 30)
        began = time.monotonic()
        cluster.crash()
        took = time.monotonic() - began
        passed(load, 30)
        load.stop_sending()
        listed = deployment.settled(load, since=0 if LONG else began + took)
        doubtful = deployment.check_sent_once(load, listed)
        say(f"a crash of {took:.1f} s: {load.sends} sends, asked again after {dict(load.again)}; {doubtful} still in doubt")
        say(deployment.check_streams(load))


def test_a_standby_that_takes_over_has_all_that_was_accepted(
    processes: list[Process], replicas: Start, say: Callable[[str], None]
) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(closing_with(Cluster(), Cluster.stop))
        standby = stack.enter_context(closing_with(Cluster(primary), Cluster.stop))
        links = stack.enter_context(closing_with(Links(), Links.close))
        url = primary.database()
        primary.wait_for_standby(url)
        # Stands for the operator's proxy or floating address: the driver takes one host.
        link = links.from_port(primary.socket)
        name = url.partition("?")[0].rpartition("/")[2]
        deployment = replicas(f"postgres://postgres@{link.address}/{name}")
        with loaded(deployment) as load:
            load.watch(FEW, deployment.practice.cursor())
            until("every stream is open", 60, load.watching)
            load.send(RATE, insist=True)
            passed(load, 30)
            primary.stop()
            lost = time.monotonic()
            standby.promote()
            link.lead(standby.socket)
            promoted = time.monotonic()
            passed(load, 30)
            load.stop_sending()
            listed = deployment.settled(load, since=0 if LONG else promoted)
            doubtful = deployment.check_sent_once(load, listed)
            accepted = min(at for _, at in load.accepted.values() if at > promoted) - promoted
            say(
                f"promoted {promoted - lost:.1f} s after the primary was lost, and {accepted:.1f} s later the first send was accepted: "
                f"{load.sends} sends, asked again after {dict(load.again)}; {doubtful} still in doubt"
            )
            say(deployment.check_streams(load))
        # While there is a database.
        for server in deployment.servers:
            server.stop()


def test_replicas_go_on_while_the_schema_is_newer_than_they_know(cluster: Cluster, replicas: Start) -> None:
    url = cluster.database()
    deployment = replicas(url)
    newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29991231_000001_unheard_of', 0)"
    assert cluster.execute(url, newer) == "INSERT 0 1"
    with loaded(deployment) as load:
        load.send(RATE)
        passed(load, 30)
        assert all(server.ready() for server in deployment.servers)
        # Nor is one that has to start anew kept out.
        deployment.servers[1].stop()
        deployment.servers[1].start()
        passed(load, 30)
        load.stop_sending()
        assert deployment.check_sent_once(load, deployment.settled(load)) == 0


# PgBouncer of Debian 12 either refuses what the server says of itself when it connects, or drops it; none of any release passes on
# settings that PostgreSQL does not report.
@pytest.mark.parametrize("ignored", ["extra_float_digits, options", "extra_float_digits"], ids=["dropped", "refused"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_no_server_starts_behind_pgbouncer(
    cluster: Cluster, processes: list[Process], tmp_path: Path, mode: str, ignored: str
) -> None:
    url = cluster.database()
    pooler = Pooler(tmp_path, cluster, mode, ignored)
    processes.append(pooler)
    pooler.start()
    server = Server("server", tmp_path, pooler.url(url), {})
    command = [binary(), "serve", "--migrate"]
    done = subprocess.run(command, env=server.env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith("heedwell: HEEDWELL_DATABASE_URL: "), done.stderr
    if (mode, ignored) == ("session", "extra_float_digits, options"):
        # Only here nothing else is wrong.
        assert "a pooler in session mode" in said
    # It looked before it did anything.
    assert cluster.execute(url, "\\d") == ""
