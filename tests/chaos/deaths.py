"""Processes that die at points of src/failpoint.rs: each window is a millisecond, which a kill at random hardly ever meets."""

import signal
import time
from collections import Counter

from clients import Clients
from journal import Journal
from support.waiting import until
from world import World

# A point that nobody reaches within so many seconds is not where it should be.
_REACHED = 60


class Deaths:
    """Arms servers, and writes down who died where."""

    def __init__(self, world: World, events: Journal, clients: Clients, end: float) -> None:
        self._world, self._events, self._clients, self._end = world, events, clients, end
        self.points: Counter[str] = Counter()
        self.unreached: list[str] = []

    def one_by_one(self, left: list[str]) -> None:
        """At each of these points some server dies, and at the next one as soon as it lives again."""
        armed: dict[int, str] = {}
        since: dict[int, float] = {}
        while left or armed:
            if time.monotonic() > self._end:
                left.clear()
            for number, server in enumerate(self._world.servers):
                if number in armed and time.monotonic() - since[number] > _REACHED:
                    self.unreached.append(armed.pop(number))
                if number in armed and self._died(number, armed[number]):
                    del armed[number]
                if number not in armed and left:
                    armed[number], since[number] = left.pop(), time.monotonic()
                    self._arm(number, armed[number])
                elif number not in armed and not server.alive:
                    self._arm(number, "")
            self._go_on()

    def whoever_comes(self, point: str, times: int, sending: bool = True) -> None:
        """Where nobody knows which server comes first all of them are armed, again and again."""
        numbers = range(len(self._world.servers))
        for number in numbers:
            self._arm(number, point)
        since = time.monotonic()
        while times > 0 and time.monotonic() < self._end:
            if time.monotonic() - since > _REACHED:
                self.unreached += [point] * times
                break
            for number in numbers:
                if self._died(number, point):
                    times, since = times - 1, time.monotonic()
                    if times > 0:
                        self._arm(number, point)
            if sending:
                self._go_on()
            else:
                time.sleep(0.01)
        self.disarm()

    def burst(self, sends: int, takers: int) -> None:
        """Has everything accepted before any of it is due; whoever then takes some dies at the first of what it took."""
        self._clients.permit(sends)
        until("everything is asked for", 300, lambda: self._clients.backlog() <= 0)
        assert time.time() < self._world.burst_time, "the machine is too slow: some was due before all was accepted"
        if takers:
            self.whoever_comes("F6 1", takers, sending=False)
        else:
            until("the burst is due", 300, lambda: time.time() > self._world.burst_time, pause=0.01)

    def disarm(self) -> None:
        for number in range(len(self._world.servers)):
            self._arm(number, "")

    def _arm(self, number: int, point: str) -> None:
        if self._world.servers[number].alive:
            self._events.write(what="arm", replica=number)
        self._world.arm(number, point)

    def _go_on(self) -> None:
        # Slowly, so that the queue stays short and the next points are reached soon.
        if self._clients.backlog() < 4:
            self._clients.permit(1)
        time.sleep(0.05)

    def _died(self, number: int, point: str) -> bool:
        server = self._world.servers[number]
        if server.alive:
            return False
        code = server.ended()
        assert code == -signal.SIGABRT, f"{point}: ended with {code}\n{server.tail()}"
        self._events.write(what="kill", replica=number, point=point)
        self.points[point.partition(" ")[0]] += 1
        return True
