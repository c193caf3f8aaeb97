"""Two hundred sends, twenty kills of the server at random moments: nothing that was accepted is lost, no text goes out twice,
and no mail twice without being marked."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import pytest

from support import seeds
from support.contract import types
from support.postgres import Cluster
from support.practice import (
    CANCELLED,
    DELIVERED,
    EMAIL,
    FAILED,
    IN_APP,
    SENT,
    SKIPPED,
    SMS,
    UNCONFIRMED,
    Practice,
    is_unavailable,
    patient,
    table,
)
from support.processes import Sandbox, Server
from support.waiting import until
from support.watching import Follower, check_complete

SENDS, KILLS, CLIENTS = 200, 20, 4
# A delivery in doubt may need, one after the other: its lease (60 s), the next search for ended leases (5 s), and the second
# look at the provider (120 s and a fifth). The rest is for a busy machine.
SETTLE_LIMIT = 60 + 5 + 144 + 120

AREAS = ("201", "202", "203", "205", "206", "207", "208", "209")
# The sandbox does as the last four digits and the mailbox say: deliver, call back before the answer, out of order, five
# times, or not at all; answer the mail late. So kills fall into calls that are under way.
PHONES = ("5550142", "5550121", "5550119", "5550120", "5550122")
MAILBOXES = ("patient", "slow")
PATIENTS = tuple(
    patient(
        f"patient-{area}-{phone}",
        mobile_phone=f"+1{area}{phone}",
        email=f"{MAILBOXES[(number + turn) % 2]}+{area}{phone}@example.com",
    )
    for turn, area in enumerate(AREAS)
    for number, phone in enumerate(PHONES)
)
# Each has a secure link, so that no two texts to a number are alike and each can be told from all others.
SENT_KINDS = ("document_shared", "payment_due", "appointment_confirmed", "payment_failed")
CHANNELS = ([IN_APP, EMAIL, SMS], [SMS], [EMAIL], [IN_APP, SMS])


@dataclass
class Run:
    """What a run left behind."""

    accepted: list[dict[str, Any]]
    listed: dict[str, Any]
    follower: Follower
    journal: list[dict[str, Any]]
    trail: list[dict[str, Any]]
    seconds: dict[str, float] = field(default_factory=dict)

    def events(self, event: str) -> list[dict[str, Any]]:
        return [it for it in self.journal if it["event"] == event]

    def by_channel(self, channel: int) -> list[Any]:
        return [it for it in self.listed.values() if it.channel == channel]

    def in_doubt(self, channel: int) -> set[str]:
        """The deliveries of which the server did not know for a while whether they had left."""
        deliveries = [it.delivery for it in self.follower.changes]
        return {it.delivery_id for it in deliveries if it.state == UNCONFIRMED and it.channel == channel}

    def summary(self) -> str:
        states = Counter(
            f"{types.Channel.Name(it.channel)} {types.DeliveryState.Name(it.state)}"
            for it in self.listed.values()
        )
        shown = [f"{count} {name}".replace("CHANNEL_", "").replace("DELIVERY_STATE_", "") for name, count in states.items()]
        doubts = f"{len(self.in_doubt(SMS))} texts and {len(self.in_doubt(EMAIL))} mails were in doubt"
        twice = sum(it.possible_duplicate for it in self.listed.values())
        times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return f"{', '.join(shown)}; {doubts}, {twice} mails sent once more and marked; {times}"


class Clients:
    """Senders that write down each acceptance, and have it on disk, before they go on."""

    def __init__(self, practice: Practice, file: Path) -> None:
        self._practice = practice
        self._file = file.open("a")
        self._lock = threading.Lock()
        self._permits = threading.Semaphore(0)
        self._work: SimpleQueue[int] = SimpleQueue()
        for number in range(SENDS):
            self._work.put(number)
        self.accepted = 0
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._done: list[Future[None]] = [self._pool.submit(self._run) for _ in range(CLIENTS)]

    def permit(self, count: int) -> None:
        self._permits.release(count)

    def reached(self, count: int) -> bool:
        for future in self._done:
            if future.done():
                future.result()
        return self.accepted >= count

    def join(self) -> None:
        for future in self._done:
            future.result(timeout=300)
        self._pool.shutdown()
        self._file.close()

    def _run(self) -> None:
        # A channel of its own, as if each client were a process.
        practice = self._practice
        channel = practice.server.channel()
        stub = type(practice.notify)(channel)
        while True:
            self._permits.acquire()
            try:
                number = self._work.get_nowait()
            except Empty:
                channel.close()
                return
            request = practice.request(
                f"send-{number}",
                SENT_KINDS[number % len(SENT_KINDS)],
                PATIENTS[number % len(PATIENTS)].patient_id,
                channels=CHANNELS[number // len(PATIENTS) % len(CHANNELS)],
            )
            notification = self._until_accepted(practice, stub, request)
            line = {
                "request_id": request.request_id,
                "notification_id": notification.notification_id,
                "deliveries": {it.delivery_id: it.channel for it in notification.deliveries},
            }
            with self._lock:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
                self.accepted += 1

    @staticmethod
    def _until_accepted(practice: Practice, stub: Any, request: Any) -> Any:
        """Repeats the same request for as long as nobody answers: that is what its request_id is for."""
        end = time.monotonic() + 120
        while True:
            try:
                answer = stub.SendNotification(request, timeout=10, metadata=practice.metadata, wait_for_ready=True)
                return answer.notification
            except grpc.RpcError as error:
                if not is_unavailable(error) or time.monotonic() > end:
                    raise


def play(name: str, database: str | None, folder: Path, seed: int, processes: list[Any]) -> Run:
    """The whole run on one database."""
    moments = random.Random(f"{seed}-{name}")
    sandbox = Sandbox(f"sandbox-{name}", folder)
    processes.append(sandbox)
    sandbox.start()
    sandbox.tell("dials", slow_reply_ms=300)
    anchors = str(folder / f"anchors-{name}")
    settings = {"HEEDWELL_TWILIO_URL": sandbox.twilio_url, "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on"}
    settings["HEEDWELL_ANCHOR_FILE"] = anchors
    server = Server(f"server-{name}", folder, database, settings)
    processes.append(server)
    server.start()
    practice = Practice(server).furnish(PATIENTS, sandbox=sandbox)
    follower = Follower(practice, practice.cursor())

    started = time.monotonic()
    file = folder / f"accepted-{name}.jsonl"
    clients = Clients(practice, file)
    share = SENDS // KILLS
    for turn in range(KILLS):
        clients.permit(share)
        count = turn * share + moments.randrange(share)
        until(f"{count} accepted", 120, lambda count=count: clients.reached(count), pause=0.001)
        # When the kill falls is the input of this test; nothing is synchronised by it.
        time.sleep(moments.uniform(0, 0.15))
        server.kill()
        server.restart()
    # Once more than there is work, so that every client notices that none is left.
    clients.permit(CLIENTS)
    clients.join()
    killed = time.monotonic()

    practice.wait("the end of every delivery", lambda it: all(map(is_final, it.values())), SETTLE_LIMIT)
    settled = time.monotonic()
    # A callback that came between the list and the end of the watch would be in one of them only.
    sandbox.stop()
    listed = practice.wait("just what the watch shows", follower.agrees)
    follower.stop()
    accepted = [json.loads(line) for line in file.read_text().splitlines()]
    journal = [json.loads(line) for line in sandbox.journal_file.read_text().splitlines()]
    seconds = {"sends and kills": killed - started, "until all was settled": settled - killed}
    server.stop()
    server.audit("verify", "--anchors", anchors)
    trail = [json.loads(line) for line in server.audit("export", "--practice", practice.id).splitlines()]
    return Run(accepted, listed, follower, journal, trail, seconds)


def is_final(delivery: Any) -> bool:
    """Whether the server does no more by itself about handing it over."""
    if delivery.state == UNCONFIRMED:
        return not delivery.HasField("next_action_time")
    return delivery.state in (SENT, DELIVERED, FAILED, SKIPPED, CANCELLED)


@pytest.fixture(scope="module")
def runs(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Run]]:
    """One run on each database, side by side, as most of the time is waiting for leases and looks."""
    folder = tmp_path_factory.mktemp("kills")
    seed, say = seeds.announced(request)
    processes: list[Any] = []
    try:
        with ThreadPoolExecutor(2) as pool:
            databases = {"sqlite": None, "postgres": cluster.database()}
            futures = {
                name: pool.submit(play, name, database, folder, seed, processes) for name, database in databases.items()
            }
            runs = {name: future.result() for name, future in futures.items()}
        for name, run in runs.items():
            say(f"{name}: {run.summary()}")
        for process in processes:
            if isinstance(process, Server):
                assert not process.leaks(), f"the log holds private data, for example: {process.leaks()[0]}"
        yield runs
    finally:
        for process in processes:
            process.end()


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


def test_every_send_was_accepted_once_and_nothing_accepted_is_lost(run: Run) -> None:
    assert len(run.accepted) == SENDS
    assert len({it["notification_id"] for it in run.accepted}) == SENDS
    promised = {delivery for it in run.accepted for delivery in it["deliveries"]}
    assert promised == set(run.listed), "the list and what was acknowledged differ"
    expected = Counter(channel for number in range(SENDS) for channel in CHANNELS[number // len(PATIENTS) % 4])
    assert Counter(it.channel for it in run.listed.values()) == expected


def test_kills_fell_into_calls_that_were_under_way(run: Run) -> None:
    # Else the other tests would prove nothing.
    assert run.in_doubt(SMS) and run.in_doubt(EMAIL)


def test_every_delivery_arrived_and_none_failed(run: Run) -> None:
    wrong = []
    for it in run.listed.values():
        arrived = {IN_APP: (DELIVERED,), EMAIL: (SENT,), SMS: (SENT, DELIVERED)}[it.channel]
        # A relay has no list to look into: where two answers to one mail were lost, the server says that it cannot know.
        twice_lost = it.channel == EMAIL and it.state == UNCONFIRMED and it.possible_duplicate and it.attempts >= 2
        if it.state not in arrived and not twice_lost:
            wrong.append(it)
    assert not wrong, table(wrong)


def test_the_audit_trail_tells_of_each_send_once_whatever_was_killed(run: Run) -> None:
    assert [it["position"] for it in run.trail] == list(range(1, len(run.trail) + 1))
    sends = [it for it in run.trail if it["action"] == "heedwell.v1.NotifyService/SendNotification"]
    told = Counter(it["resource"] for it in sends)
    assert told == Counter(f"notification/{it['notification_id']}" for it in run.accepted)


def test_every_text_reached_the_provider_exactly_once(run: Run) -> None:
    created = run.events("twilio_create")
    assert not run.events("token_reused")
    twice = {key: count for key, count in Counter((it["to"], it["body"]) for it in created).items() if count != 1}
    assert not twice, f"{len(twice)} texts went out more than once"
    texts = run.by_channel(SMS)
    assert Counter(it["sid"] for it in created) == Counter(it.provider_message_id for it in texts)
    assert not any(it.possible_duplicate for it in texts)


def test_every_mail_reached_the_relay_and_twice_only_where_that_is_said(run: Run) -> None:
    mails = Counter(it["message_id"].strip("<>").partition("@")[0] for it in run.events("smtp_message"))
    deliveries = {it.delivery_id.replace("-", ""): it for it in run.by_channel(EMAIL)}
    assert set(mails) == set(deliveries)
    for identifier, count in mails.items():
        assert count == 1 or deliveries[identifier].possible_duplicate, f"{identifier}: {count} times, and nothing said"
        assert count <= 2, f"{identifier}: {count} times"


def test_the_watch_that_was_open_all_the_time_told_everything_once_and_in_order(run: Run) -> None:
    check_complete(run.follower.changes, run.listed)
    # Each kill broke the stream; how often it was made again before the next depends on the moment.
    assert run.follower.ends, "the watch noticed none of the kills"
