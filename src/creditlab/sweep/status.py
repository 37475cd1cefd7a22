"""`creditlab-status multirun/<sweep>`: what is done, running, failed and why. It reads the folders of the runs alone.

The exit status is 1 if runs failed or are corrupt, 2 if there is no sweep, else 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from creditlab import records
from creditlab.files import printable
from creditlab.lock import Held, claim
from creditlab.sweep.display import safe

STATUSES = ("complete", "diverged", "running", "interrupted", "dead", "failed", "corrupt", "missing")
SHOWN_AS = {"dead": "stopped"}  # in a terminal; the JSON keeps its words
LEVELS = 20  # factors with more levels are not shown
UNKNOWN = "not known"
SHOWN = 5  # folders that are listed for one cause


@dataclass
class Survey:
    """How far a sweep is. `counts` has the statuses of `records`, with these instead of *unfinished*: *running* (the
    process that holds the run is alive), *dead* (that process is gone) and *interrupted* (no process holds the run).
    *missing* is a planned run without a folder.
    """

    sweep: str
    expected: int
    counts: dict[str, int]
    factors: dict[str, dict[str, dict[str, int]]]  # counts by factor and level
    running: list[dict[str, Any]] = field(default_factory=list)  # name, host, pid, job_id, step, steps
    dead: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)  # cause → files to read
    notes: list[str] = field(default_factory=list)
    weights_removed: int = 0  # finished runs whose weights were deleted

    @property
    def bad(self) -> int:
        return sum(map(len, self.problems.values()))


def survey(sweep: Path) -> Survey:
    """Read the folders, the locks and the plan of a sweep. Raises RecordError if there is no sweep."""
    notes = []
    try:
        plan = records.read_plan(sweep)
    except records.SpoiltPlan as error:
        plan, notes = None, [str(error)]
    if not plan or not sweep.is_dir():
        records.read_sweep(sweep)  # if it holds no run, the error says what the folder holds instead
    levels = {entry["name"]: entry.get("levels", {}) for entry in plan["runs"]} if plan else {}
    statuses: dict[str, str] = {}
    held: dict[str, list[dict]] = {"running": [], "dead": []}
    problems: dict[str, list[str]] = defaultdict(list)
    weights_removed = 0
    for run in map(records.read_run, records.run_folders(sweep)):  # one at a time: there may be 100,000
        statuses[run.name], cause = run.status, run.problem
        if run.finished:
            weights_removed += run.weights_removed
            continue
        try:
            lock_claim = claim(run.folder)
        except Held as error:
            statuses[run.name], cause, lock_claim = "corrupt", cause or str(error), None
        if lock_claim is not None:
            statuses[run.name] = "running" if lock_claim.alive else "dead"
            held[statuses[run.name]].append({"name": run.name, **asdict(lock_claim.holder), **_progress(run)})
        elif run.status == "unfinished" and statuses[run.name] != "corrupt":
            statuses[run.name] = "interrupted"
        if statuses[run.name] in ("failed", "corrupt"):
            trace = run.folder / "error.txt"
            cause = cause.replace(f"{run.folder}/", "")  # a full disk, say, is then one cause for all runs
            problems[cause].append(str(trace if run.status == "failed" else run.folder))
    missing = [name for name in levels if name not in statuses]
    counts = Counter(statuses.values()) + Counter(missing=len(missing))
    return Survey(
        sweep=str(sweep),
        expected=len(levels) if plan else len(statuses),
        counts={status: counts[status] for status in STATUSES if counts[status]},
        factors=_by_factor(levels, statuses),
        **held,
        missing=missing,
        problems=dict(problems),
        notes=notes,
        weights_removed=weights_removed,
    )


def _by_factor(levels: dict[str, dict[str, Any]], statuses: dict[str, str]) -> dict[str, dict[str, dict[str, int]]]:
    """How many runs have each status, by factor and level."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    factors = dict.fromkeys(factor for values in levels.values() for factor in values)
    for name, values in levels.items():
        for factor in factors:  # a run that waits since before a factor was added has no level of it
            counts[factor][str(values.get(factor, UNKNOWN))][statuses.get(name, "missing")] += 1
    return {factor: {level: dict(count) for level, count in by_level.items()} for factor, by_level in counts.items()}


def _progress(run: records.Run) -> dict[str, Any]:
    """The last step in the history of a run, and the number of its steps if the config has it."""
    point = records.read_last_line(run.folder / "history.jsonl")
    training = (run.config or {}).get("training")
    steps = training.get("steps") if isinstance(training, dict) else None
    return {"step": point["step"] if point else 0, "steps": steps if isinstance(steps, int) else None}


def report(survey: Survey) -> Group:
    """The survey for a terminal."""
    lines: list[str | Table] = [f"[bold]{_text(survey.sweep)}[/]: {survey.expected} runs planned"]
    lines += [
        f"  {survey.counts[status]:6d} {SHOWN_AS.get(status, status)}" for status in STATUSES if status in survey.counts
    ]
    lines += [_table(factor, levels) for factor, levels in survey.factors.items() if 1 < len(levels) <= LEVELS]
    stopped = "[yellow]stopped[/]; will resume with the next command"
    for title, runs in (("running", survey.running), (stopped, survey.dead)):
        lines += [title] if runs else []
        for run in runs:
            job = f", job {_text(run['job_id'])}" if run["job_id"] else ""
            progress = f"step {run['step']}" + (f" of {run['steps']}" if run["steps"] else "")
            lines.append(f"  {_text(run['name'])}  {progress}  {_text(run['host'])}, process {_text(run['pid'])}{job}")
    if survey.weights_removed:
        runs_of = "finished run" if survey.weights_removed == 1 else "finished runs"
        lines.append(f"weights removed from {survey.weights_removed} {runs_of}")
    for cause, evidence in survey.problems.items():
        lines.append(f"[red]{len(evidence)} ×[/] {_text(cause)}")
        lines += [f"      {_text(path)}" for path in evidence[:SHOWN]]
        lines += [f"      and {len(evidence) - SHOWN} more"] if len(evidence) > SHOWN else []
    return Group(*lines, *(f"[yellow]{_text(note)}[/]" for note in survey.notes))


def _text(value: object) -> str:
    """A value from a file, made safe for a terminal."""
    return safe(printable(str(value)))


def _table(factor: str, levels: dict[str, dict[str, int]]) -> Table:
    statuses = [s for s in STATUSES if any(s in counts for counts in levels.values())]
    table = Table(box=None, pad_edge=False)
    table.add_column(_text(factor))
    for status in statuses:
        table.add_column(SHOWN_AS.get(status, status), justify="right")
    for level, counts in levels.items():
        table.add_row(_text(level), *(str(counts.get(status, "")) for status in statuses))
    return table


def _watch(sweep: Path, latest: Survey) -> Survey:
    """Show the survey every two seconds until nothing is left to do."""
    with Live(report(latest), console=Console(highlight=False), auto_refresh=False) as live:
        while latest.counts.keys() & {"running", "interrupted", "dead", "missing"}:
            time.sleep(2)
            latest = survey(sweep)
            live.update(report(latest), refresh=True)
    return latest


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-status", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of a sweep")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--watch", action="store_true", help="print it every two seconds, until nothing is left to do")
    chosen = parser.parse_args(arguments)
    try:
        latest = survey(chosen.sweep)
        if chosen.json:
            print(json.dumps(asdict(latest), indent=1))
        elif chosen.watch:
            latest = _watch(chosen.sweep, latest)
        else:
            Console(highlight=False).print(report(latest), soft_wrap=True)
    except records.RecordError as error:
        print(f"creditlab-status: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(1 if latest.bad else 0)


if __name__ == "__main__":
    main()
