"""`creditlab-status multirun/<sweep>`: what is done, running, failed and why, told from the run folders alone.

Ends with status 1 where runs failed or are corrupt, else 0; 2 where there is no sweep.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from creditlab import records
from creditlab.sweep.census import STATUSES, Census, census
from creditlab.sweep.display import safe

LEVELS = 20  # of a factor that are shown
SHOWN = 5  # folders of one cause


def report(found: Census) -> Group:
    """The census for a terminal."""
    lines: list[str | Table] = [f"[bold]{safe(found.sweep)}[/]: {found.expected} runs planned"]
    lines += [f"  {found.counts[status]:6d} {status}" for status in STATUSES if status in found.counts]
    lines += [_table(factor, levels) for factor, levels in found.factors.items() if 1 < len(levels) <= LEVELS]
    for title, runs in (("running", found.running), ("[yellow]dead[/], and taken up by the next command", found.dead)):
        lines += [title] if runs else []
        for run in runs:
            job = f", job {run['job_id']}" if run["job_id"] else ""
            at = f"step {run['step']}" + (f" of {run['steps']}" if run["steps"] else "")
            lines.append(f"  {safe(run['name'])}  {at}  {safe(run['host'])}, process {run['pid']}{job}")
    for cause, evidence in found.problems.items():
        lines.append(f"[red]{len(evidence)} ×[/] {safe(cause)}")
        lines += [f"      {safe(path)}" for path in evidence[:SHOWN]]
        lines += [f"      and {len(evidence) - SHOWN} more"] if len(evidence) > SHOWN else []
    return Group(*lines, *(f"[yellow]{safe(note)}[/]" for note in found.notes))


def _table(factor: str, levels: dict[str, dict[str, int]]) -> Table:
    statuses = [s for s in STATUSES if any(s in counts for counts in levels.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column(safe(factor))
    for status in statuses:
        table.add_column(status, justify="right")
    for level, counts in levels.items():
        table.add_row(safe(level), *(str(counts.get(status, "")) for status in statuses))
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-status", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of a sweep")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until nothing is left to do")
    chosen = parser.parse_args(arguments)
    try:
        found = census(chosen.sweep)
        if chosen.json:
            print(json.dumps(asdict(found), indent=1))
        elif chosen.watch:
            found = _watch(chosen.sweep, found)
        else:
            Console(highlight=False).print(report(found), soft_wrap=True)
    except records.RecordError as error:
        print(f"creditlab-status: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(1 if found.bad else 0)


def _watch(sweep: Path, found: Census) -> Census:
    with Live(report(found), console=Console(highlight=False), auto_refresh=False) as live:
        while found.counts.keys() & {"running", "interrupted", "dead", "missing"}:
            time.sleep(2)
            found = census(sweep)
            live.update(report(found), refresh=True)
    return found


if __name__ == "__main__":
    main()
