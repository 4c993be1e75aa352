"""Runs egress-conformance several times and prints medians; called by scripts/bench, which has the help."""

import collections
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading

PHASE = re.compile(r"^\s+(\d+\.\d+) s  (.+)$")


def descendants(roots):
    """The processes below some, they included, by pid."""
    parents = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(stat.read().rpartition(")")[2].split()[1])].append(int(entry))
            except OSError:
                continue
    found, todo = set(), list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(parents[pid])
    return found


def supervisors(runtime):
    """The supervisors whose runtime folder this is: they are no children of the run."""
    wanted = f"XDG_RUNTIME_DIR={runtime}".encode()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/environ", "rb") as environ:
                    if wanted in environ.read().split(b"\0"):
                        yield int(entry)
            except OSError:
                continue


def memory(roots):
    """PSS in MiB by program, of processes and all below them."""
    by_name = collections.Counter()
    for pid in descendants(roots):
        try:
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                pss = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
        by_name[name] += pss / 1024
    return by_name


def run(command, arguments):
    """One run: its figures by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        process = subprocess.Popen(
            [command, "run", *arguments, "--report", f"json={report}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "XDG_STATE_HOME": folder, "XDG_RUNTIME_DIR": folder},
        )
        ended, peak = threading.Event(), collections.Counter()

        def sample():
            while not ended.wait(0.2):
                now = memory([process.pid, *supervisors(folder)])
                if now.total() > peak.total():
                    peak.clear()
                    peak.update(now)

        sampler = threading.Thread(target=sample)
        sampler.start()
        phases = collections.Counter()
        for line in process.stderr:
            if match := PHASE.match(line):
                phases[match[2]] += float(match[1])
        code = process.wait()
        ended.set()
        sampler.join()
        if code not in (0, 1):
            sys.exit(f"error: {command} ended with {code}")
        with open(report) as file:
            result = json.load(file)
    figures = {f"phase: {name}, s": seconds for name, seconds in phases.items()}
    figures["whole run, s"] = result["duration_ms"] / 1000
    steps = [step for scenario in result["scenarios"] for step in scenario["steps"]]
    gates = [step["gate_ms"] / 1000 for step in steps if "gate_ms" in step]
    if gates:
        figures[f"gate, mean of {len(gates)}, s"] = statistics.mean(gates)
    for scenario in result["scenarios"]:
        figures[f"{scenario['id']}, s"] = scenario["duration_ms"] / 1000
    figures["all scenarios, s"] = sum(s["duration_ms"] for s in result["scenarios"]) / 1000
    for name, mib in peak.most_common():
        figures[f"memory: {name}, MiB"] = mib
    figures["memory: all, MiB"] = peak.total()
    return figures


def main():
    runs, *rest = sys.argv[1:]
    split = rest.index("--")
    commands, arguments = rest[:split], rest[split + 1:]
    figures = [collections.defaultdict(list) for _ in commands]
    for number in range(int(runs)):
        for command, into in zip(commands, figures):
            print(f"run {number + 1} of {runs}: {command}", file=sys.stderr)
            for name, value in run(command, arguments).items():
                into[name].append(value)
    for name in figures[0]:
        this = statistics.median(figures[0][name])
        row = f"{this:9.2f}  {min(figures[0][name]):9.2f} .. {max(figures[0][name]):9.2f}"
        if len(figures) > 1:
            pairs = [a / b for a, b in zip(figures[0][name], figures[1].get(name, [])) if b]
            row += f"  ratio {statistics.median(pairs):5.2f}" if pairs else "  ratio     -"
        print(f"{row}  {name}")


if __name__ == "__main__":
    main()
