"""Where a sweep stands, told from its run folders, their locks and its plan alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from creditlab import records
from creditlab.lock import claim

STATUSES = ("complete", "diverged", "running", "interrupted", "dead", "failed", "corrupt", "missing")


@dataclass
class Census:
    """`counts` by status: those of `records`, where an unfinished run is *running* (its holder lives), *dead* (its
    holder does not) or *interrupted* (nobody holds it), and *missing* for a planned run without a folder.
    """

    sweep: str
    expected: int
    counts: dict[str, int]
    factors: dict[str, dict[str, dict[str, int]]]  # counts by factor and level
    running: list[dict[str, Any]] = field(default_factory=list)  # name, host, pid, job_id, step, steps
    dead: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)  # cause → what to read
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        return sum(map(len, self.problems.values()))


def census(sweep: Path) -> Census:
    """Raises RecordError where there is no sweep."""
    notes = []
    try:
        plan = records.read_plan(sweep)
    except records.SpoiltPlan as error:
        plan, notes = None, [str(error)]
    if not plan or not sweep.is_dir():
        records.read_sweep(sweep)  # which says what is there instead, if there is no run
    levels = {entry["name"]: entry.get("levels", {}) for entry in plan["runs"]} if plan else {}
    state: dict[str, str] = {}
    running: list[dict] = []
    dead: list[dict] = []
    problems: dict[str, list[str]] = defaultdict(list)
    for run in map(records.read_run, records.run_folders(sweep)):  # one at a time: there may be 100,000
        state[run.name] = run.status
        if run.finished:
            continue
        at_it = claim(run.folder)
        if at_it is not None:
            told = {"name": run.name, **asdict(at_it.holder), **_progress(run)}
            (running if at_it.alive else dead).append(told)
            state[run.name] = "running" if at_it.alive else "dead"
        elif run.status == "unfinished":
            state[run.name] = "interrupted"
        if state[run.name] in ("failed", "corrupt"):
            trace = run.folder / "error.txt"
            cause = run.problem.replace(f"{run.folder}/", "")  # of a full disk, say: the same for all
            problems[cause].append(str(trace if trace.is_file() else run.folder))
    missing = [name for name in levels if name not in state]
    by_factor: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for name, values in levels.items():
        for factor, level in values.items():
            by_factor[factor][str(level)][state.get(name, "missing")] += 1
    counts = Counter(state.values()) + Counter(missing=len(missing))
    return Census(
        sweep=str(sweep),
        expected=len(levels) if plan else len(state),
        counts={status: counts[status] for status in STATUSES if counts[status]},
        factors={factor: {level: dict(c) for level, c in by.items()} for factor, by in by_factor.items()},
        running=running,
        dead=dead,
        missing=missing,
        problems=dict(problems),
        notes=notes,
    )


def _progress(run: records.Run) -> dict[str, Any]:
    """The last step in a run's history, and how many there are to be where the config says so."""
    try:
        lines = (run.folder / "history.jsonl").read_bytes().split(b"\n")[:-1]
        step = json.loads(lines[-1])["step"]
    except (OSError, ValueError, LookupError, TypeError):
        step = 0
    training = (run.config or {}).get("training")
    return {"step": step, "steps": training.get("steps") if isinstance(training, dict) else None}
