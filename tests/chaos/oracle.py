"""The judge of a run. It shares no code with the server and trusts none of its words: it reads the journals of clients,
watchers and stand-ins and the last look through the public API, and counts what must not be. One JSON line; exit code 1 when
anything was violated.

    python oracle.py FOLDER
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from journal import entries
from messages import mail_text, mailbox, mark, mark_in, phone

# Where a state may lead; it never goes back.
MOVES = {
    "PENDING": {"PENDING", "CANCELLED", "SKIPPED", "UNCONFIRMED", "SENT", "DELIVERED", "FAILED"},
    "CANCELLED": {"CANCELLED", "SKIPPED"},
    "SKIPPED": {"SKIPPED"},
    "UNCONFIRMED": {"UNCONFIRMED", "SENT", "DELIVERED", "FAILED"},
    "SENT": {"SENT", "DELIVERED", "FAILED"},
    "FAILED": {"FAILED", "DELIVERED"},
    "DELIVERED": {"DELIVERED"},
}
LAST_WORDS = {"delivered": "DELIVERED", "undelivered": "FAILED", "failed": "FAILED"}
# Calls under way in one process at most: nobody dies with more claims in hand.
SLOTS = 256
# By then, in seconds, claims of a process that died are taken over, also while the database restarts.
LEASES = 15
# A violation is shown so many times.
SHOWN = 5


class Found:
    """What was counted, with examples of what must not be."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def wrong(self, kind: str, example: str, count: int = 1) -> None:
        self.counts[kind] += count
        if len(self.examples[kind]) < SHOWN:
            self.examples[kind].append(example)


def judge(folder: Path) -> dict[str, Any]:
    """Reads a run's folder and gives its line."""
    about = json.loads((folder / "run.json").read_text())
    found = Found()
    sends = list(entries(folder / "sends.jsonl"))
    final = list(entries(folder / "final.jsonl"))
    provider = list(entries(folder / "sandbox-journal.jsonl"))
    watches = list(entries(folder / "watches.jsonl"))
    reads = list(entries(folder / "reads.jsonl"))
    stops = list(entries(folder / "stops.jsonl"))
    reports = list(entries(folder / "reports.jsonl"))
    listed = {it["listed"]["id"]: it["listed"] for it in final if "listed" in it}

    check_accepts(found, sends, listed, final)
    info = check_provider(found, about, sends, listed, provider)
    check_end(found, about, listed, {it["request_id"] for it in stops})
    check_finals(found, listed, sends, provider, next(it["fates"] for it in final if "fates" in it))
    info["reports_parked"] = check_parked(found, reports, listed, sends, provider)
    info["stopped"] = check_stops(found, stops, listed, provider)
    # These came while a claim was held up, and were let through after it.
    info["stops_held_up"] = sum("held" in it for it in stops)
    check_moves(found, watches, reads, listed)
    check_feed(found, watches, final, listed)
    if about["truthful"]:
        check_hoards(found, watches, list(entries(folder / "events.jsonl")), sends, provider)
    for it in final:
        if "foreign" in it and it.get("missing") != "NOT_FOUND":
            found.wrong("shown_to_others", f"{it['foreign']} was asked for by another practice: {it.get('missing', 'shown')}")
    for point in about["unreached"]:
        found.wrong("unreached", f"nobody died at {point}")
    for line in about["leaks"]:
        found.wrong("leaked", line)

    for kind, examples in sorted(found.examples.items()):
        for example in examples:
            print(f"{about['profile']} on {about['database']}: {kind}: {example}", file=sys.stderr)
    kills = about["counts"].get("kill", 0)
    names = ("profile", "database", "seed", "commit", "mutant")
    return {
        **{name: about[name] for name in names if name in about},
        **about["counts"],
        **({"points": about["points"]} if about["points"] else {}),
        **info,
        # With none lost in so many kills, fewer than this are lost per kill, at 95 %.
        **({"lost_per_kill_below": round(3 / kills, 5)} if kills and not found.counts["lost"] else {}),
        **{kind: found.counts[kind] for kind in KINDS},
        "violations": sum(found.counts.values()),
        "seconds": about["seconds"],
    }


KINDS = (
    "lost",
    "double_create",
    "duplicate",
    "duplicate_unflagged",
    "token_reused",
    "unasked",
    "refused",
    "unknown_open",
    "unknown_closed",
    "stuck",
    "false_sent",
    "false_failure",
    "wrong_final",
    "unmatched",
    "after_stop",
    "regressed",
    "hoarded",
    "broke_ordered",
    "broke_reliable",
    "broke_resumable",
    "broke_bookmarkable",
    "broke_unique_per_connection",
    "shown_to_others",
    "unreached",
    "leaked",
)


def check_accepts(
    found: Found, sends: list[dict[str, Any]], listed: dict[str, Any], final: list[dict[str, Any]]
) -> None:
    """Every acceptance stands, once for each request, and nothing else does."""
    made: dict[str, set[str]] = defaultdict(set)
    promised: dict[str, str] = {}
    for it in sends:
        if it["what"] == "reuse":
            if it.get("refused") != "ALREADY_EXISTS":
                found.wrong("double_create", f"{it['request_id']} with another text: {it.get('refused', 'accepted')}")
        elif "refused" in it:
            found.wrong("refused", f"{it['request_id']}: {it['refused']} {it['detail']} after {it['errors']}")
        else:
            made[it["request_id"]].add(it["ok"])
            promised.update(it["deliveries"])
            if sorted(it["deliveries"].values()) != sorted(it["channels"]):
                found.wrong("lost", f"{it['request_id']}: asked for {it['channels']}, promised {it['deliveries']}")
    for request, ids in made.items():
        if len(ids) != 1:
            found.wrong("double_create", f"{request} made {sorted(ids)}", len(ids) - 1)
    for delivery in promised.keys() - listed.keys():
        found.wrong("lost", f"delivery {delivery} was promised and is not listed")
    by_request = Counter((it["reference"], it["channel"]) for it in listed.values())
    for (request, channel), count in by_request.items():
        if count > 1:
            found.wrong("double_create", f"{count} deliveries of {request} by {channel}", count - 1)
        if request not in made:
            found.wrong("unasked", f"{request} is listed, and nobody was told of it")
    for it in final:
        if "got" in it and "missing" in it:
            found.wrong("lost", f"notification {it['got']}: {it['missing']}")
        for delivery in it.get("deliveries", ()):
            shown = listed.get(delivery["id"])
            if shown is None or (shown["rev"], shown["state"]) != (delivery["rev"], delivery["state"]):
                found.wrong("lost", f"delivery {delivery['id']} is {delivery}, and the list has {shown}")


def reached(provider: list[dict[str, Any]]) -> tuple[dict[tuple[str, str], list[dict[str, Any]]], ...]:
    """The texts and the mails that left, by recipient and mark."""
    texts, mails = defaultdict(list), defaultdict(list)
    for it in provider:
        if it["event"] == "twilio_create":
            texts[it["to"], mark_in(it["body"])].append(it)
        elif it["event"] == "smtp_message":
            for recipient in it["rcpt_to"]:
                mails[recipient, mark_in(mail_text(it["raw"]))].append(it)
    return texts, mails


def messages(sends: list[dict[str, Any]]) -> dict[str, dict[str, tuple[str, str]]]:
    """For each request and channel, by what the provider knows it."""
    known: dict[str, dict[str, tuple[str, str]]] = {}
    for it in sends:
        if it["what"] != "reuse":
            text = mark(it["minute"])
            known[it["request_id"]] = {"SMS": (phone(it["patient"]), text), "EMAIL": (mailbox(it["patient"]), text)}
    return known


def check_provider(
    found: Found, about: dict[str, Any], sends: list[dict[str, Any]], listed: dict[str, Any], provider: list[dict[str, Any]]
) -> dict[str, int]:
    """What left is what was asked for, once; and what is said to have left, did."""
    texts, mails = reached(provider)
    known = messages(sends)
    twice_mail = 0
    asked: dict[str, set[tuple[str, str]]] = {"SMS": set(), "EMAIL": set()}
    for it in listed.values():
        if it["channel"] == "IN_APP" or it["reference"] not in known:
            continue
        message = known[it["reference"]][it["channel"]]
        asked[it["channel"]].add(message)
        left = (texts if it["channel"] == "SMS" else mails).get(message, [])
        if len(left) > 1:
            # A mail may come twice where nobody can know, and then it says so; a text never, unless a process stood still.
            allowed = it["channel"] == "EMAIL" or about["pauses"]
            if not allowed:
                found.wrong("duplicate", f"{it['reference']}: {len(left)} texts to {message}", len(left) - 1)
            elif not it["duplicate"]:
                found.wrong("duplicate_unflagged", f"{it['reference']} {it['channel']}: {len(left)} times, and nothing said")
            elif it["channel"] == "EMAIL" and len(left) > 2:
                found.wrong("duplicate", f"{it['reference']}: {len(left)} mails to {message}", len(left) - 2)
            else:
                twice_mail += 1
        if not left and it["state"] in ("SENT", "DELIVERED"):
            found.wrong("false_sent", f"{it['reference']} {it['channel']} is {it['state']}, and the provider has nothing")
        if left and it["state"] in ("PENDING", "SKIPPED", "CANCELLED"):
            found.wrong("false_failure", f"{it['reference']} {it['channel']} is {it['state']}, and it left")
    for channel, kept in (("SMS", texts), ("EMAIL", mails)):
        for message in kept.keys() - asked[channel]:
            found.wrong("unasked", f"{message} left, and nobody asked for it")
    for it in provider:
        if it["event"] == "token_reused":
            found.wrong("token_reused", f"one attempt made {it['sids']}")
    outcomes = Counter(it["outcome"] for kept in texts.values() for it in kept)
    return {
        "accepted": len({it["ok"] for it in sends if "ok" in it}),
        "deliveries": len(listed),
        "texts": sum(map(len, texts.values())),
        "mails": sum(map(len, mails.values())),
        "twice_and_flagged": twice_mail,
        "replies_lost": outcomes["dropped"] + outcomes["failed"],
        "callbacks": sum(it["event"] == "callback_sent" for it in provider),
        "client_errors": sum(len(it["errors"]) for it in sends),
        "client_repeats": sum(bool(it.get("replayed")) for it in sends),
    }


def check_end(found: Found, about: dict[str, Any], listed: dict[str, Any], stopped: set[str]) -> None:
    """After the quiet nothing is open, and what is unknown is named. Whether something left cannot be found out by sending it
    again where that was stopped meanwhile."""
    for it in listed.values():
        name = f"{it['reference']} {it['channel']}"
        if it["state"] == "PENDING":
            found.wrong("stuck", f"{name} is pending after {it['attempts']} attempts")
        elif it["state"] == "UNCONFIRMED" and it["next"]:
            found.wrong("unknown_open", f"{name} is still looked into")
        elif it["state"] == "UNCONFIRMED" and it["channel"] == "SMS" and about["truthful"] and it["reference"] not in stopped:
            found.wrong("unknown_closed", f"{name}: the provider's list could have told")


def check_finals(
    found: Found,
    listed: dict[str, Any],
    sends: list[dict[str, Any]],
    provider: list[dict[str, Any]],
    fates: dict[str, str],
) -> None:
    """A delivery's last state is the message's fate wherever the server was told of it, and never another one."""
    texts, _ = reached(provider)
    known = messages(sends)
    told: dict[str, set[str]] = defaultdict(set)
    for it in provider:
        if it["event"] == "callback_sent" and it["http_status"] is not None and 200 <= it["http_status"] < 300:
            told[it["sid"]].add(it["status"])
    for it in listed.values():
        left = texts.get(known[it["reference"]]["SMS"]) if it["channel"] == "SMS" and it["reference"] in known else None
        if not left:
            continue
        ends = {LAST_WORDS[fates[sid]] for text in left if fates.get(sid := text["sid"]) in LAST_WORDS}
        words = {word for text in left for word in told[text["sid"]]}
        if it["state"] in ("DELIVERED", "FAILED") and it["state"] not in ends:
            found.wrong("wrong_final", f"{it['reference']} is {it['state']}, and its texts ended as {sorted(ends)}")
        elif words and it["state"] not in ("SENT", "DELIVERED", "FAILED"):
            found.wrong("wrong_final", f"{it['reference']} is {it['state']}, and the provider said {sorted(words)}")
        elif words & LAST_WORDS.keys() and it["state"] == "SENT":
            found.wrong("wrong_final", f"{it['reference']} is SENT, and the provider said {sorted(words)}")


def check_parked(
    found: Found,
    reports: list[dict[str, Any]],
    listed: dict[str, Any],
    sends: list[dict[str, Any]],
    provider: list[dict[str, Any]],
) -> int:
    """A report that was taken before its attempt was known counts once it is. Says how many there were."""
    parked = {it["parked"] for it in reports if "parked" in it}
    marks = {it["sid"]: (it["to"], mark_in(it["body"])) for it in provider if it["event"] == "twilio_create"}
    known = messages(sends)
    by_mark = {known[it["reference"]]["SMS"]: it for it in listed.values() if it["reference"] in known and it["channel"] == "SMS"}
    for sid in parked:
        it = by_mark.get(marks[sid])
        if it is None or it["state"] != "DELIVERED":
            found.wrong("unmatched", f"{marks[sid]} was reported as delivered, and is {it and it['state']}")
    return len(parked)


def check_stops(
    found: Found, stops: list[dict[str, Any]], listed: dict[str, Any], provider: list[dict[str, Any]]
) -> int:
    """Nothing went out that was stopped before it was due, or before its claim was committed. Says how many were."""
    texts, _ = reached(provider)
    by_reference = {it["reference"]: it for it in listed.values()}
    count = 0
    for it in stops:
        in_time = it["time"] < it["due"] if "due" in it else it["held"] < it["stopped"] < it["released"]
        if not in_time:
            continue
        count += 1
        left = texts.get((phone(it["patient"]), mark(it["minute"])))
        if left:
            found.wrong("after_stop", f"{it['request_id']} was stopped, and {len(left)} texts left")
        elif by_reference[it["request_id"]]["state"] != "SKIPPED":
            found.wrong("after_stop", f"{it['request_id']} was stopped, and is {by_reference[it['request_id']]['state']}")
    return count


def is_back(before: dict[str, Any], after: dict[str, Any]) -> bool:
    moves = MOVES[before["state"]] | ({"FAILED"} if before["channel"] == "EMAIL" and before["state"] == "DELIVERED" else set())
    reopened = before["state"] == after["state"] == "UNCONFIRMED" and not before["next"] and after["next"]
    return after["state"] not in moves or reopened or after["attempts"] < before["attempts"]


def steps(before: dict[str, Any], after: dict[str, Any]) -> str:
    return " to ".join(f"{it['state']} after {it['attempts']} attempts" for it in (before, after))


def check_moves(
    found: Found, watches: list[dict[str, Any]], reads: list[dict[str, Any]], listed: dict[str, Any]
) -> None:
    """No reader saw a state or a count of attempts go back: not along the revisions, not from one read to the next."""
    lives: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for it in watches:
        for change in it.get("changes", ()):
            told = lives[change["id"]].setdefault(change["rev"], change)
            if told["state"] != change["state"]:
                found.wrong("regressed", f"{change['id']} revision {change['rev']}: {told['state']} and {change['state']}")
    for delivery, life in lives.items():
        revisions = sorted(life)
        for first, second in zip(revisions, revisions[1:]):
            if is_back(life[first], life[second]):
                found.wrong("regressed", f"{delivery}: {steps(life[first], life[second])}, revision {second}")
            if second == first + 1 and life[second]["before"] != life[first]["state"]:
                found.wrong("regressed", f"{delivery} revision {second}: before it {life[second]['before']}, not {life[first]['state']}")
    seen: dict[str, dict[str, Any]] = {}
    for read in (*(it["read"] for it in reads), list(listed.values())):
        for delivery in read:
            before = seen.get(delivery["id"])
            if before is not None and (delivery["rev"] < before["rev"] or is_back(before, delivery)):
                found.wrong("regressed", f"read {delivery['id']}: {steps(before, delivery)}")
            seen[delivery["id"]] = delivery


def check_feed(
    found: Found, watches: list[dict[str, Any]], final: list[dict[str, Any]], listed: dict[str, Any]
) -> None:
    """Every watch told all of its part, in one order, without a gap, also after a resume (the promises of etcd's validators)."""
    reference = next(it["reference"] for it in final if "reference" in it)
    order = {(event[0], event[1]): place for place, event in enumerate(reference)}
    revisions: dict[str, list[int]] = defaultdict(list)
    for delivery, revision in reference:
        revisions[delivery].append(revision)
    for delivery, it in listed.items():
        if revisions[delivery] != list(range(1, it["rev"] + 1)):
            found.wrong("broke_reliable", f"{delivery}: revisions {revisions[delivery]} of {it['rev']}")
    if len(order) != len(reference):
        found.wrong("broke_unique_per_connection", "the replay tells a change twice", len(reference) - len(order))

    filters = {it["watcher"]: it["filter"] for it in watches if "filter" in it}
    parts = {name: part(reference, kept, listed) for name, kept in filters.items()}
    at = dict.fromkeys(filters, -1)
    fresh = dict.fromkeys(filters, True)
    told: dict[str, set[tuple[str, int]]] = {name: set() for name in filters}
    for it in watches:
        name = it["watcher"]
        if it.get("end") == "OUT_OF_RANGE":
            found.wrong("broke_resumable", f"{name}: its cursor leads nowhere")
        if "open" in it:
            fresh[name] = True
            told[name].clear()
        for change in it.get("changes", ()):
            check_event(found, name, (change["id"], change["rev"]), parts[name], at, fresh, told)
    for name, positions in parts.items():
        missed = len(positions) - 1 - at[name]
        if missed:
            found.wrong("broke_reliable", f"{name} never got the last {missed} of {len(positions)}", missed)
    for it in final:
        if "probe" in it:
            rest = sorted(parts[it["probe"]].items(), key=lambda item: item[1])[it["place"] :]
            wanted = [list(event) for event, _ in rest[: len(it["found"]) or 1]]
            if it["found"] != wanted and (it["found"] or rest):
                example = f"{it['probe']} step {it['step']}: its cursor leads to {it['found'][:2]}, and left was {wanted[:2]}"
                found.wrong("broke_bookmarkable", example)


def part(reference: list[list[Any]], kept: dict[str, Any], listed: dict[str, Any]) -> dict[tuple[str, int], int]:
    """The places of the events that a watch with this filter has to tell."""
    passing = (
        (event[0], event[1])
        for event in reference
        if event[0] in listed
        and (not kept.get("channels") or listed[event[0]]["channel"] in kept["channels"])
        and (not kept.get("patients") or listed[event[0]]["patient"] in kept["patients"])
    )
    return {event: place for place, event in enumerate(passing)}


def check_event(
    found: Found,
    name: str,
    event: tuple[str, int],
    positions: dict[tuple[str, int], int],
    at: dict[str, int],
    fresh: dict[str, bool],
    told: dict[str, set[tuple[str, int]]],
) -> None:
    place = positions.get(event)
    if place is None:
        found.wrong("broke_reliable", f"{name} was told {event}, which is not its part of the feed")
    elif event in told[name]:
        found.wrong("broke_unique_per_connection", f"{name} was told {event} twice by one stream")
    elif place < at[name] and not fresh[name]:
        found.wrong("broke_ordered", f"{name} was told {event} (place {place}) after place {at[name]}")
    elif place > at[name] + 1:
        kind = "broke_resumable" if fresh[name] else "broke_reliable"
        found.wrong(kind, f"{name} was told place {place} after {at[name]}", place - at[name] - 1)
    told[name].add(event)
    fresh[name] = False
    at[name] = max(at[name], place if place is not None else -1)


def check_hoards(
    found: Found,
    watches: Iterable[dict[str, Any]],
    events: list[dict[str, Any]],
    sends: list[dict[str, Any]],
    provider: list[dict[str, Any]],
) -> None:
    """A process dies with no more claims than it has slots: only so many can come into doubt that the provider never saw."""
    texts, mails = reached(provider)
    known = messages(sends)
    doubted: dict[str, float] = {}
    for it in watches:
        for change in it.get("changes", ()):
            if change["state"] == "UNCONFIRMED" and change["reference"] in known:
                message = known[change["reference"]][change["channel"]]
                left = (texts if change["channel"] == "SMS" else mails).get(message, [])
                if not any(moment(it) <= change["at"] for it in left):
                    doubted.setdefault(change["id"], change["at"])
    deaths = [it["time"] for it in events if it["what"] != "quiet"]
    windows: dict[int, list[float]] = defaultdict(list)
    for at in doubted.values():
        windows[sum(death <= at for death in deaths)].append(at)
    for window, times in windows.items():
        # Those of earlier deaths may come up in the same window, until their leases are over.
        most = SLOTS * max(2, sum(min(times) - LEASES < death <= max(times) for death in deaths))
        if len(times) > most:
            example = f"{len(times)} deliveries came into doubt unsent after misfortune {window} of {len(deaths)}"
            found.wrong("hoarded", example, len(times) - most)


def moment(entry: dict[str, Any]) -> float:
    """When a stand-in wrote an entry; Python reads no nanoseconds."""
    return datetime.fromisoformat(entry["time"][:26] + "+00:00").timestamp()


if __name__ == "__main__":
    verdict = judge(Path(sys.argv[1]))
    print(json.dumps(verdict))
    sys.exit(1 if verdict["violations"] else 0)
