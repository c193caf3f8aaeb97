"""Messages that are stopped: by a patient who is made inactive, or by a report that their number is dead. Once the server has
said that it is so, nothing more goes out to them."""

import random
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from clients import Clients, Directory, job
from journal import Journal
from messages import phone
from reports import Reporter
from support.waiting import until
from watchers import Watcher
from world import World

# Patients of their own, so that nobody else writes to them.
_STOPPED, _RACED = 1_000, 3_000
# The pause between accept and due time, and the latest stop after the accept, in seconds.
_DUE, _LATEST = 3, 1.5
# How long a claim is held up at most: longer than the server waits for a lock, shorter than its start limit.
_HELD = 1.8


class Stopper:
    """Makes patients inactive between accept and due time, again and again."""

    def __init__(self, world: World, clients: Clients, journal: Journal, seed: int) -> None:
        self._clients, self._journal = clients, journal
        self._chance = random.Random(f"{seed} stopper")
        self._directory = Directory(world, f"{seed} stopper's replicas")
        self._stubs = world.stubs()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for number in count():
                if self._ended.is_set() or _STOPPED + number >= _RACED:
                    return
                self._stop_one(_STOPPED + number)
        except BaseException as error:  # noqa: BLE001 - the run shows it.
            self._error = error

    def _stop_one(self, number: int) -> None:
        self._directory.put(number)
        due = int(time.time()) + _DUE
        asked = job("stopped", number, number, 0, due)
        self._clients.send("stopper", self._stubs, asked, self._clients.request(asked), self._chance, "first")
        # Where in that time the stop comes is the input of a run; nothing is synchronised by it.
        time.sleep(self._chance.uniform(0, _LATEST))
        self._directory.put(number, inactive=True)
        self._journal.write(True, request_id=asked.request_id, patient=number, minute=0, due=due)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=240)
        assert not self._thread.is_alive(), "the stopper does not end"
        if self._error is not None:
            raise self._error


def race(
    world: World, clients: Clients, journal: Journal, reporter: Reporter, watcher: Watcher, rounds: int, seed: int
) -> None:
    """Holds up claims between their look at what stops a message and their COMMIT, while another replica stops it. The claim
    either holds the stop up or sees it: the server never says that a message is stopped while its claim goes on."""
    chance = random.Random(f"{seed} races")
    patients = Directory(world, f"{seed} races' replicas")
    stubs = world.stubs()
    for place, point in enumerate(("gates", "F5")):
        world.wait_at(point)
        for turn in range(rounds):
            number = _RACED + place * rounds + turn
            patients.put(number)
            ask = lambda minute: clients.send(  # noqa: E731
                "racer", stubs, it := job("raced", number, number, minute), clients.request(it), chance, "first"
            )
            ask(0)
            attempt = reporter.attempt(phone(number))
            assert attempt is not None, "a message does not leave"
            stop: Callable[[int], bool]
            if turn % 2 == 0:
                stop = lambda other: reporter.report(attempt, "undelivered", other, code="30006")  # noqa: E731
            else:
                stop = lambda other: patients.try_put(other, number, True, _HELD)  # noqa: E731
            entry = _stop_held(world, lambda: ask(2), stop)
            journal.write(True, request_id=f"raced-{number}-2", patient=number, minute=2, point=point, **entry)
            # What the provider says itself is to come before all servers are started anew.
            until("the first text is delivered", 60, lambda: watcher.told.get(f"raced-{number}-0") == "DELIVERED")


def _stop_held(world: World, ask: Callable[[], Any], stop: Callable[[int], bool]) -> dict[str, float]:
    """Stops a message while the server that claims it is held up, by way of another one, and tells when what was so."""
    holder = world.hold_up(ask)
    other = (holder + 1) % len(world.servers)
    held = time.time()
    stopped = 0.0
    while not stopped and time.time() < held + _HELD:
        stopped = time.time() if stop(other) else 0.0
    released = time.time()
    world.barriers[holder].lift()
    while not stopped:
        stopped = time.time() if stop(other) else 0.0
    return {"held": held, "stopped": stopped, "released": released}
