"""Kills a component of a run's mesh at a moment and judges the verdicts; called by scripts/dead-components, which has the help."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from bench import descendants, supervisors

MOMENTS = ("before", "during", "after")
# The log of each, below the folder of logs, where the program's own name does not say it.
LOGS = {
    "etcd": "etcd.log",
    "kube-apiserver": "kube-apiserver.log",
    "kube-controller-manager": "kube-controller-manager.log",
    "kube-proxy": "kube-proxy.log",
    "istiod": "pods/istio-system_istiod-*/discovery/*.log",
    "gateway": "pods/istio-system_istio-egressgateway-*/istio-proxy/*.log",
    # The client's own container writes nothing: what became of its pod is in its proxy's log.
    "client": "pods/*_meshed-*/istio-proxy/*.log",
    "client-proxy": "pods/*_meshed-*/istio-proxy/*.log",
    "node": "sandbox.log",
    "external-server": "external-server.log",
}
GOOD = ("dying/a-slow-answer", "dying/c-a-quick-answer")
WRONG = "dying/b-wrong-on-purpose"
UNTRUSTED = ("errored", "inconclusive")
# How long a run may take, in seconds: it may bring up three meshes.
RUN_BOUND = 300


def command(pid):
    """The arguments of a process; none if it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def link(pid, name):
    """What a link of a process's folder points to."""
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def parent(pid):
    """The parent of a process, or 0."""
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def processes(runtime):
    """All processes of the meshes of a runtime folder, with their arguments."""
    roots = [pid for pid in supervisors(runtime) if command(pid)[:1] == ["egress-supervisor"]]
    return {pid: arguments for pid in descendants(roots) if (arguments := command(pid))}


def find(component, found):
    """The process that is a component; None if there is none."""
    named = lambda name: [pid for pid, arguments in found.items() if os.path.basename(arguments[0]) == name]
    of_agent = lambda kind: [pid for pid in named("envoy") if command(parent(pid))[1:3] == ["proxy", kind]]
    if component == "istiod":
        pids = named("pilot-discovery")
    elif component == "gateway":
        pids = of_agent("router")
    elif component == "client-proxy":
        pids = of_agent("sidecar")
    elif component == "client":
        # It shares its network with its proxy.
        networks = {link(pid, "ns/net") for pid in of_agent("sidecar")}
        pids = [pid for pid, a in found.items() if "sleep infinity" in " ".join(a) and link(pid, "ns/net") in networks
                and "__egress-sandbox-container" not in a]
    elif component == "node":
        # The last of the steps into the sandbox is the host program: all that it started is below it.
        etcd = named("etcd") + named("kube-apiserver")
        pids = [parent(etcd[0])] if etcd else []
    elif component == "external-server":
        pids = [pid for pid, arguments in found.items() if "__egress-sandbox-world" in arguments]
    else:
        pids = named(component)
    return pids[0] if pids else None


class Run:
    """A run whose output is read line by line."""

    def __init__(self, program, scenarios, folder, runtime):
        self.runtime, self.stderr, self.stdout = runtime, [], []
        self.process = subprocess.Popen(
            [program, "run", "--scenarios", scenarios, "--jobs", "1", "--report", f"json={folder}/report.json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "XDG_STATE_HOME": runtime, "XDG_RUNTIME_DIR": runtime},
        )
        self.readers = [
            threading.Thread(target=lambda: self.stderr.extend(self.process.stderr)),
            threading.Thread(target=lambda: self.stdout.extend(self.process.stdout)),
        ]
        for reader in self.readers:
            reader.start()

    def until(self, reached):
        """Waits until something holds; says whether it did before the run was over."""
        deadline = time.monotonic() + RUN_BOUND
        while time.monotonic() < deadline and self.process.poll() is None:
            if reached():
                return True
            time.sleep(0.02)
        return False

    def moment(self, name):
        """Waits for a moment of the run."""
        if name == "before":
            return self.until(lambda: any("mesh up" in line for line in self.stderr))
        if name == "after":
            return self.until(lambda: any(line.startswith("passed") for line in self.stdout))
        asks = lambda a: os.path.basename(a[0]) == "curl" and "/delay/" in " ".join(a)
        return self.until(lambda: any(asks(a) for a in processes(self.runtime).values()))

    def end(self):
        """The exit code; a run that takes too long is ended."""
        try:
            code = self.process.wait(RUN_BOUND)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGINT)
            code = f"none after {RUN_BOUND} s"
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for reader in self.readers:
            reader.join()
        return code


def expected_code(outcomes):
    """The exit code that fits: the first that applies, as `run` documents it."""
    if any(outcome in ("failed", "flaky") for outcome in outcomes):
        return 1
    return 3 if any(outcome in UNTRUSTED for outcome in outcomes) else 0


def judge(component, folder, code):
    """What the report says of each scenario, and what is wrong with that."""
    try:
        scenarios = json.loads((folder / "report.json").read_text())["scenarios"]
    except (OSError, ValueError, KeyError) as error:
        return {}, [f"no report: {error}"]
    outcomes = {scenario["id"]: scenario["outcome"] for scenario in scenarios}
    wrong = []
    for name in (*GOOD, WRONG):
        allowed = ("failed" if name == WRONG else "passed", *UNTRUSTED)
        if outcomes.get(name) not in allowed:
            wrong.append(f"{name} is {outcomes.get(name)}")
    if code != expected_code(outcomes.values()):
        wrong.append(f"exit code {code}")
    logs = list((folder / "logs").glob(LOGS[component]))
    if not any(log.stat().st_size for log in logs):
        wrong.append(f"no log {LOGS[component]}")
    return outcomes, wrong


def cell(program, scenarios, reports, component, moment):
    """One run; returns its line and whether it is right."""
    folder = pathlib.Path(reports, f"{component}-{moment}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    # Made with mode 0700, as a runtime folder must be.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as runtime:
        run = Run(program, scenarios, folder, runtime)
        problems = []
        if not run.moment(moment):
            problems.append(f"the moment {moment} never came")
        elif (pid := find(component, processes(runtime))) is None:
            problems.append("no such process")
        else:
            os.kill(pid, signal.SIGKILL)
        code = run.end()
        (folder / "output.txt").write_text("".join([*run.stderr, *run.stdout]))
        outcomes, wrong = judge(component, folder, code)
        problems += wrong
        meshes = 1 + sum("going on with another one" in line for line in run.stderr)
        # The supervisor outlives the run while it clears away.
        deadline = time.monotonic() + 30
        while processes(runtime) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left := processes(runtime):
            problems.append(f"{len(left)} processes left")
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
    verdicts = " ".join(f"{outcomes.get(name, '-'):12}" for name in (GOOD[0], WRONG, GOOD[1]))
    seconds = time.monotonic() - started
    line = f"{component:24}{moment:8}{verdicts} exit {code}  meshes {meshes}  {seconds:5.1f} s  {'; '.join(problems) or 'right'}"
    return line, not problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("scenarios")
    parser.add_argument("--component", action="append", choices=list(LOGS))
    parser.add_argument("--moment", action="append", choices=MOMENTS)
    parser.add_argument("--side", type=int, default=2)
    parser.add_argument("--reports")
    arguments = parser.parse_args()
    cells = [(c, m) for c in arguments.component or LOGS for m in arguments.moment or MOMENTS]
    print(f"{'component':24}{'killed':8}{'slow':12} {'wrong':12} {'quick':12}", flush=True)
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor(arguments.side) as pool:
        reports = arguments.reports or temporary
        runs = [pool.submit(cell, arguments.program, arguments.scenarios, reports, *of) for of in cells]
        bad = 0
        for done in concurrent.futures.as_completed(runs):
            line, right = done.result()
            bad += not right
            print(line, flush=True)
    if bad:
        sys.exit(f"{bad} of {len(cells)} cells are wrong")
    print(f"{len(cells)} cells, each verdict is right")


if __name__ == "__main__":
    main()
