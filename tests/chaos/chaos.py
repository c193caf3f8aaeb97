"""Runs chaos: processes, clients and watchers under one plan of misfortunes, then the oracle. Prints one JSON line a run."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# What the black-box tests and these runs share.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc  # noqa: E402
import oracle  # noqa: E402
from clients import CLIENTS, Clients  # noqa: E402
from deaths import Deaths  # noqa: E402
from holds import hold, overlap  # noqa: E402
from journal import Journal, entries  # noqa: E402
from messages import PATIENTS  # noqa: E402
from mutants import MUTANTS, SHORT, Mutant  # noqa: E402
from profiles import ANYWHERE, POINTS, PROFILES, TIMES, Action, Profile, actions, jobs, points  # noqa: E402
from reports import Parker, Reporter  # noqa: E402
from stops import Stopper, race  # noqa: E402
from support.contract import ROOT, notify, types  # noqa: E402
from support.waiting import until  # noqa: E402
from watchers import Lister, Watcher, filters, list_all, passes, replay, shown  # noqa: E402
from world import World  # noqa: E402

OPEN = (types.DELIVERY_STATE_PENDING, types.DELIVERY_STATE_UNCONFIRMED)
# So many notifications are read one by one at the end, and so many cursors are tried out.
_READS, _PROBES, _PROBE = 2_000, 24, 150
# So many are asked for by another practice.
_FOREIGN_READS = 50
# Sends for each death at a point: more are permitted than that many only when it is reached late.
_SENDS_FOR_A_DEATH = 100


class Run:
    """One run on one database."""

    def __init__(self, profile: Profile, database: str, seed: int, folder: Path, settings: dict[str, str]) -> None:
        self.profile, self.database, self.seed, self.folder = profile, database, seed, folder
        self._settings = settings
        self._chance = random.Random(f"{seed} plan")
        self._seconds: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._deaths: Deaths | None = None
        self._began = 0.0

    def play(self) -> dict[str, Any]:
        """The run, and what the oracle says of it."""
        began = self._began = time.monotonic()
        world = World(self.folder, self.profile, self.database, self.seed, self._settings)
        try:
            self._act(world)
            leaks = world.stop()
        finally:
            world.end()
        self._seconds["run"] = time.monotonic() - began
        about = {
            "profile": self.profile.name,
            "database": self.database,
            "seed": self.seed,
            "commit": commit(),
            "truthful": self.profile.truthful,
            "pauses": self.profile.pauses,
            "counts": self._counts,
            "seconds": {name: round(seconds, 1) for name, seconds in self._seconds.items()},
            "leaks": leaks[:5],
            "points": self._deaths.points if self._deaths else {},
            "unreached": self._deaths.unreached if self._deaths else [],
            **({"mutant": self._settings["HEEDWELL_TEST_MUTANT"]} if "HEEDWELL_TEST_MUTANT" in self._settings else {}),
        }
        (self.folder / "run.json").write_text(json.dumps(about))
        return oracle.judge(self.folder)

    def _act(self, world: World) -> None:
        watches, reads, sends = (Journal(self.folder / f"{name}.jsonl") for name in ("watches", "reads", "sends"))
        events = Journal(self.folder / "events.jsonl")
        stub = world.stubs()[0]
        first = world.practice.cursor()
        kept = filters(self.profile.watchers, random.Random(f"{self.seed} filters"))
        watchers = [Watcher(world, watches, number, it, first, self.seed) for number, it in enumerate(kept)]
        # What is read is written down, and a long run would write little else.
        lister = Lister(world, reads, self.seed, max(0.3, self.profile.sends / 10_000))
        plan = actions(self.profile, len(world.servers), world.cluster is not None, self._chance)
        deaths = self.profile.points * len(POINTS)
        profile = self.profile.sized(sends=self.profile.sends + _SENDS_FOR_A_DEATH * deaths)
        work = list(jobs(profile, PATIENTS, self._chance))
        clients = Clients(world, sends, work, self.seed)
        stops, reports = (Journal(self.folder / f"{name}.jsonl") for name in ("stops", "reports"))
        reporter = Reporter(world, reports)
        others: list[Any] = []
        if self.profile.stops:
            others.append(Stopper(world, clients, stops, self.seed))
        if self.profile.parks:
            others.append(Parker(world, clients, reporter, reports, self.seed))
        try:
            started = time.monotonic()
            self._directed(world, events, clients, stops, reporter, watchers)
            self._misfortunes(world, events, clients, plan, clients.given + (0 if self.profile.burst else self.profile.sends))
            clients.join(300 + self.profile.sends / 10)
            world.revive()
            for other in others:
                other.stop()
            quiet = time.monotonic()
            self._seconds["sends and misfortunes"] = quiet - started
            self._settle(world, stub, [it for other in others for it in getattr(other, "parked", ())])
            self._seconds["until nothing is stuck"] = time.monotonic() - quiet
            listed = self._catch_up(world, stub, watchers)
        finally:
            lister.stop()
            for watcher in watchers:
                watcher.stop()
        self._read(world, stub, first, listed, kept, watches)

    def _directed(
        self,
        world: World,
        events: Journal,
        clients: Clients,
        stops: Journal,
        reporter: Reporter,
        watchers: list[Watcher],
    ) -> None:
        """What chance would seldom meet."""
        profile, several = self.profile, world.cluster is not None
        self._deaths = deaths = Deaths(world, events, clients, self._began + profile.longest)
        if profile.points:
            deaths.one_by_one(points(profile, self._chance))
            for point in ANYWHERE:
                deaths.whoever_comes(f"{point} 1", profile.points)
        if profile.burst:
            deaths.burst(profile.sends, profile.takers)
        if profile.holds:
            hold(world, clients, reporter, watchers[0], profile.holds, self.seed)
        # The one writer of SQLite has nobody who could overtake it.
        if profile.races and several:
            race(world, clients, stops, reporter, watchers[0], profile.races, self.seed)
        if profile.overlaps and several:
            overlap(world, clients, watchers[0], profile.overlaps, self.seed)
        if deaths.points:
            self._counts["kill"] = deaths.points.total()

    def _misfortunes(self, world: World, events: Journal, clients: Clients, plan: list[Action], sends: int) -> None:
        given = clients.given
        pace = max(CLIENTS, (sends - given) // (len(plan) + 1))
        later: list[threading.Thread] = []
        for turn, action in enumerate(plan, 1):
            if time.monotonic() - self._began > self.profile.longest:
                sends = given
                break
            share = max(given, sends * turn // (len(plan) + 1))
            clients.permit(share - given)
            given = share
            # Misfortunes come along with the sends, and not all of them before.
            until("sends keep pace", 300, lambda: clients.backlog() <= pace)
            if len(world.servers) == 1:
                # Else it would be killed before it has done anything.
                world.await_server(0)
            # When a misfortune comes is the input of a run; nothing is synchronised by it.
            time.sleep(action.delay)
            self._counts[action.what] = self._counts.get(action.what, 0) + 1
            events.write(what=action.what, replica=action.replica, length=action.length)
            thread = threading.Thread(target=befall, args=(world, action))
            thread.start()
            if action.what in ("kill", "restart", "postgres"):
                thread.join()
            else:
                later.append(thread)
        for thread in later:
            thread.join()
        clients.permit(sends - given)
        events.write(what="quiet")
        self._counts["sends"] = sends
        clients.drop_rest()

    def _settle(self, world: World, stub: Any, parked: list[str]) -> None:
        """Waits until nothing is open, and nothing reported that is not known; what then still is, the oracle calls stuck."""
        sent = notify.DeliveryFilter(states=[types.DELIVERY_STATE_SENT])

        def nothing_parked() -> bool:
            return not [it for it in list_all(world, stub, filter=sent) if it["patient"] in parked]

        def nothing_open() -> bool:
            found = list_all(world, stub, filter=notify.DeliveryFilter(states=OPEN))
            return not [it for it in found if it["state"] == "PENDING" or it["next"]]

        try:
            until("nothing is open", self.profile.quiet_limit, nothing_open, pause=0.2)
            if parked:
                until("no report is parked", self.profile.quiet_limit, nothing_parked, pause=0.2)
        except AssertionError:
            return
        # Callbacks may still be under way.
        length, since = -1, time.monotonic()
        while time.monotonic() - since < 1.5:
            now = world.sandbox.journal_file.stat().st_size
            if now != length:
                length, since = now, time.monotonic()
            time.sleep(0.1)

    def _catch_up(self, world: World, stub: Any, watchers: list[Watcher]) -> list[dict[str, Any]]:
        listed = list_all(world, stub)
        try:
            limit = min(30.0, self.profile.quiet_limit)
            until("every watch has all that is listed", limit, lambda: all(watcher.has(listed) for watcher in watchers))
        except AssertionError:
            # The oracle says what is missing.
            pass
        return listed

    def _read(
        self, world: World, stub: Any, first: str, listed: list[dict[str, Any]], kept: list[Any], watches: Journal
    ) -> None:
        """The last look through the public API."""
        final = Journal(self.folder / "final.jsonl")
        listed = list_all(world, stub)
        for delivery in listed:
            final.write(listed=delivery)
        changes = {(it["id"], it["rev"]): it for it in self._changes()}
        # Should a checkpoint come too early, what is behind it is read all the same.
        reference = replay(world, stub, {}, first, sum(it["rev"] for it in listed), checkpoints=3)
        final.write(reference=reference)
        final.write(fates=self._fates(world))
        accepted = sorted({it["ok"] for it in entries(self.folder / "sends.jsonl") if "ok" in it})
        self._chance.shuffle(accepted)
        for notification in accepted[:_READS]:
            request = notify.GetNotificationRequest(practice_id=world.practice.id, notification_id=notification)
            try:
                answer = stub.GetNotification(request, timeout=30, metadata=world.metadata, wait_for_ready=True)
                final.write(got=notification, deliveries=[shown(it) for it in answer.notification.deliveries])
            except grpc.RpcError as error:
                final.write(got=notification, missing=error.code().name)
        for notification in accepted[:_FOREIGN_READS]:
            request = notify.GetNotificationRequest(practice_id=world.neighbour.id, notification_id=notification)
            try:
                stub.GetNotification(request, timeout=30, metadata=world.neighbour.metadata, wait_for_ready=True)
                final.write(foreign=notification)
            except grpc.RpcError as error:
                final.write(foreign=notification, missing=error.code().name)
        by_id = {it["id"]: it for it in listed}
        order = [(it[0], it[1]) for it in reference]

        def probe(name: str, place: int, cursor: str, step: int) -> None:
            filter_ = kept[int(name.partition("-")[2])]
            behind = [it for it in order if it[0] in by_id and passes(filter_, by_id[it[0]])]
            left = len(behind) - place
            found = replay(world, stub, filter_, cursor, min(left, _PROBE)) if left > 0 else []
            final.write(probe=name, step=step, place=place, found=found)

        # Side by side: one that finds too little waits for a heartbeat.
        with ThreadPoolExecutor(_PROBES) as pool:
            for probed in [pool.submit(probe, *it) for it in self._cursors()]:
                probed.result()
        assert changes or not listed, "no watch saw anything"

    def _fates(self, world: World) -> dict[str, str]:
        """What became of each message at the provider, whose list is behind."""
        created = {it["sid"] for it in entries(self.folder / "sandbox-journal.jsonl") if it["event"] == "twilio_create"}
        fates: dict[str, str] = {}

        def complete() -> bool:
            fates.update(world.fates())
            return created <= fates.keys()

        until("the provider lists what it created", 90, complete)
        return fates

    def _changes(self) -> list[dict[str, Any]]:
        return [change for it in entries(self.folder / "watches.jsonl") for change in it.get("changes", ())]

    def _cursors(self) -> list[tuple[str, int, str, int]]:
        """Some of the cursors that watchers got, half of them those of checkpoints, each with the number of different changes
        that its watcher had by then."""
        seen: dict[str, set[tuple[str, int]]] = {}
        pages, checkpoints = [], []
        for step, it in enumerate(entries(self.folder / "watches.jsonl")):
            if "cursor" not in it:
                continue
            mine = seen.setdefault(it["watcher"], set())
            mine.update((change["id"], change["rev"]) for change in it["changes"])
            (pages if it["changes"] else checkpoints).append((it["watcher"], len(mine), it["cursor"], step))
        pick = [self._chance.sample(some, min(_PROBES // 2, len(some))) for some in (pages, checkpoints)]
        return [*pick[0], *pick[1]]


def befall(world: World, action: Action) -> None:
    """One misfortune, to its end."""
    number = action.replica
    match action.what:
        case "kill":
            world.kill(number)
        case "restart":
            with world.locks[number]:
                if world.servers[number].alive:
                    # One that is still starting has nothing to drain.
                    world.servers[number].wait_for("/readyz says ready", world.servers[number].ready)
                    world.servers[number].stop()
                world.servers[number].spawn_again()
        case "postgres":
            assert world.cluster is not None
            world.cluster.crash()
        case "stop":
            with world.locks[number]:
                if world.servers[number].alive:
                    world.servers[number].pause()
                    time.sleep(action.length)
                    world.servers[number].resume()
        case "cut" | "freeze" | "isolate":
            link = (world.database_links if action.what == "isolate" else world.server_links)[number]
            link.freeze() if action.what == "freeze" else link.cut()
            time.sleep(action.length)
            link.heal()
        case other:
            raise AssertionError(f"no such misfortune: {other}")


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def run(
    profile: Profile, database: str, seed: int, settings: dict[str, str], keep: Path | None, planted: bool = False
) -> dict[str, Any]:
    """One run; its journals stay where `keep` says, or wherever it found a violation that nobody planted."""
    folder = Path(tempfile.mkdtemp(prefix=f"hw-{profile.name}-{database}-", dir=keep))
    try:
        verdict = Run(profile, database, seed, folder, settings).play()
    except BaseException:
        print(f"the journals and logs of this run are in {folder}", file=sys.stderr)
        raise
    if verdict["violations"] and not planted:
        print(f"the journals and logs of this run are in {folder}", file=sys.stderr)
    elif keep is None:
        subprocess.run(["rm", "-rf", folder], check=True)
    return verdict


def hunt(mutant: Mutant, seed: int, keep: Path | None) -> bool:
    """One run with a planted bug, which the oracle must find. Whether it did."""
    profile = PROFILES[mutant.profile].sized(**mutant.changes)
    verdict = run(profile, mutant.database, seed, {"HEEDWELL_TEST_MUTANT": mutant.name}, keep, planted=True)
    caught = [kind for kind in mutant.caught_by if verdict[kind]]
    print(json.dumps({**verdict, "caught_by": caught}), flush=True)
    if not caught:
        print(f"the bug {mutant.name!r} was not caught: {mutant.caught_by} are all 0", file=sys.stderr)
    return bool(caught) and (mutant.held_by is None or is_held(mutant, mutant.held_by, seed, keep))


def is_held(mutant: Mutant, database: str, seed: int, keep: Path | None) -> bool:
    """The same bug on the database that does no harm by it. Whether that holds."""
    profile = PROFILES[mutant.profile].sized(**mutant.changes)
    verdict = run(profile, database, seed, {"HEEDWELL_TEST_MUTANT": mutant.name}, keep)
    print(json.dumps({**verdict, "held_by": database}), flush=True)
    return not verdict["violations"]


def is_clean(mutant: Mutant, seed: int, keep: Path | None) -> bool:
    """The same run without the bug: what it finds then, the bug would be credited with. Whether it finds nothing."""
    profile = PROFILES[mutant.profile].sized(**mutant.changes)
    verdict = run(profile, mutant.database, seed, {}, keep)
    print(json.dumps({**verdict, "control_of": mutant.name}), flush=True)
    return not verdict["violations"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/chaos/run", description=__doc__)
    parser.add_argument("--profile", action="append", choices=sorted(PROFILES), help="may be repeated; default: a short run of most")
    parser.add_argument("--mutant", action="append", choices=[*MUTANTS, "all"], help="a planted bug instead; may be repeated")
    parser.add_argument("--control", action="store_true", help="the runs of --mutant without their bugs: nothing may be found")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--sends", type=int, help="how many notifications; default: a short run")
    parser.add_argument("--kills", type=int, help="how many kill -9; default: a short run")
    parser.add_argument("--points", type=int, help="how many deaths at each failpoint; profile points only")
    parser.add_argument("--races", type=int, help="how many stops during a claim; profile races only")
    parser.add_argument("--pace", type=float, help="the longest pause before a misfortune, in seconds")
    parser.add_argument("--minutes", type=float, help="ends a run after that long, with what it has done by then")
    parser.add_argument("--times", choices=sorted(TIMES), help="how far the server's times are shortened; default: gentle")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="repeats the plan of an earlier run")
    parser.add_argument("--keep", type=Path, help="keeps the journals and logs of every run below this folder")
    chosen = parser.parse_args()
    databases = ("sqlite", "postgres") if chosen.database == "both" else (chosen.database,)
    print(f"seed {chosen.seed}", file=sys.stderr, flush=True)
    profiles = chosen.profile or ([] if chosen.mutant else ["truthful", "faulty", "callbacks", "watch", "points"])
    mutants = chosen.mutant or ([] if chosen.profile else SHORT)
    bad = False
    for name in profiles:
        sizes = {it: getattr(chosen, it) for it in ("sends", "kills", "points", "races", "pace")}
        times = TIMES[chosen.times] if chosen.times else None
        longest = chosen.minutes * 60 if chosen.minutes else None
        profile = PROFILES[name].sized(**sizes, times=times, longest=longest)
        # Side by side, as most of the time is waiting.
        with ThreadPoolExecutor(len(databases)) as pool:
            runs = [pool.submit(run, profile, database, chosen.seed, {}, chosen.keep) for database in databases]
            for future in runs:
                verdict = future.result()
                bad = bad or bool(verdict["violations"])
                print(json.dumps(verdict), flush=True)
    for name in MUTANTS if "all" in mutants else mutants:
        judge = is_clean if chosen.control else hunt
        bad = not judge(MUTANTS[name], chosen.seed, chosen.keep) or bad
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
