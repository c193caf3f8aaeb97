"""The programs of clients/, each in its language, beside one server that is killed while they work, refuses their token for a
while, and comes back from a backup. Each has to know what became of every reminder all the same."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.clients import CLIENTS, LANGUAGES, Client
from support.contract import SERVICES, notify, types
from support.practice import Practice, patient
from support.processes import Process, Sandbox, Server
from support.waiting import until
from support.watching import Follower, check_complete

# Sent before the kill, sent around it, and sent while nobody is there.
BEFORE, AROUND, WITHOUT = 3, 20, 2
# Reminders that are sent around the kill are due when it is over: one that is under way at that moment would have to wait for
# the end of its lease, which other tests do.
OVER = timedelta(seconds=8)
LIMIT = 120

AREAS = dict(zip(LANGUAGES, ("201", "202", "203", "205"), strict=False))


def visit(
    number: int, due: timedelta | None = None, patient_id: str = "pat", moved: timedelta = timedelta(0)
) -> dict[str, str]:
    """A visit of its own day, so that no two texts are alike."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now + timedelta(days=number) + moved
    given = {"appointment": str(8000 + number), "patient": patient_id, "start": start.isoformat()}
    return {**given, "send": (now + due).isoformat()} if due else given


# Lines that are no visits: a time without its zone, and not even JSON. They are refused by their numbers, which follow those of
# the first visits.
BAD = (BEFORE + 3, BEFORE + 4)


def appointment(request_id: str) -> str:
    """Of which appointment an id speaks; what is none of a reminder is given back."""
    return request_id.split(":")[1] if ":" in request_id else request_id


@dataclass
class Story:
    """What one client went through."""

    client: Client
    # What the server knows, and what another watch was told, before the database is set back.
    listed: dict[str, Any]
    changes: list[Any]
    # How many events the client had told by then.
    until: int
    journal: list[dict[str, Any]]

    def told(self) -> list[dict[str, Any]]:
        return [event for event in self.client.events()[: self.until] if "delivery" in event]


class Play:
    """The same for all clients, at the same time."""

    def __init__(self, folder: Path, processes: list[Process]) -> None:
        self.folder = folder
        sandbox = self.sandbox = Sandbox("sandbox", folder)
        processes.append(sandbox.start())
        settings = {"HEEDWELL_TWILIO_URL": sandbox.twilio_url, "HEEDWELL_ALLOW_PRIVATE_PROVIDERS": "on"}
        self.server = Server("server", folder, None, settings)
        processes.append(self.server.start())
        with ThreadPoolExecutor() as pool:
            self.clients = list(pool.map(self._client, LANGUAGES))
        processes += self.clients

    def _client(self, language: str) -> Client:
        number = f"+1{AREAS[language]}5550142"
        practice = Practice(self.server, language).furnish([patient(mobile_phone=number)], sandbox=self.sandbox)
        return Client(language, self.folder, practice)

    def each(self, what: str, condition: Callable[[Client], Any]) -> None:
        for client in self.clients:
            client.wait_for(what, lambda client=client: condition(client), LIMIT)

    def settled(self, client: Client) -> bool:
        """Whether it knows the end of everything that the server has of it."""
        final = {types.DELIVERY_STATE_SENT: "EMAIL", types.DELIVERY_STATE_DELIVERED: "IN_APP SMS"}
        listed = client.practice.deliveries()
        known = {event["delivery"]: event["revision"] for event in client.events("delivery")}
        return client.answered and all(
            types.Channel.Name(it.channel).removeprefix("CHANNEL_") in final.get(it.state, "")
            and known.get(it.delivery_id, 0) >= it.revision
            for it in listed.values()
        )

    def run(self) -> dict[str, Story]:
        followers = [Follower(client.practice, client.practice.cursor()) for client in self.clients]
        for client in self.clients:
            client.start().feed(*map(visit, range(1, 1 + BEFORE)), visit(99, patient_id="nobody"), visit(98, timedelta(days=401)))
            client.feed({**visit(97), "start": "2027-03-05T14:30:00"})
            client.feed_line("a visit on Friday")
        self.each("its first reminders arrived", self.settled)
        self.kill_while_they_send()
        self.each("all of its reminders arrived", self.settled)
        stories = {}
        for client, follower, language in zip(self.clients, followers, LANGUAGES, strict=True):
            listed = client.practice.deliveries()
            follower.wait("what the list shows", lambda _, it=follower, listed=listed: it.agrees(listed))
            journal, until = self.sandbox.journal("twilio_create"), len(client.events())
            stories[language] = Story(client, listed, follower.stop().changes, until, journal)
        self.set_back()
        for client in self.clients:
            client.finish()
        return stories

    def kill_while_they_send(self) -> None:
        """The server goes while they are busy, is away for long, and does not know their token when it comes back."""
        for client in self.clients:
            client.feed(*(visit(10 + number, OVER) for number in range(AROUND)))
        first = BEFORE + 1
        until("all are sending", LIMIT, lambda: all(len(it.events("accepted")) >= first for it in self.clients), pause=0.001)
        self.server.kill()
        marks = [len(client.events()) for client in self.clients]
        for client in self.clients:
            client.feed(*(visit(50 + number) for number in range(WITHOUT)))
            client.renew("e30.e30.e30")
        for client, mark in zip(self.clients, marks, strict=True):
            client.wait_for("it noticed", lambda it=client, mark=mark: it.said_since(mark, waiting="UNAVAILABLE"), LIMIT)
        self.server.restart()
        for client, mark in zip(self.clients, marks, strict=True):
            client.wait_for("it was refused", lambda it=client, mark=mark: it.said_since(mark, waiting="UNAUTHENTICATED"), LIMIT)
            client.renew()

    def set_back(self) -> None:
        """The database comes back from a backup that is older than what the clients know."""
        data, backup = Path(self.server.env["HEEDWELL_DATA_DIR"]), self.folder / "backup"
        self.server.stop()
        shutil.copytree(data, backup)
        self.server.start()
        for client in self.clients:
            client.feed(visit(60), visit(61))
        self.each("what the backup does not hold", self.settled)
        self.server.stop()
        shutil.rmtree(data)
        backup.rename(data)
        self.server.start()
        self.server.verb("resume", "--send-pending")
        self.each("it noticed the gap", lambda it: it.events("gap"))
        for client in self.clients:
            client.feed(visit(62), visit(63), visit(63, moved=timedelta(hours=1)))
        self.each("it goes on after the gap", self.settled)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Story]]:
    processes: list[Process] = []
    try:
        stories = Play(tmp_path_factory.mktemp("clients"), processes).run()
        for process in processes:
            if isinstance(process, Server):
                assert not process.leaks(), f"the log holds private data, for example: {process.leaks()[0]}"
        yield stories
    finally:
        for process in reversed(processes):
            process.end()


@pytest.fixture(params=list(LANGUAGES))
def story(request: pytest.FixtureRequest, stories: dict[str, Story]) -> Story:
    return stories[request.param]


SENT = [*range(1, 1 + BEFORE), *range(10, 10 + AROUND), *range(50, 50 + WITHOUT)]


def test_each_visit_was_accepted_once_and_its_text_went_out_once(story: Story) -> None:
    accepted = [event["accepted"] for event in story.client.events()[: story.until] if "accepted" in event]
    # In any order, since they are sent side by side.
    assert Counter(map(appointment, accepted)) == Counter(str(8000 + number) for number in SENT)
    # In the portal, by mail and as a text.
    assert Counter(Counter(it.reference for it in story.listed.values()).values()) == {3: len(SENT)}
    texts = [it for it in story.journal if it["to"].startswith(f"+1{AREAS[story.client.practice.id]}")]
    assert len(texts) == len({it["body"] for it in texts}) == len(SENT)


def test_what_no_other_try_can_mend_was_refused_with_its_reason(story: Story) -> None:
    refused = {appointment(event["refused"]): event for event in story.client.events("refused")}
    assert (refused["8099"]["reason"], refused["8099"]["violations"]) == ("NOT_FOUND", [])
    assert refused["8098"]["reason"] == "FIELD_INVALID"
    assert [each["field"] for each in refused["8098"]["violations"]] == ["notification.schedule_time"]
    assert set(refused) == {"8098", "8099", *(f"line {number}" for number in BAD)}
    assert {refused[f"line {number}"]["reason"] for number in BAD} == {"NOT_A_VISIT"}


def test_a_visit_that_was_moved_is_reminded_of_anew(story: Story) -> None:
    accepted = [event["accepted"] for event in story.client.events("accepted")]
    moved = [each for each in accepted if appointment(each) == "8063"]
    assert len(moved) == len(set(moved)) == 2


def test_the_states_of_each_delivery_were_told_once_and_in_order(story: Story) -> None:
    check_complete(story.changes, story.listed)
    lives: dict[str, list[tuple[int, str]]] = {}
    for event in story.told():
        lives.setdefault(event["delivery"], []).append((event["revision"], event["state"]))
    expected: dict[str, list[tuple[int, str]]] = {}
    for change in story.changes:
        state = types.DeliveryState.Name(change.delivery.state).removeprefix("DELIVERY_STATE_")
        expected.setdefault(change.delivery.delivery_id, []).append((change.delivery.revision, state))
    assert lives == expected


def test_a_gap_is_told_once_and_what_comes_after_it_as_before(story: Story) -> None:
    events = story.client.events()
    gaps = [number for number, event in enumerate(events) if event == {"gap": True}]
    assert len(gaps) == 1 and gaps[0] > story.until
    after = events[gaps[0] :]
    assert [it["replayed"] for it in after if appointment(it.get("accepted", "")) == "8062"] == [False]
    lives: dict[str, list[int]] = {}
    for event in after:
        if "delivery" in event:
            lives.setdefault(event["delivery"], []).append(event["revision"])
    # Nothing is told anew that the list held and that was known before.
    assert len(lives) == 9 and all(life == list(range(1, 1 + len(life))) for life in lives.values())


def test_the_service_config_knows_every_service_and_leaves_streams_alone() -> None:
    config = json.loads((CLIENTS / "service_config.json").read_text())
    names = [(name, entry) for entry in config["methodConfig"] for name in entry["name"]]
    assert sorted(name["service"] for name, _ in names if "method" not in name) == sorted(SERVICES)
    described = [notify.DESCRIPTOR.pool.FindServiceByName(service) for service in SERVICES]
    known = {method.full_name: method for service in described for method in service.methods}
    methods = {f"{name['service']}.{name['method']}": entry for name, entry in names if "method" in name}
    assert set(methods) <= set(known)
    streams = {name for name, method in known.items() if method.server_streaming}
    # A retry policy never resumes a stream that has begun, and a deadline would end it.
    assert {method for method, entry in methods.items() if set(entry) == {"name"}} == streams


def test_what_the_python_client_asks_for_is_what_it_was_tried_with() -> None:
    asked = (CLIENTS / "python" / "requirements.txt").read_text().split()
    assert asked and set(asked) <= set((CLIENTS.parent / "tests" / "peers" / "requirements.txt").read_text().split())
