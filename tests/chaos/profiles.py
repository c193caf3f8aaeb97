"""What a run does: how much is sent, what goes wrong, and how often. One seed makes one plan."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

# How the server's times are shortened. In all of them an unknown outcome is looked into after 0.5 s and again after 4 s (15 s
# and 120 s, each divided by 30).
TIMES = {
    # Those of the engine's figures N1 to N4: a call begins at most 0.5 s after its claim and takes 1.5 s at most, and a lease is
    # 3 s. They want a machine that has nothing else to do.
    "engine": "start=500 connect=500 call=1500 lease=3000 rescue=250 look_poll=100 look_lease=2000 looks=30",
    # In the same proportions, for a machine that is busy: a call that begins too late is given back, and nothing is gained.
    "gentle": "start=1500 connect=1000 call=3000 lease=6000 rescue=250 look_poll=100 look_lease=4000 looks=30",
}

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
    times: str = TIMES["gentle"]
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
    # Each point of a table at which a process shall die, so many times.
    points: int = 0
    # Everything is due at one moment, so many seconds after the first send, and the first misfortune comes just after it.
    burst: float = 0
    # How far the provider's clock is ahead.
    clock_offset_ms: int = 0
    # By then everything has to be final.
    quiet_limit: float = 90
    # A provider that always answers leaves no doubt about a text.
    truthful: bool = False
    # A process that stands still between the last look at its clock and the call may double a message: it must say so.
    pauses: bool = False

    def sized(self, sends: int | None, kills: int | None, points: int | None, times: str) -> "Profile":
        """The same for longer; profiles without failpoints stay without."""
        return replace(
            self,
            sends=sends or self.sends,
            kills=self.kills if kills is None else kills,
            points=(points or self.points) if self.points else 0,
            times=times,
        )


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
                "stall_ms": 7_000,
                # Sixty seconds, divided like the looks.
                "list_lag_ms": 2_000,
                "mail_dropped": 0.03,
                "mail_full": 0.03,
            },
            others={"postgres": 10},
            clock_offset_ms=240_000,
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
            kills=4,
            odds={"reply_ms": 200},
            others={"stop": 300, "hold": 50},
            pauses=True,
        ),
        Profile("points", sends=1_000, kills=0, odds={"reply_ms": 150}, truthful=True, points=1),
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
        if clustered or name not in ("postgres", "isolate", "stop", "hold"):
            names += [name] * max(1, round(profile.kills * share / 100))
    chance.shuffle(names)
    # A hold lasts until its claim was taken over, looked into twice and sent by somebody else.
    lengths = {"hold": (14.0, 17.0), "stop": (0.2, 9.0), "freeze": (0.5, 4.0), "isolate": (0.5, 5.0), "cut": (0.0, 1.0)}
    return [
        Action(name, chance.randrange(replicas), chance.uniform(0, 1.5), chance.uniform(*lengths.get(name, (0, 0))))
        for name in names
    ]


# What a kill means at each point stands in the table of the engine's design. F4 awaits broadcasts, F12 parked callbacks, F14
# consent.
POINTS = ("F1", "F2", "F3", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F13")


def points(profile: Profile, chance: random.Random) -> list[str]:
    """Where processes shall die, each with the passage at which they do."""
    names = list(POINTS) * profile.points
    chance.shuffle(names)
    return [f"{name} {chance.randint(1, 4)}" for name in names]


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
