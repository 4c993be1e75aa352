"""The text of an issue about runs that failed, from the JSON reports below a folder."""

import json
import os
import pathlib
import sys

FINE = {"passed", "skipped", "unsupported"}


def title(report):
    cluster = report.get("cluster", {})
    versions = ", ".join(
        f"{name} {cluster[key]}"
        for name, key in (("Istio", "istio"), ("Envoy", "envoy"), ("Kubernetes", "kubernetes"))
        if cluster.get(key)
    )
    return f"{cluster.get('kind') or 'no cluster'}{', ' + versions if versions else ''}"


def reason(scenario):
    """The first words that say why, on one line."""
    texts = [scenario.get("reason") or ""]
    for step in scenario.get("steps", []):
        told = (step.get("explanation") or "").splitlines()
        found = [line for line in told if ": expected " in line]
        texts += [f"{step['name']}: {found[0] if found else told[0]}"] if told else []
    first = next((text for text in texts if text), "see the report")
    return " ".join(first.split())[:300]


def main():
    folder = pathlib.Path(sys.argv[1])
    lines, wrong_reports = [], 0
    paths = sorted(folder.rglob("report.json"))
    for path in paths:
        try:
            report = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            wrong_reports += 1
            lines += ["", f"### {path.relative_to(folder)}", "", f"The report cannot be read: {error}"]
            continue
        wrong = [s for s in report["scenarios"] if s["outcome"] not in FINE]
        if not wrong:
            continue
        wrong_reports += 1
        lines += ["", f"### {title(report)} ({path.parent.relative_to(folder)})", ""]
        lines += [f"- `{s['id']}` {s['outcome']}: {reason(s)}" for s in wrong[:30]]
        lines += [f"- and {len(wrong) - 30} more"] * (len(wrong) > 30)
        names = " ".join(s["id"] for s in wrong[:5])
        lines += ["", f"To repeat: `scripts/run --cluster {report['cluster'].get('kind') or 'sandbox'} {names}`"]
    head = f"{wrong_reports} of {len(paths)} reports of the nightly run have scenarios that did not pass."
    if not wrong_reports:
        head = f"All of the {len(paths)} reports that the nightly run left are fine, so a job ended before it wrote one."
    run = os.environ.get("GITHUB_RUN_ID")
    if run:
        head += f"\n\nRun: {os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{run}"
    print("\n".join([head, *lines]))


if __name__ == "__main__":
    main()
