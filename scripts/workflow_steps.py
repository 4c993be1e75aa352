"""Checks the steps of GitHub's workflows and of action.yml: each is one call of a script of this project that exists, may be
run, and knows the options that it is given. Says for each where it is run: by .ci/run here, or only by GitHub, and why.
"""

import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What .ci/run does too, by the first words of a step without its options.
HERE = {
    "scripts/lint": "it is the first tier of .ci/run",
    "scripts/test": "it is .ci/run",
    "scripts/hosted-runner as-root scripts/test": "it is .ci/run, as root",
    "scripts/hosted-runner prepare": "tried by scripts/test-workflows",
    "scripts/release": "tried by scripts/test-workflows",
    "scripts/publish": "tried by scripts/test-workflows, as a dry run",
    "scripts/action": "tried by scripts/test-workflows",
    "scripts/failure-issue": "tried by scripts/test-workflows, without opening an issue",
}
# What needs more than this project may reach while it is tested.
ELSEWHERE = {
    "scripts/run": "not run here: it takes images from a public registry; the registry of the tests and the contained engine stand in",
    "scripts/nightly-matrix": "not run in every test: takes half an hour; scripts/nightly-matrix by hand",
    "scripts/hosted-runner as-root scripts/nightly": "not run in every test: takes hours; scripts/nightly by hand",
}


def steps(path):
    """(line number, command) of every `run:` of a workflow; blocks are refused, since a step is one call."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r"\s*(?:- )?run:\s*(.*)$", line)
        if found:
            yield number, found.group(1).strip()


def words(command):
    """The call's words, with what GitHub puts in replaced by a word."""
    plain = re.sub(r"\$\{\{[^}]*\}\}", "WORD", command)
    plain = re.sub(r"\$\{?\w*GITHUB_ACTION_PATH\}?/", "", plain)
    return shlex.split(plain)


def wrong(command, called):
    """What is wrong with a call; None if nothing is."""
    if re.search(r"[;|&><`]|\$\(", command):
        return "is more than one call"
    script = ROOT / called[0]
    if not called[0].startswith("scripts/") or not script.is_file():
        return f"{called[0]} is no script of this project"
    if not script.stat().st_mode & 0o100:
        return f"{called[0]} may not be run"
    known = subprocess.run([script, "--help"], capture_output=True, text=True).stdout
    if called[0] == "scripts/run":
        return None  # Its options are the command's.
    rest = called[1:]
    if rest[:1] == ["as-root"]:
        return wrong(" ".join(rest[1:]), rest[1:])
    options = [word.split("=")[0] for word in rest if word.startswith("--")]
    unknown = [option for option in options if option not in known]
    return f"{called[0]} --help does not know {', '.join(unknown)}" if unknown else None


def where(called):
    plain = " ".join(word for word in called if not word.startswith("-"))
    tables = sorted({**HERE, **ELSEWHERE}.items(), key=lambda item: -len(item[0]))
    return next((why for start, why in tables if plain == start or plain.startswith(start + " ")), None)


def main():
    failures = 0
    files = sorted((ROOT / ".github/workflows").glob("*.yml")) + [ROOT / "action.yml"]
    for path in files:
        for number, command in steps(path):
            called = words(command) if command and command not in "|>" else []
            problem = wrong(command, called) if called else "is a block; a step is one call of a script"
            told = where(called) if called and not problem else None
            if not problem and told is None:
                problem = "nothing says where it is run: add it to scripts/workflow_steps.py"
            failures += problem is not None
            place = f"{path.relative_to(ROOT)}:{number}"
            print(f"{'wrong' if problem else 'ok':<5} {place:<40} {command}\n{'':<5} {problem or told}")
    if failures:
        sys.exit(f"{failures} steps are wrong")


if __name__ == "__main__":
    main()
