"""Our number beside a study's, for each of its claims, with an interval and a verdict by a rule that stands beforehand.

    python -m creditlab.analysis.studies.claims rank_collapse multirun/rank_collapse --budget small

The claims are in `<study>.yaml` beside this file, the sweeps in DIR/<experiment>-<budget>. A claim names a quantity of
one sweep (`quantities`) and the range in which it `holds`. *Reproduced*: the whole interval lies in the range. *Not
reproduced*: none of it. *Not comparable*: a part of it does, or it rests on fewer than SEEDS seeds, or a run that the
claim needs is missing, diverged or has not learned. A table's cell needs every run of the data set that it names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditlab.analysis.claims import verdicts
from creditlab.analysis.claims.quantities import Quantity, estimate
from creditlab.analysis.claims.verdicts import Finished, finished, lacking
from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import RecordError, read_claims

if TYPE_CHECKING:
    import pandas as pd

CLAIMS = Path(__file__).parent
SEEDS = 3  # fewer bear no verdict
NEEDED = ("experiment", "figure", "theirs")  # of every claim of a study
WORDS = {"holds": "reproduced", "does not hold": "not reproduced", "undecided": "not comparable"}
COLUMNS = [
    *("study", "experiment", "figure", "claim", "theirs", "holds"),
    *("ours", "ci_low", "ci_high", "n_seeds", "verdict", "why"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m creditlab.analysis.studies.claims", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("study", help="whose claims: the name of a file in analysis/studies")
    parser.add_argument("folder", type=Path, help="where the sweeps are: multirun/<study>")
    parser.add_argument("--budget", default="full", help="of the sweeps (default: full)")
    chosen = parser.parse_args(arguments)
    try:
        table = reproduction(chosen.study, chosen.folder, chosen.budget)
        path = chosen.folder / f"reproduction-{chosen.budget}"
        table.to_csv(path.with_suffix(".csv"), index=False)
        path.with_suffix(".md").write_text(markdown(table))
    except (AnalysisError, RecordError) as error:
        print(f"reproduction: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reproduction: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(markdown(table))
    print(f"{path}.csv, .md")
    return 0


def reproduction(study: str, parent: Path, budget: str) -> pd.DataFrame:
    """One row per claim of `study`, from the sweeps in `parent`/<experiment>-<budget>. Raises AnalysisError where there
    is none, or no such study; RecordError where a plan cannot be read.
    """
    import pandas as pd

    listed = claims(study)
    names = {claim.get("sweep", claim["experiment"]) for claim in listed}
    sweeps = sorted(path.name for path in parent.glob("*-*") if path.is_dir() and path.name.rpartition("-")[0] in names)
    if not any(name.endswith(f"-{budget}") for name in sweeps):
        others = f"There are: {', '.join(sweeps)}." if sweeps else f"Give the folder of the study: multirun/{study}."
        raise AnalysisError(f"{parent} holds no sweep <experiment>-{budget} of {study}. {others}")
    rows, read = [], dict[Path, Finished]()
    for claim in listed:
        folder = parent / f"{claim.get('sweep', claim['experiment'])}-{budget}"
        if folder not in read:
            read[folder] = finished(folder)
        quantity = _quantity(folder, read[folder], claim, smoke=budget == "smoke")
        judged, why = verdict(quantity, claim["holds"])
        bounds = ", ".join(f"{name} {bound:g}" for name, bound in claim["holds"].items())
        numbers = (quantity.value, quantity.low, quantity.high, quantity.seeds)
        theirs = (claim["experiment"], claim["figure"], claim["claim"], claim["theirs"])
        rows.append([study, *theirs, bounds, *numbers, judged, why])
    return pd.DataFrame(rows, columns=COLUMNS)


def claims(study: str) -> list[dict[str, Any]]:
    """The claims of a study. Raises AnalysisError where there is no such study, or a claim of it lacks a part."""
    path = CLAIMS / f"{study}.yaml"
    if not path.is_file():
        studies = sorted(p.stem for p in CLAIMS.glob("*.yaml"))
        listed, hint = ", ".join(studies), did_you_mean(study, studies)
        raise AnalysisError(f"there are no claims of a study {study!r}. There are: {listed}.{hint}")
    content = read_claims(path).claims
    for number, claim in enumerate(content, 1):
        if missing := [key for key in NEEDED if key not in claim]:
            raise AnalysisError(f"{path.name}: claim {number} has no {missing[0]!r}; it needs {', '.join(NEEDED)}.")
    return content


def _quantity(folder: Path, sweep: Finished, claim: dict[str, Any], smoke: bool) -> Quantity:
    """What the sweep in `folder` says to a claim, with what forbids a verdict."""
    if not sweep.results:
        return Quantity(problem=f"no finished run in {folder}")
    quantity = estimate(sweep.results, claim, partial(of_report, folder))
    if not quantity.problem:
        quantity = replace(quantity, problem=lacking(claim, sweep.absent))
    if smoke and not quantity.problem:
        quantity = replace(quantity, problem="a smoke run: it shows that everything runs, not what the result is")
    return quantity


def of_report(folder: Path, table: str) -> pd.DataFrame:
    """A table of a sweep's report. Raises AnalysisError where there is none, or it was made of other runs than its
    finished ones.
    """
    import pandas as pd

    path = folder / "report" / "analysis.json"
    notes = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "where": {}}
    counts = Counter(result.status for result in finished(folder).results)
    if notes["where"] or any(notes["runs"].get(status, 0) != counts[status] for status in ("complete", "diverged")):
        raise AnalysisError(f"{path.parent} was made of other runs than there are now: creditlab-analyse {folder}")
    if not (path := path.with_name(f"{table}.csv")).is_file():
        raise AnalysisError(f"{path} does not exist: creditlab-analyse {folder}")
    return pd.read_csv(path)


def verdict(quantity: Quantity, holds: Mapping[str, float]) -> tuple[str, str]:
    """The verdict and, where it is none, the reason."""
    judged, why = verdicts.verdict(quantity, holds, SEEDS)
    return WORDS[judged], why


def markdown(table: pd.DataFrame) -> str:
    """The table for a page."""
    from creditlab.analysis.report.words import number

    head = "| experiment | figure | claim | study | ours (95 % interval) | holds if | seeds | verdict |\n"
    head += "|---" * 8 + "|\n"
    lines = []
    for row in table.to_dict("records"):
        ours, low, high = (number(row[key]) for key in ("ours", "ci_low", "ci_high"))
        interval = ours if low == "–" else f"{ours} ({low} to {high})"
        judged = f"**{row['verdict']}**" + (f": {row['why']}" if row["why"] else "")
        cells = (*(row[k] for k in ("experiment", "figure", "claim", "theirs")), interval, row["holds"], row["n_seeds"])
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in (*cells, judged)) + " |")
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
