"""Kills Heedwell and other job queues alike and counts what each loses, leaves stuck and sends twice. The seed chooses how
long each process works before it is killed, the same for all. Every job is one text to the same sink. Prints one JSON line a
run, then a table."""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# The harness of chaos, and what it shares with the black-box tests.
sys.path[1:1] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "peers")]
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from contenders import CONTENDERS, Heedwell, Held, Peer  # noqa: E402
from judge import judge  # noqa: E402
from messages import PATIENTS, mark, phone  # noqa: E402
from profiles import PROFILES, REPLY_MS, Job, jobs  # noqa: E402
from support.processes import Sandbox  # noqa: E402

# A kill comes so long after the process has sent its first text. Twenty take some twenty seconds of work, and nobody does ten
# thousand jobs faster; and whoever polls every two seconds is met at any moment of them.
_GAP = (0.0, 2.0)
# One that has nothing to send is killed all the same.
_START_LIMIT = 10
_LOOK = 0.5


@dataclass(frozen=True)
class Plan:
    """What every contender has to bear."""

    jobs: int
    kills: int
    seed: int
    # Jobs at a time.
    slots: int
    # So many seconds without a text show that nothing more comes soon.
    quiet: float
    # So long we then still wait for what is stuck.
    bound: float

    def gaps(self) -> list[float]:
        chance = random.Random(f"{self.seed} kills")
        return [chance.uniform(*_GAP) for _ in range(self.kills)]

    def work(self) -> list[Job]:
        alone = replace(PROFILES["truthful"], sends=self.jobs, channels=(("SMS",),), twins=0, repeats=0, reuses=0)
        return list(jobs(alone, PATIENTS, random.Random(f"{self.seed} jobs")))


class Sink:
    """The journal of the sink as it grows."""

    def __init__(self, path: Path) -> None:
        self._file = path.open()
        self._rest = ""
        self.came = 0
        self.last = time.time()

    def look(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        fresh = sum('"event":"twilio_create"' in line for line in lines)
        if fresh:
            self.came += fresh
            self.last = time.time()


    def await_more(self, limit: float) -> None:
        """Waits until another text has come."""
        self.look()
        before, end = self.came, time.monotonic() + limit
        while self.came == before and time.monotonic() < end:
            time.sleep(0.01)
            self.look()


class Run:
    """One contender under the plan."""

    def __init__(self, name: str, plan: Plan, folder: Path) -> None:
        self._name, self._plan, self._folder = name, plan, folder
        self._sandbox = Sandbox("sandbox", folder, "--carrier-delay-ms=20")
        self._error: BaseException | None = None
        self._about: dict[str, Any] = {"told": {"contender": name, **asdict(plan)}, "kills": [], "fell": 0, "callers": None}
        # What else the machine does: processes that wanted to run in the last minute, before we started any.
        self._about["load"] = round(os.getloadavg()[0], 1)

    def play(self) -> dict[str, Any]:
        """The run, and what the judge says of it."""
        work = self._plan.work()
        with (self._folder / "jobs.jsonl").open("w") as file:
            for it in work:
                line = {"number": it.number, "to": phone(it.patient), "mark": mark(it.minute)}
                file.write(json.dumps(line) + "\n")
        contender: Heedwell | Peer | None = None
        try:
            self._sandbox.start()
            self._sandbox.tell("odds", seed=self._plan.seed, reply_ms=REPLY_MS)
            contender = CONTENDERS[self._name](self._folder, self._sandbox, self._plan.slots)
            contender.prepare()
            contender.start()
            self._act(contender, work)
        finally:
            if contender is not None:
                contender.end()
            self._sandbox.end()
        (self._folder / "run.json").write_text(json.dumps(self._about))
        return judge(self._folder)

    def _act(self, contender: Heedwell | Peer, work: list[Job]) -> None:
        sink = Sink(self._sandbox.journal_file)
        self._about["began"] = time.time()
        callers = threading.Thread(target=self._call, args=(contender, work))
        callers.start()
        for gap in self._plan.gaps():
            sink.await_more(_START_LIMIT)
            # When a kill comes is the input of a run; nothing is synchronised by it.
            time.sleep(gap)
            self._about["kills"].append(time.time())
            if contender.process.alive:
                contender.process.kill()
            else:
                self._about["fell"] += 1
            contender.again()
        self._about["last_kill"] = self._about["kills"][-1] if self._plan.kills else self._about["began"]
        self._watch(contender, callers, sink)
        callers.join()
        if self._error is not None:
            raise self._error

    def _call(self, contender: Heedwell | Peer, work: list[Job]) -> None:
        try:
            contender.produce(work, self._plan.seed)
        except BaseException as error:  # noqa: BLE001 - shown by the run.
            self._error = error
        self._about["callers"] = round(time.time() - self._about["began"], 1)

    def _watch(self, contender: Heedwell | Peer, callers: threading.Thread, sink: Sink) -> None:
        """Waits until nothing comes any more, and then until nothing is stuck or to come, or the bound has passed."""
        since = self._about["last_kill"]
        free, quiet = None, None
        while True:
            held = self._look(contender, since)
            sink.look()
            now = time.time()
            if free is None and not held.stuck:
                free = round(now - since, 1)
            if quiet is None and not callers.is_alive() and (not held.open or now > sink.last + self._plan.quiet):
                quiet = now
                self._about.update(quiet=now, stuck_after_quiet=held.stuck)
            if quiet is not None and (not held.open or now > quiet + self._plan.bound):
                break
            time.sleep(_LOOK)
        self._about.update(free_after=free, end=asdict(held), ended=now)

    def _look(self, contender: Heedwell | Peer, since: float) -> Held:
        while True:
            if not contender.process.alive:
                self._about["fell"] += 1
                contender.again()
            held = contender.held(since)
            if held is not None:
                return held
            time.sleep(_LOOK)


_COLUMNS = (
    ("accepted", "accepted"),
    ("undelivered_after_quiet", "undelivered"),
    ("stuck_after_quiet", "stuck"),
    ("seconds_until_none_stuck", "none stuck after"),
    ("duplicates", "duplicates"),
    ("due_again", "due again"),
    ("undelivered_at_end", "never delivered"),
    ("gave_up", "gave up"),
    ("seconds_run", "run"),
)


def table(plan: Plan, verdicts: list[dict[str, Any]]) -> str:
    """The verdicts side by side."""
    rows = [["contender", *(title for _, title in _COLUMNS)]]
    for it in verdicts:
        cells = {name: str(it[name]) for name, _ in _COLUMNS}
        free = it["seconds_until_none_stuck"]
        cells["seconds_until_none_stuck"] = f">= {it['seconds_watched']:.0f} s" if free is None else f"{free:.0f} s"
        cells["seconds_run"] = f"{it['seconds_run']:.0f} s"
        rows.append([it["contender"], *cells.values()])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join((str.rjust if place else str.ljust)(cell, widths[place]) for place, cell in enumerate(row)) for row in rows]
    head = (
        f"{plan.jobs} jobs, {plan.kills} kills, {plan.slots} at a time, seed {plan.seed}. Undelivered and stuck: when nothing had come "
        f"for {plan.quiet:g} s. None stuck after: from the last kill on. Due again: sent, and held as if it were not."
    )
    return "\n".join([head, *lines])


def compare(name: str, plan: Plan, keep: Path | None) -> dict[str, Any]:
    """One run; its journals stay where `keep` says."""
    folder = Path(tempfile.mkdtemp(prefix="hw-peer-", dir=keep))
    try:
        verdict = Run(name, plan, folder).play()
    except BaseException:
        print(f"the journals and logs of this run are in {folder}", file=sys.stderr)
        raise
    if keep is None:
        subprocess.run(["rm", "-rf", folder], check=True)
    return verdict


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests/chaos/peers/run", description=__doc__)
    parser.add_argument("--contender", action="append", choices=list(CONTENDERS), help="may be repeated; default: all")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20, help="of the worker, by kill -9")
    parser.add_argument("--seed", type=int, default=1, help="chooses when the kills come")
    parser.add_argument("--slots", type=int, default=20, help="how many jobs a contender does at a time")
    parser.add_argument("--quiet", type=float, default=20, help="seconds without a text after which is counted")
    parser.add_argument("--bound", type=float, default=240, help="seconds that are then waited for what is stuck")
    parser.add_argument("--keep", type=Path, help="keeps the journals and logs of every run below this folder")
    chosen = parser.parse_args()
    plan = Plan(chosen.jobs, chosen.kills, chosen.seed, chosen.slots, chosen.quiet, chosen.bound)
    verdicts = []
    for name in chosen.contender or CONTENDERS:
        verdicts.append(compare(name, plan, chosen.keep))
        print(json.dumps(verdicts[-1]), flush=True)
    print(table(plan, verdicts))


if __name__ == "__main__":
    main()
