"""The planted bugs (`mutant!` in src), each with the run that has to find it and what the oracle must then count. A validator
that no planted bug turns red does not count."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """One bug."""

    name: str
    # The run that meets it, with what is different about it.
    profile: str
    # At least one of these is counted.
    caught_by: tuple[str, ...]
    database: str = "postgres"
    changes: dict[str, Any] = field(default_factory=dict)
    # The database with which nothing comes of it.
    held_by: str | None = None


# By then a run with a bug has shown it; what is stuck stays stuck.
_SOON = 20.0
# So many that some of the provider's faults hit a text whose outcome nothing else tells.
_FAULTS = {"kills": 0, "sends": 400, "quiet_limit": _SOON}
_SHORT_BURST = {"burst": 12.0, "quiet_limit": _SOON}
_ONE_HOLD = {"sends": 50, "kills": 0, "holds": 1}
_OVERLAPS = {"sends": 50, "kills": 0, "others": {}, "overlaps": 2}

MUTANTS = {
    it.name: it
    for it in (
        # An acceptance that a crash of the database forgets.
        Mutant("commit in memory", "truthful", ("lost",), changes={"kills": 4, "sends": 400, "others": {"postgres": 300}}),
        # What is due is found only by hints, as with a queue beside the rows that is told after the commit: nobody hints at what
        # becomes due later, or at what a process that died was told of.
        Mutant("hints only", "burst", ("stuck",), "sqlite", {"sends": 40, "kills": 1, "takers": 0, **_SHORT_BURST}),
        # The key of a request is looked up, and its row then written without a look at who else did.
        Mutant("read, then insert", "truthful", ("double_create",), changes={"kills": 0, "sends": 150, "twins": 1.0, "others": {}}),
        Mutant("unknown is no", "faulty", ("duplicate",), "sqlite", _FAULTS),
        Mutant("unknown forgotten", "faulty", ("unknown_open",), "sqlite", _FAULTS),
        Mutant("no clock offset", "faulty", ("duplicate",), "sqlite", _FAULTS),
        Mutant("no fence", "holds", ("regressed",), changes={**_ONE_HOLD, "quiet_limit": _SOON}),
        Mutant("no start limit", "holds", ("duplicate",), changes=_ONE_HOLD),
        Mutant("last write wins", "callbacks", ("regressed",), "sqlite", {"kills": 0, "sends": 20}),
        Mutant("unknown token dropped", "parked", ("unmatched",), "sqlite", {"kills": 0, "sends": 300, "quiet_limit": _SOON}),
        # The feed is numbered before the commit, so that a reader passes by what commits late.
        Mutant("serial feed", "watch", ("broke_reliable",), changes={**_OVERLAPS, "quiet_limit": _SOON}),
        Mutant("early checkpoint", "watch", ("broke_bookmarkable", "broke_resumable"), "sqlite", {"kills": 4, "sends": 250}),
        Mutant("coalesced", "watch", ("broke_reliable",), "sqlite", {"kills": 1, "sends": 100}),
        # What stops a message is read once, in a statement that an opt-out does not hold up; and read again, but not locked.
        Mutant("gates read once", "races", ("after_stop",), changes={"races": 3}),
        Mutant("gates not locked", "races", ("after_stop",), changes={"races": 3}),
        # Whoever knows an id reads what is another practice's, unless the database itself keeps practices apart.
        Mutant("no practice", "truthful", ("shown_to_others",), "sqlite", {"kills": 0, "sends": 40, "others": {}}, "postgres"),
        Mutant("prefetched", "burst", ("hoarded",), "sqlite", {"sends": 160, "takers": 1, **_SHORT_BURST}),
    )
}

# Those of a short run, to see at every change that the oracle can fail.
SHORT = ("unknown is no", "last write wins", "coalesced")
