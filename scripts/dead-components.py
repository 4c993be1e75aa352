"""Kills components during runs and judges the verdicts; called by scripts/dead-components, which has the help."""

import argparse
import collections
import concurrent.futures
import dataclasses
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

MOMENTS = ["before", "during", "after"]
# What an undisturbed run says, and what else a killed component may turn it into.
FAIR = {"right": {"passed", "errored", "inconclusive"}, "wrong": {"failed", "errored", "inconclusive"}}
SLOW = "/delay/"
# How long one run may take in all, in seconds, and how often its processes are looked at.
BOUND, LOOK = 600, 0.05


def named(name):
    return lambda process: name in (process.program, process.name)


def envoy(pod):
    return lambda process: process.program == "envoy" and process.pod.startswith(pod)


# Which process each is, and which files of the kept logs are its own.
COMPONENTS = {
    "etcd": (named("etcd"), "etcd.log"),
    "kube-apiserver": (named("kube-apiserver"), "kube-apiserver.log"),
    "kube-controller-manager": (named("kube-controller-manager"), "kube-controller-manager.log"),
    "kube-proxy": (named("kube-proxy"), "kube-proxy.log"),
    "istiod": (named("pilot-discovery"), "pods/istio-system_istiod-*/discovery/*.log"),
    "gateway": (envoy("istio-egressgateway-"), "pods/istio-system_istio-egressgateway-*/istio-proxy/*.log"),
    "sidecar": (envoy("meshed-"), "pods/*_meshed-*/istio-proxy/*.log"),
    "node-agent": (named("egress-host"), "sandbox.log"),
    "external-server": (lambda process: any("world" in a for a in process.arguments[:2]), "external-server.log"),
}


@dataclasses.dataclass
class Process:
    """A process, and what it was started as: a number alone may come to mean another."""

    pid: int
    started: str
    name: str
    arguments: list

    @property
    def program(self):
        return os.path.basename(self.arguments[0]) if self.arguments else ""

    @property
    def pod(self):
        """The name of its pod, as istiod's injection gives it to proxies."""
        try:
            with open(f"/proc/{self.pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:
            return ""
        return next((v[9:].decode() for v in variables if v.startswith(b"POD_NAME=")), "")

    def kill(self):
        """Kills it if it still is what it was."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if start_time(self.pid) != self.started:
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            return True
        except (OSError, ProcessLookupError):
            return False
        finally:
            os.close(handle)


def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def start_time(pid):
    return stat(pid)[19]


def processes_of(run, state):
    """Everything that belongs to a run: below its process, and below whoever holds a lock in its state folder, which may
    be detached from it."""
    children, roots = collections.defaultdict(list), {run}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            children[int(stat(entry)[1])].append(int(entry))
            held = (os.readlink(f"/proc/{entry}/fd/{fd}") for fd in os.listdir(f"/proc/{entry}/fd"))
            if any(path.startswith(state + "/") and path.endswith(".lock") for path in held):
                roots.add(int(entry))
        except OSError:
            continue
    found, todo = {}, list(roots)
    while todo:
        pid = todo.pop()
        if pid in found:
            continue
        todo.extend(children[pid])
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = [a.decode(errors="replace") for a in file.read().split(b"\0")[:-1]]
            with open(f"/proc/{pid}/comm") as file:
                found[pid] = Process(pid, start_time(pid), file.read().strip(), arguments)
        except OSError:
            continue
    return list(found.values())


def is_slow_request(process):
    return process.program == "curl" and any(SLOW in a for a in process.arguments)


@dataclasses.dataclass
class Case:
    component: str
    moment: str
    scenario: str

    def __str__(self):
        return f"{self.component}-{self.moment}-{self.scenario}"


class Run:
    """One run in a folder of its own, in which a component is killed."""

    def __init__(self, program, scenarios, case, folder):
        self.case, self.folder = case, folder
        self.runtime = os.path.join(folder, "run")
        os.mkdir(self.runtime, 0o700)
        self.report = os.path.join(folder, "report", "report.json")
        self.output = []
        self.mesh_up = threading.Event()
        # The scenario to kill in is the only one: what comes after a death is not run any more.
        self.process = subprocess.Popen(
            [program, "run", "--scenarios", scenarios, f"slow/{case.scenario}", "--report", f"json={self.report}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": self.runtime, "XDG_STATE_HOME": folder, "NO_COLOR": "1"},
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.output.append(line.rstrip())
            if "mesh up" in line:
                self.mesh_up.set()
        self.mesh_up.set()

    def wait_for(self, seen):
        """Looks at the run's processes until something is seen of them, or the run has ended."""
        begin = time.monotonic()
        while self.process.poll() is None and time.monotonic() < begin + BOUND:
            found = processes_of(self.process.pid, self.runtime)
            if seen(found):
                return found
            time.sleep(LOOK)
        return None

    def at_the_moment(self):
        self.mesh_up.wait(BOUND)
        if self.case.moment == "before":
            return processes_of(self.process.pid, self.runtime)
        found = self.wait_for(lambda all: any(map(is_slow_request, all)))
        if found and self.case.moment == "after":
            # The sidecar's own processes may be gone together with the request, so none is taken from before.
            found = self.wait_for(lambda all: not any(map(is_slow_request, all)))
        return found

    def kill(self):
        """Kills the component; returns how many processes that were."""
        found = self.at_the_moment()
        if self.case.component == "none":
            return 1
        wanted, _ = COMPONENTS[self.case.component]
        return sum(process.kill() for process in found or [] if wanted(process))

    def judge(self):
        """The verdict, what is wrong, and why the verdict is what it is."""
        killed = self.kill()
        try:
            code = self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "hangs", [f"no end within {BOUND} s"], ""
        finally:
            self.reader.join(5)
            with open(os.path.join(self.folder, "output.txt"), "w") as file:
                file.write("\n".join(self.output) + "\n")
        wrong = [] if killed else ["nothing was killed"]
        try:
            with open(self.report) as file:
                results = {s["id"]: s for s in json.load(file)["scenarios"]}
            result = results[f"slow/{self.case.scenario}"]
            verdict, reason = result["outcome"], result.get("reason") or ""
            if verdict not in FAIR[self.case.scenario]:
                wrong.append("the verdict")
        except (OSError, ValueError, KeyError) as error:
            verdict, reason = "no report", f"exit {code}: {self.output[-1] if self.output else ''} ({error!r})"
            wrong.append("no report")
        if self.case.component != "none":
            logs = os.path.join(os.path.dirname(self.report), "logs", COMPONENTS[self.case.component][1])
            if not glob.glob(logs):
                wrong.append("no log")
        left = [process for process in processes_of(self.process.pid, self.runtime)]
        if left:
            wrong.append("left: " + ", ".join(process.name for process in left))
        return verdict, wrong, reason


def one(program, scenarios, case, keep):
    folder = tempfile.mkdtemp(prefix="dead-")
    run = None
    try:
        run = Run(program, scenarios, case, folder)
        return case, *run.judge()
    finally:
        if run and run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        if keep:
            shutil.copytree(folder, os.path.join(keep, str(case)), dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("run"))
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("scenarios")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--component", action="append", choices=[*COMPONENTS, "none"])
    parser.add_argument("--moment", action="append", choices=MOMENTS)
    parser.add_argument("--scenario", action="append", choices=list(FAIR))
    parser.add_argument("--keep")
    given = parser.parse_args()
    cases = [
        Case(component, moment, scenario)
        for component in given.component or COMPONENTS
        for moment in given.moment or MOMENTS
        for scenario in given.scenario or FAIR
    ]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        runs = [pool.submit(one, given.program, given.scenarios, case, given.keep) for case in cases]
        print(f"{'killed':24} {'moment':7} {'scenario':8} {'verdict':13} wrong")
        for ended in runs:
            case, verdict, wrong, reason = ended.result()
            bad += bool(wrong)
            print(f"{case.component:24} {case.moment:7} {case.scenario:8} {verdict:13} {'; '.join(wrong) or '-'}")
            print(f"{'':34}{' '.join(reason.split())[:160]}", flush=True)
    print(f"{len(cases)} runs, {bad} of them with something wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
