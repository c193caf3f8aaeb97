"""What clocks on the wall show around each change to and from daylight saving time in the United States, by zoneinfo alone:
when a local time comes, and how long quiet hours hold what falls into them. Written without arithmetic on local times, by
walking through the minutes, so that it shares no method with the server.

`python tests/peers/support/wall_clock.py > tests/vectors/wall_clock.json` writes the vectors anew; it wants the package tzdata.
"""

import json
import sys
from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, reset_tzpath

# The zones are those of the package tzdata, whatever the system has.
reset_tzpath(())

YEARS = range(2026, 2031)

# The zones of the United States in zone.tab, and those of its territories. Some never change: for them the days are New York's.
ZONES = [
    "America/Adak",
    "America/Anchorage",
    "America/Boise",
    "America/Chicago",
    "America/Denver",
    "America/Detroit",
    "America/Indiana/Indianapolis",
    "America/Indiana/Knox",
    "America/Indiana/Marengo",
    "America/Indiana/Petersburg",
    "America/Indiana/Tell_City",
    "America/Indiana/Vevay",
    "America/Indiana/Vincennes",
    "America/Indiana/Winamac",
    "America/Juneau",
    "America/Kentucky/Louisville",
    "America/Kentucky/Monticello",
    "America/Los_Angeles",
    "America/Menominee",
    "America/Metlakatla",
    "America/New_York",
    "America/Nome",
    "America/North_Dakota/Beulah",
    "America/North_Dakota/Center",
    "America/North_Dakota/New_Salem",
    "America/Phoenix",
    "America/Puerto_Rico",
    "America/Sitka",
    "America/St_Thomas",
    "America/Yakutat",
    "Pacific/Guam",
    "Pacific/Honolulu",
    "Pacific/Pago_Pago",
]

# On the day of the change; those from two to three are skipped in spring, those from one to two come twice in autumn.
TIMES = ["00:00", "00:59", "01:00", "01:30", "01:59", "02:00", "02:01", "02:30", "02:59", "03:00", "08:00", "23:59"]

# Over midnight, within a day, ending and beginning where the clock is moved, and all but a few minutes of a day.
SPANS = [
    ("21:00", "08:00"),
    ("22:00", "01:30"),
    ("23:00", "02:30"),
    ("01:30", "06:00"),
    ("02:15", "02:45"),
    ("12:00", "14:00"),
    ("02:45", "02:15"),
]

# Minutes from the change.
OFFSETS = [-1440, -600, -180, -120, -61, -60, -45, -31, -30, -15, -1, 0, 1, 15, 30, 45, 60, 90, 360, 600, 1200]

MINUTE = timedelta(minutes=1)


@cache
def changes(zone: str) -> list[datetime]:
    """The moments, in UTC, from which the clock goes otherwise than before."""
    info = ZoneInfo(zone)
    hour = datetime(YEARS.start, 1, 1, tzinfo=UTC)
    found, before = [], hour.astimezone(info).utcoffset()
    while hour.year < YEARS.stop:
        offset = hour.astimezone(info).utcoffset()
        if offset != before:
            found.append(hour)
        hour, before = hour + timedelta(hours=1), offset
    return found or changes("America/New_York")


class Clock:
    """A clock on a wall, read each minute for some days around a moment."""

    def __init__(self, zone: str, around: datetime) -> None:
        info = ZoneInfo(zone)
        self.start = around - timedelta(days=4)
        self.minutes = [self.start + MINUTE * n for n in range(9 * 24 * 60)]
        self.shown = [minute.astimezone(info).replace(tzinfo=None, fold=0) for minute in self.minutes]
        # The latest that it has shown so far: a clock that is put back has shown the time already.
        self.latest = []
        latest = datetime.min
        for shown in self.shown:
            latest = max(latest, shown)
            self.latest.append(latest)

    def first(self, day: date, at: time) -> datetime:
        """The first minute at which it shows that time, or has gone past it."""
        return self.minutes[bisect_left(self.latest, datetime.combine(day, at))]

    def wait(self, moment: datetime, start: time, end: time) -> int:
        """For how many minutes what comes at that moment is held by the spans of all days around it."""
        today = self.shown[(moment - self.start) // MINUTE].date()
        days = [today + timedelta(days=n) for n in range(-2, 3)]
        spans = [(self.first(day, start), self.first(day + timedelta(days=end <= start), end)) for day in days]
        now = moment
        while any(begin <= now < over for begin, over in spans):
            now += MINUTE
        return int((now - moment) / MINUTE)


def minutes(moment: datetime) -> int:
    """Since 1970."""
    return int(moment.timestamp()) // 60


def generate() -> dict:
    zones = {}
    for zone in ZONES:
        zones[zone] = []
        for change in changes(zone):
            clock = Clock(zone, change)
            day = change.astimezone(ZoneInfo(zone)).date()
            waits = [
                [clock.wait(change + MINUTE * offset, time.fromisoformat(start), time.fromisoformat(end)) for offset in OFFSETS]
                for start, end in SPANS
            ]
            times = [minutes(clock.first(day, time.fromisoformat(text))) for text in TIMES]
            zones[zone].append({"change": minutes(change), "day": day.isoformat(), "times": times, "waits": waits})
    return {"times": TIMES, "spans": [list(span) for span in SPANS], "offsets": OFFSETS, "zones": zones}


def text(vectors: dict) -> str:
    """One line to a change, so that a difference can be read."""
    head = {key: value for key, value in vectors.items() if key != "zones"}
    lines = [json.dumps(head)[:-1] + ', "zones": {']
    for place, (zone, found) in enumerate(vectors["zones"].items()):
        lines.append(f"{json.dumps(zone)}: [")
        lines.append(",\n".join(json.dumps(change, separators=(",", ":")) for change in found))
        lines.append("]" if place + 1 == len(vectors["zones"]) else "],")
    return "\n".join([*lines, "}}", ""])


if __name__ == "__main__":
    sys.stdout.write(text(generate()))
