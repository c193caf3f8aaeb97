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


# By then a run with a bug has shown it; what is stuck stays stuck.
_SOON = 20.0

MUTANTS = {
    it.name: it
    for it in (
        # An acceptance that a crash of the database forgets.
        Mutant("commit in memory", "truthful", ("lost",), changes={"kills": 4, "sends": 400, "others": {"postgres": 300}}),
        # What is due is found only by hints, as with a queue beside the rows that is told after the commit.
        Mutant("hints only", "truthful", ("stuck",), "sqlite", {"kills": 6, "sends": 200, "quiet_limit": _SOON}),
        # The key of a request is looked up, and its row then written without a look at who else did.
        Mutant("read, then insert", "truthful", ("double_create",), changes={"kills": 0, "sends": 150, "twins": 1.0, "others": {}}),
        Mutant("unknown is no", "faulty", ("duplicate",), "sqlite", {"kills": 0, "sends": 150, "quiet_limit": _SOON}),
        Mutant("unknown forgotten", "faulty", ("unknown_open",), "sqlite", {"kills": 0, "sends": 150, "quiet_limit": _SOON}),
        Mutant("no clock offset", "faulty", ("duplicate",), "sqlite", {"kills": 0, "sends": 150, "quiet_limit": _SOON}),
        Mutant("no fence", "holds", ("duplicate", "regressed", "stuck"), changes={"quiet_limit": _SOON}),
        Mutant("no start limit", "holds", ("duplicate",)),
        Mutant("last write wins", "callbacks", ("regressed",), "sqlite", {"kills": 0, "sends": 20}),
        Mutant("unknown token dropped", "parked", ("unmatched",), "sqlite", {"kills": 0, "sends": 300}),
        # The feed is numbered before the commit, so that a reader passes by what commits late.
        Mutant("serial feed", "watch", ("broke_reliable", "broke_ordered"), changes={"kills": 2}),
        Mutant("early checkpoint", "watch", ("broke_bookmarkable", "broke_resumable"), "sqlite", {"kills": 4, "sends": 250}),
        Mutant("coalesced", "watch", ("broke_reliable",), "sqlite", {"kills": 1, "sends": 100}),
        # What stops a message is read once, in a statement that an opt-out does not hold up; and read again, but not locked.
        Mutant("gates read once", "races", ("after_stop",), changes={"races": 5}),
        Mutant("gates not locked", "races", ("after_stop",), changes={"races": 5}),
        Mutant("prefetched", "burst", ("hoarded",), "sqlite"),
    )
}

# Those of a short run, to see at every change that the oracle can fail.
SHORT = ("unknown is no", "last write wins", "coalesced")
