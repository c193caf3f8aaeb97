"""What is held up at a barrier while the others go on: a call whose claim is committed, and a transaction whose changes have
their numbers in the feed. Nothing else is under way meanwhile, so that whoever is held up is known."""

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor

from clients import Clients, Directory, job
from messages import phone
from reports import Reporter
from support.waiting import until
from watchers import Watcher
from world import World

# Patients of their own, so that nobody else writes to them.
_HELD, _OVERLAPPED = 4_000, 4_500
# Whoever was let go has done by then what it should not do. There is nothing to wait for: it should do nothing.
_MOMENT = 2
# How long a transaction is held up for others to overtake it, which they cannot: less than PostgreSQL lets one be idle.
_OVERTAKEN = 3


def hold(world: World, clients: Clients, reporter: Reporter, watcher: Watcher, rounds: int, seed: int) -> None:
    """Holds up calls between their claim and their look at the clock, until the message was taken over and has left. Whoever
    is let go then must neither call nor settle any more."""
    chance = random.Random(f"{seed} holds")
    patients = Directory(world, f"{seed} holds' replicas")
    stubs = world.stubs()
    for number in range(_HELD, _HELD + rounds):
        patients.put(number)
        # One delivery alone: whoever takes it over passes the same point.
        world.wait_at("F6", 1)
        it = job("held", number, number, 0)
        holder = world.hold_up(lambda: clients.send("holder", stubs, it, clients.request(it), chance, "first"))
        assert reporter.attempt(phone(number)) is not None, "what is held up is not taken over"
        until("what was taken over is delivered", 60, lambda: watcher.told.get(it.request_id) == "DELIVERED")
        world.barriers[holder].lift()
        time.sleep(_MOMENT)


def overlap(world: World, clients: Clients, watcher: Watcher, rounds: int, seed: int) -> None:
    """Holds up a transaction whose changes have their numbers, while others try to commit theirs: whatever a watch was told
    by then, it must not pass by what is committed at last."""
    patients = Directory(world, f"{seed} overlaps' replicas")
    stubs = world.stubs()
    world.wait_at("feed")
    with ThreadPoolExecutor(2) as pool:

        def ask(number: int, minute: int, replicas: list[int]) -> Future[str]:
            it = job("overlapped", number, number, minute)
            chance = random.Random(f"{seed} {it.request_id}")
            some = [stubs[replica] for replica in replicas]
            return pool.submit(clients.send, "overlapper", some, it, clients.request(it), chance, "first")

        for number in range(_OVERLAPPED, _OVERLAPPED + rounds):
            patients.put(number)
            everybody = list(range(len(stubs)))
            # Nothing more comes of it once it is delivered. And with it each stream has told something: only then is it a
            # gap, by the contract, what it passes by.
            ask(number, 0, everybody).result()
            until("a watch tells it", 60, lambda: watcher.told.get(f"overlapped-{number}-0") == "DELIVERED")
            late: list[Future[str]] = []
            holder = world.hold_up(lambda: late.append(ask(number, 2, everybody)))
            early = ask(number, 4, [replica for replica in everybody if replica != holder])
            end = time.monotonic() + _OVERTAKEN
            while f"overlapped-{number}-4" not in watcher.told and time.monotonic() < end:
                time.sleep(0.01)
            world.barriers[holder].lift()
            for sent in (*late, early):
                sent.result()
