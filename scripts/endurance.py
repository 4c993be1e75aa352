"""Runs all scenarios many times and watches what the mesh uses; called by scripts/endurance, which has the help."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import bench

ROUND = re.compile(r"^round (\d+) of \d+$")
COLUMNS = ["memory, MiB", "processes", "open files", "network namespaces"]


def look(runtime):
    """What the supervisor and everything below it use."""
    pids = bench.descendants(bench.supervisors(runtime))
    files, namespaces = 0, set()
    for pid in pids:
        try:
            files += len(os.listdir(f"/proc/{pid}/fd"))
            namespaces.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue
    return [bench.memory(list(bench.supervisors(runtime))).total(), len(pids), files, len(namespaces)]


def main():
    repeat, command, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        process = subprocess.Popen(
            [command, "run", "--repeat", repeat, "--shuffle", *arguments, "--report", f"json={report}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "XDG_STATE_HOME": folder, "XDG_RUNTIME_DIR": folder},
        )
        rows = []
        print("round  " + "  ".join(COLUMNS), flush=True)
        for line in process.stderr:
            # A round's beginning is the end of the one before it.
            if (match := ROUND.match(line)) and match[1] != "1":
                rows.append(look(folder))
                cells = (f"{value:{len(name)}.0f}" for name, value in zip(COLUMNS, rows[-1]))
                print(f"{len(rows):5}  " + "  ".join(cells), flush=True)
        code = process.wait()
        outcomes = {}
        if os.path.exists(report):
            with open(report) as file:
                for scenario in json.load(file)["scenarios"]:
                    outcomes[scenario["outcome"]] = outcomes.get(scenario["outcome"], 0) + 1
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    if code:
        sys.exit(f"the run ended with {code}")
    grown = []
    if len(rows) >= 12:
        for column, name in enumerate(COLUMNS):
            early = statistics.median(row[column] for row in rows[2:7])
            late = statistics.median(row[column] for row in rows[-5:])
            if late > early * 1.1:
                grown.append(f"{name}: {early:.0f} at first, {late:.0f} at last")
    if grown:
        print("; ".join(grown), file=sys.stderr)
        sys.exit(1)
    print("nothing has grown" if len(rows) >= 12 else "too few rounds to tell whether anything grows")


if __name__ == "__main__":
    main()
