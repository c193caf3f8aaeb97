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
    "engine": "start=500 connect=500 call=1500 lease=3000 rescue=250 look_poll=100 look_lease=2000 looks=30 parked=250",
    # In the same proportions, for a machine that is busy: a call that begins too late is given back, and nothing is gained.
    "gentle": "start=1500 connect=1000 call=3000 lease=6000 rescue=250 look_poll=100 look_lease=4000 looks=30 parked=250",
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
    # The longest pause before a misfortune, in seconds.
    pace: float = 1.5
    # No further misfortune comes after so many seconds, however many were planned.
    longest: float = float("inf")
    # What is done beside kills, each so many times for every hundred kills.
    others: dict[str, int] = field(default_factory=dict)
    # Shares of sends that come twice at once, again after their answer, and again with another text.
    twins: float = 0.10
    repeats: float = 0.05
    reuses: float = 0.02
    # Each point of a table at which a process shall die, so many times.
    points: int = 0
    # Everything is due at one moment, so many seconds after the start; and so many processes die at the first of what they take.
    burst: float = 0
    takers: int = 0
    # How far the provider's clock is ahead.
    clock_offset_ms: int = 0
    # Whether messages are stopped before they are due, and reports come of attempts that are not known yet.
    stops: bool = False
    parks: bool = False
    # How many messages are stopped while their claim is held up, at each of two points.
    races: int = 0
    # How many calls are held up until others have done their work, and how many transactions while others try to overtake them.
    holds: int = 0
    overlaps: int = 0
    # By then everything has to be final.
    quiet_limit: float = 90
    # A provider that always answers leaves no doubt about a text.
    truthful: bool = False
    # A process that stands still between the last look at its clock and the call may double a message: it must say so.
    pauses: bool = False

    def sized(self, **sizes: Any) -> "Profile":
        """The same, longer or shorter; what is None stays as it is, and profiles without failpoints stay without."""
        if not self.points:
            sizes.pop("points", None)
        return replace(self, **{name: value for name, value in sizes.items() if value is not None})


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
            overlaps=1,
            truthful=True,
        ),
        Profile(
            "stops",
            sends=400,
            kills=4,
            odds={"reply_ms": 200},
            others={"stop": 300},
            pauses=True,
        ),
        # Each death takes some seconds, and so many sends come meanwhile.
        Profile("points", sends=0, kills=0, odds={"reply_ms": 150}, truthful=True, points=1, stops=True, parks=True),
        # A server stands still between a claim and the look at its clock, for one delivery alone: others take it over, and it
        # must neither call nor settle any more.
        Profile("holds", sends=100, kills=2, holds=3, odds={"reply_ms": REPLY_MS}, truthful=True),
        # Everything is due at once, and whoever has taken much dies with it.
        Profile(
            "burst",
            sends=700,
            kills=0,
            channels=(("SMS",),),
            burst=20,
            takers=3,
            odds={"reply_ms": REPLY_MS},
            truthful=True,
        ),
        # A claim may take its time here: the limit for its start is longer than any stop waits, on a busy machine too.
        Profile(
            "races",
            sends=20,
            kills=0,
            races=10,
            odds={"reply_ms": REPLY_MS},
            times="start=10000 connect=1000 call=2000 lease=20000 rescue=250 look_poll=100 look_lease=4000 looks=30 parked=250",
            truthful=True,
        ),
        Profile("parked", sends=40, kills=2, odds={"reply_ms": REPLY_MS}, stops=True, parks=True, truthful=True),
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
    lengths = {"stop": (0.2, 9.0), "freeze": (0.5, 4.0), "isolate": (0.5, 5.0), "cut": (0.0, 1.0)}

    def action(name: str) -> Action:
        length = chance.uniform(*lengths.get(name, (0, 0)))
        return Action(name, chance.randrange(replicas), chance.uniform(0, profile.pace), length)

    return [action(name) for name in names]


# They are named in src/failpoint.rs; F4 is kept for broadcasts.
POINTS = ("F1", "F2", "F3", "F5", "F6", "F7", "F8", "F9", "F10", "F11", "F12", "F13", "F14")
# A parked report comes seldom, and is taken by whichever replica looks first.
ANYWHERE = ("F12",)
# So does what stops a message, and it comes to any of them.
_SELDOM = ("F14",)


def points(profile: Profile, chance: random.Random) -> list[str]:
    """Where processes shall die, each with the passage at which they do; but for what nobody knows who passes."""
    names = [name for name in POINTS if name not in ANYWHERE] * profile.points
    chance.shuffle(names)
    return [f"{name} {1 if name in _SELDOM else chance.randint(1, 4)}" for name in names]


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
    # Not before, in seconds since 1970; 0: at once.
    due: int = 0


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
