"""`creditlab-status multirun/<sweep>`: what is done, running, failed and why, told from the run folders alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from creditlab import records


def census(sweep: Path) -> dict:
    """Counts by status, the runs that were planned and are not there, and the failures by cause. Raises RecordError."""
    plan = records.read_plan(sweep)
    runs = records.read_sweep(sweep) if plan is None or any(records.run_folders(sweep)) else []
    causes: dict[str, list[str]] = {}
    for run in runs:
        if run.status in ("failed", "corrupt"):
            causes.setdefault(run.problem, []).append(str(run.folder))
    found = {run.name for run in runs}
    expected = [entry["name"] for entry in plan["runs"]] if plan else sorted(found)
    return {
        "sweep": str(sweep),
        "expected": len(expected),
        "counts": dict(Counter(run.status for run in runs)),
        "missing": [name for name in expected if name not in found],
        "problems": causes,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-status", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of a sweep")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    chosen = parser.parse_args(arguments)
    try:
        found = census(chosen.sweep)
    except records.RecordError as error:
        print(f"creditlab-status: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(found['sweep'])}[/]: {found['expected']} runs planned", soft_wrap=True)
    for status in ("complete", "diverged", "unfinished", "failed", "corrupt"):
        if count := found["counts"].get(status):
            console.print(f"  {count:6d} {status}")
    if found["missing"]:
        console.print(f"  {len(found['missing']):6d} not started")
    for cause, folders in found["problems"].items():
        console.print(f"[red]{len(folders)} ×[/] {escape(cause)}", soft_wrap=True)
        for folder in folders[:5]:
            console.print(f"      {escape(folder)}/error.txt", soft_wrap=True)


if __name__ == "__main__":
    main()
