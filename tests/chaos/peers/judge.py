"""The judge of a comparison. What was asked for stands in the journal of the callers, what went out in that of the sink; only of
what is still to come, the contender's own tables tell. One JSON line.

    python judge.py FOLDER
"""

import json
import sys
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

# The journals and the marks of chaos.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from journal import entries  # noqa: E402
from messages import mark_in  # noqa: E402


def judge(folder: Path) -> dict[str, Any]:
    """Reads the folder of a run and gives its line."""
    about = json.loads((folder / "run.json").read_text())
    by_message = {(it["to"], it["mark"]): it["number"] for it in entries(folder / "jobs.jsonl")}
    accepted = {it["number"] for it in entries(folder / "accepted.jsonl")}
    times: dict[int | None, list[float]] = defaultdict(list)
    for it in entries(folder / "sandbox-journal.jsonl"):
        if it["event"] == "twilio_create":
            times[by_message.get((it["to"], mark_in(it["body"])))].append(datetime.fromisoformat(it["time"]).timestamp())
    unasked = times.pop(None, [])
    first = {number: min(those) for number, those in times.items()}
    late = accepted - {number for number, time in first.items() if time <= about["quiet"]}
    missing = accepted - first.keys()
    end = about["end"]
    return {
        **about["told"],
        "accepted": len(accepted),
        # N1: accepted and not at the provider after so many seconds of quiet, and those that never came while we waited.
        "undelivered_after_quiet": len(late),
        "undelivered_at_end": len(missing),
        # N2: held for a process that is dead, and how long after the last kill the last of them was free.
        "stuck_after_quiet": len(about["stuck_after_quiet"]),
        "stuck_at_end": len(end["stuck"]),
        "seconds_until_none_stuck": about["free_after"],
        # N3: texts that went out once more, and those that will because what was sent is held as if it were not.
        "duplicates": sum(len(those) - 1 for those in times.values()),
        "due_again": len(first.keys() & set(end["stuck"])),
        # Nobody but staff will do more about these, though the contender does not know that they went out.
        "gave_up": len(end["gave_up"]),
        "gave_up_undelivered": len(missing & set(end["gave_up"])),
        "unasked": len(unasked) + len(first.keys() - accepted),
        # Kills after which something was still to be delivered; the others proved nothing.
        "kills_at_work": sum(any(time > kill for time in first.values()) or bool(missing) for kill in about["kills"]),
        "fell": about["fell"],
        # N4: from the first call to the last text that came for the first time; and until the last caller had its answer.
        "seconds_run": round(max(first.values(), default=about["began"]) - about["began"], 1),
        "seconds_callers": about["callers"],
        "load_before": about["load"],
        "seconds_watched": round(about["ended"] - about["last_kill"], 1),
    }


if __name__ == "__main__":
    print(json.dumps(judge(Path(sys.argv[1]))))
