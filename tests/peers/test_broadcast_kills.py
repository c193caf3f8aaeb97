"""Broadcasts by text and mail while the server is killed between and in the middle of their pages: each recipient has their share
once, whoever shares a number is left out, and the counts are those of the report. One is cancelled in the midst of it.

`HEEDWELL_BROADCAST_KILLS` and `HEEDWELL_BROADCAST_PATIENTS` make it longer, `HEEDWELL_KILL_SEED` repeats a run."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import contract, seeds
from support.contract import broadcast, notify, types
from support.postgres import Cluster
from support.practice import (
    CANCELLED,
    DELIVERED,
    EMAIL,
    SENT,
    SKIPPED,
    SMS,
    UNCONFIRMED,
    Practice,
    patient,
    table,
)
from support.processes import Sandbox, Server
from support.waiting import until
from support.watching import Follower

KILLS = int(os.environ.get("HEEDWELL_BROADCAST_KILLS") or 2)
PATIENTS = int(os.environ.get("HEEDWELL_BROADCAST_PATIENTS") or 400)
# Each so many share the number of the one before.
FAMILY = 50
# How long a turn is its holder's who gives no sign of life any more, and time to make all pages on a busy machine.
TURN, MAKING = 30, 240
# A delivery in doubt may need, one after the other: its lease (60 s), the next search for ended leases (5 s), and the second
# look at the provider (120 s and a fifth). The rest is for a busy machine.
SETTLE_LIMIT = 60 + 5 + 144 + 120


def phone(number: int) -> str:
    shared = number - (number % FAMILY == 1)
    # None of those whose last digits mean something to the stand-in.
    return f"+1{201 + shared // 5000}555{2000 + shared % 5000}"


def crowd() -> list[Any]:
    return [
        patient(f"p{number:05}", mobile_phone=phone(number), email=f"p{number:05}@example.com") for number in range(PATIENTS)
    ]


@dataclass
class Run:
    """What a run left behind."""

    cancelled: bool
    broadcast: Any
    # What the cancel answered.
    answer: Any
    report: list[Any]
    journal: list[dict[str, Any]]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [it for it in self.journal if it["event"] == event]

    def by_channel(self, channel: int, *states: int) -> list[Any]:
        return [it for it in self.report if it.channel == channel and (not states or it.state in states)]


class Caller:
    """The calls of a broadcast."""

    def __init__(self, practice: Practice) -> None:
        self._practice = practice
        self._stub = contract.broadcast_service_pb2_grpc.BroadcastServiceStub(practice.channel)

    def create(self) -> str:
        said = broadcast.BroadcastInput(
            title="Closed on Friday",
            audience=broadcast.Audience(all=broadcast.Audience.AllPatients()),
            channels=[SMS, EMAIL],
            subject="Closed on Friday",
            body="Dear {{first_name}}, we are closed on Friday.",
        )
        request = broadcast.CreateBroadcastRequest(
            practice_id=self._practice.id, request_id="closed", broadcast=said, expected_recipients=PATIENTS
        )
        return self._practice.call(self._stub.CreateBroadcast, request).broadcast.broadcast_id

    def get(self, broadcast_id: str) -> Any:
        request = broadcast.GetBroadcastRequest(practice_id=self._practice.id, broadcast_id=broadcast_id)
        return self._practice.call(self._stub.GetBroadcast, request).broadcast

    def cancel(self, broadcast_id: str) -> Any:
        request = broadcast.CancelBroadcastRequest(practice_id=self._practice.id, broadcast_id=broadcast_id)
        return self._practice.call(self._stub.CancelBroadcast, request).broadcast


def play(name: str, database: str | None, cancelled: bool, folder: Path, seed: int, processes: list[Any]) -> Run:
    """The whole run on one database."""
    moments = random.Random(f"{seed}-{name}")
    sandbox = Sandbox(f"sandbox-{name}", folder)
    processes.append(sandbox)
    sandbox.start()
    settings = {"HEEDWELL_TWILIO_URL": sandbox.twilio_url, "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on", "RUST_LOG": "info"}
    server = Server(f"server-{name}", folder, database, settings)
    processes.append(server)
    server.start()
    practice = Practice(server).furnish(crowd(), sandbox=sandbox)
    follower = Follower(practice, practice.cursor())
    caller = Caller(practice)
    broadcast_id = caller.create()

    def made() -> int:
        if follower.error is not None:
            raise follower.error
        return sum(it.previous_state == types.DELIVERY_STATE_UNSPECIFIED for it in list(follower.changes))

    answer = None
    share = 2 * PATIENTS // (KILLS + 1)
    for turn in range(KILLS):
        wanted = turn * share + moments.randrange(share)
        until(f"{wanted} deliveries are made", TURN + MAKING, lambda wanted=wanted: made() > wanted, pause=0.01)
        if cancelled and turn == KILLS - 1:
            answer = caller.cancel(broadcast_id)
        else:
            # When the kill falls is the input of this test; nothing is synchronised by it.
            time.sleep(moments.uniform(0, 0.3))
        server.kill()
        server.restart()

    def over() -> Any:
        found = caller.get(broadcast_id)
        if found.counts.pending or not found.HasField("complete_time"):
            return None
        waits = notify.DeliveryFilter(broadcast_id=broadcast_id, states=[UNCONFIRMED])
        doubts = practice.deliveries(filter=waits).values() if found.counts.unconfirmed else ()
        return None if any(it.HasField("next_action_time") for it in doubts) else found

    until(f"{name}: the end of all deliveries", TURN + MAKING + SETTLE_LIMIT, over, pause=0.5)
    follower.stop()
    # No report comes between the counts and the list any more.
    sandbox.stop()
    report = list(practice.deliveries(filter=notify.DeliveryFilter(broadcast_id=broadcast_id)).values())
    found = caller.get(broadcast_id)
    journal = [json.loads(line) for line in sandbox.journal_file.read_text().splitlines()]
    server.stop()
    return Run(cancelled, found, answer, report, journal)


@pytest.fixture(scope="module")
def runs(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Run]]:
    """One run of each sort on each database, side by side, as much of the time is waiting for turns, leases and looks."""
    folder = tmp_path_factory.mktemp("broadcasts")
    seed, say = seeds.announced(request)
    processes: list[Any] = []
    sorts = {
        "sqlite": (None, False),
        "sqlite-cancelled": (None, True),
        "postgres": (cluster.database(), False),
        "postgres-cancelled": (cluster.database(), True),
    }
    try:
        with ThreadPoolExecutor(len(sorts)) as pool:
            futures = {name: pool.submit(play, name, *sort, folder, seed, processes) for name, sort in sorts.items()}
            runs = {name: future.result() for name, future in futures.items()}
        for name, run in runs.items():
            say(f"{name}: {' '.join(str(run.broadcast.counts).split())}")
        for process in processes:
            if isinstance(process, Server):
                assert not process.leaks(), f"the log holds private data, for example: {process.leaks()[0]}"
        yield runs
    finally:
        for process in processes:
            process.end()


@pytest.fixture(params=["sqlite", "sqlite-cancelled", "postgres", "postgres-cancelled"])
def run(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


def test_each_recipient_has_one_delivery_a_channel(run: Run) -> None:
    whom = Counter((it.patient_id, it.channel) for it in run.report)
    assert set(whom) == {(it.patient_id, channel) for it in crowd() for channel in (SMS, EMAIL)}
    assert set(whom.values()) == {1}


def test_the_counts_are_those_of_the_report(run: Run) -> None:
    counted = {field.name: getattr(run.broadcast.counts, field.name) for field in run.broadcast.counts.DESCRIPTOR.fields}
    found = Counter(types.DeliveryState.Name(it.state).removeprefix("DELIVERY_STATE_").lower() for it in run.report)
    assert set(found) <= set(counted)
    assert counted == {name: found[name] for name in counted}
    assert (sum(counted.values()), run.broadcast.recipient_count) == (2 * PATIENTS, PATIENTS)
    state = broadcast.Broadcast.STATE_CANCELLED if run.cancelled else broadcast.Broadcast.STATE_COMPLETED
    assert run.broadcast.state == state


def test_each_number_gets_its_text_once(run: Run) -> None:
    created = run.events("twilio_create")
    assert not run.events("token_reused")
    twice = [to for to, count in Counter(it["to"] for it in created).items() if count != 1]
    assert not twice, f"{len(twice)} numbers got it more than once"
    sent = run.by_channel(SMS, SENT, DELIVERED)
    assert Counter(it["sid"] for it in created) == Counter(it.provider_message_id for it in sent)
    skipped = run.by_channel(SMS, SKIPPED)
    assert all(it.skip_reason == types.SKIP_REASON_DUPLICATE_ADDRESS for it in skipped), table(skipped)
    # What a kill left in doubt is not tried again after a cancel; had it left, the look at the provider would have found it.
    rest = len(run.by_channel(SMS, CANCELLED, UNCONFIRMED)) if run.cancelled else 0
    assert len(sent) + len(skipped) + rest == PATIENTS, table(run.by_channel(SMS))
    if not run.cancelled:
        assert {it["to"] for it in created} == {it.mobile_phone for it in crowd()}


def test_each_mailbox_gets_its_mail_once_or_it_is_said(run: Run) -> None:
    mails = Counter(it["message_id"].strip("<>").partition("@")[0] for it in run.events("smtp_message"))
    left = run.by_channel(EMAIL, SENT, DELIVERED, UNCONFIRMED)
    deliveries = {it.delivery_id.replace("-", ""): it for it in left}
    assert set(mails) <= set(deliveries)
    # A relay cannot be asked: where a kill left a doubt, and a cancel ruled out another try or a second kill met that one as well,
    # nobody knows.
    silent = [deliveries[it] for it in set(deliveries) - set(mails)]
    assert all(it.state == UNCONFIRMED and (run.cancelled or it.attempts == 2) for it in silent), table(silent)
    for identifier, count in mails.items():
        assert count == 1 or (count == 2 and deliveries[identifier].possible_duplicate), f"{identifier}: {count} times"
    rest = len(run.by_channel(EMAIL, CANCELLED)) if run.cancelled else 0
    assert len(left) + rest == PATIENTS, table(run.by_channel(EMAIL))


def test_a_cancel_stops_what_had_not_begun(run: Run) -> None:
    if not run.cancelled:
        assert not [it for it in run.report if it.state == CANCELLED]
        return
    assert run.answer.state == broadcast.Broadcast.STATE_CANCELLED
    # Of what it answered as cancelled nothing began: it is cancelled in the end, or was not to be sent in any case.
    ended = [it for it in run.report if it.state in (CANCELLED, SKIPPED)]
    assert len(ended) >= run.answer.counts.cancelled + run.answer.counts.skipped
    assert run.answer.counts.cancelled > 0, "it came too late to prove anything"
