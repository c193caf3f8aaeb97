"""What a run does: how much is sent, what goes wrong, and how often. One seed makes one plan."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

# The times of the truthful-provider profile: a call begins at most 0.5 s after its claim and takes 1.5 s at most, a lease is
# 3 s, and an unknown outcome is looked into after 0.5 s and again after 4 s (15 s and 120 s, each divided by 30).
TIMES = "start=500 connect=500 call=1500 lease=3000 rescue=250 look_poll=100 look_lease=2000 looks=30"

# An ordinary answer of a provider.
REPLY_MS = 35


@dataclass(frozen=True)
class Profile:
    """One way of being hard on the server."""

    name: str
    # How much is sent, and how many times a process is killed.
    sends: int
    kills: int
    # What may be asked for in one notification.
    channels: tuple[tuple[str, ...], ...] = (("SMS",), ("SMS", "EMAIL"), ("IN_APP", "SMS"), ("EMAIL",))
    # See src/sandbox/odds.rs; the seed is filled in.
    odds: dict[str, Any] = field(default_factory=dict)
    times: str = TIMES
    carrier_delay_ms: int = 20
    messaging_service: bool = False
    watchers: int = 3
    # Whether watches and databases are reached over links that can be cut.
    links: bool = False
    # What is done beside kills, each so many times for every hundred kills.
    others: dict[str, int] = field(default_factory=dict)
    # Shares of sends that come twice at once, again after their answer, and again with another text.
    twins: float = 0.10
    repeats: float = 0.05
    reuses: float = 0.02
    # By then everything has to be final.
    quiet_limit: float = 90
    # A provider that always answers leaves no doubt about a text.
    truthful: bool = False
    # A process that stands still between the last look at its clock and the call may double a message: it must say so.
    pauses: bool = False

    def sized(self, sends: int | None, kills: int | None) -> "Profile":
        return replace(self, sends=sends or self.sends, kills=self.kills if kills is None else kills)


PROFILES = {
    it.name: it
    for it in (
        Profile(
            "truthful",
            sends=600,
            kills=20,
            odds={"reply_ms": REPLY_MS},
            others={"postgres": 10, "restart": 10},
            truthful=True,
        ),
        Profile(
            "faulty",
            sends=500,
            kills=8,
            odds={
                "reply_ms": REPLY_MS,
                "dropped": 0.05,
                "failed": 0.02,
                "stalled": 0.02,
                "limited": 0.10,
                "silent": 0.30,
                "undelivered": 0.05,
                "stall_ms": 4_000,
                # Sixty seconds, divided like the looks.
                "list_lag_ms": 2_000,
                "mail_dropped": 0.03,
                "mail_full": 0.03,
            },
            others={"postgres": 10},
        ),
        Profile(
            "callbacks",
            sends=80,
            kills=4,
            channels=(("SMS",),),
            odds={"reply_ms": 100, "shuffled": 1.0, "repeats": 46, "undelivered": 0.20},
            carrier_delay_ms=1,
            messaging_service=True,
        ),
        Profile(
            "watch",
            sends=500,
            kills=10,
            odds={"reply_ms": REPLY_MS},
            watchers=12,
            links=True,
            others={"cut": 100, "freeze": 30, "isolate": 20, "postgres": 10},
            truthful=True,
        ),
        Profile(
            "stops",
            sends=400,
            kills=2,
            odds={"reply_ms": 200},
            others={"stop": 400},
            pauses=True,
        ),
    )
}


@dataclass(frozen=True)
class Action:
    """One thing that goes wrong, so long after the one before."""

    what: str
    replica: int
    delay: float
    length: float


def actions(profile: Profile, replicas: int, clustered: bool, chance: random.Random) -> list[Action]:
    """The misfortunes of a run, in order."""
    names = ["kill"] * profile.kills
    for name, share in profile.others.items():
        # SQLite has no process that could fail or be cut off, and nobody else to take over what a pause holds up.
        if clustered or name not in ("postgres", "isolate", "stop"):
            names += [name] * max(1, round(profile.kills * share / 100))
    chance.shuffle(names)
    lengths = {"stop": (0.2, 6.0), "freeze": (0.5, 4.0), "isolate": (0.5, 5.0), "cut": (0.0, 1.0)}
    return [
        Action(name, chance.randrange(replicas), chance.uniform(0, 1.5), chance.uniform(*lengths.get(name, (0, 0))))
        for name in names
    ]


@dataclass(frozen=True)
class Job:
    """One send: to whom, over which channels, and under which minute it is known at the provider."""

    number: int
    request_id: str
    patient: int
    minute: int
    channels: tuple[str, ...]
    twin: bool
    repeat: bool
    reuse: bool


def jobs(profile: Profile, patients: int, chance: random.Random) -> Iterator[Job]:
    """The sends of a run. A patient never gets two with the same minute, so that a text names its send."""
    is_one: Callable[[float], bool] = lambda share: chance.random() < share  # noqa: E731
    for number in range(profile.sends):
        yield Job(
            number,
            f"send-{number}",
            number % patients,
            # The odd minutes are those of requests that must be refused.
            2 * (number // patients),
            chance.choice(profile.channels),
            is_one(profile.twins),
            is_one(profile.repeats),
            is_one(profile.reuses),
        )
