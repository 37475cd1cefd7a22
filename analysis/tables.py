"""All tables of a sweep: which there are, what each is made from, and what was left out on the way.

In a notebook each statistic can be had by itself; this is the order in which the command line asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from creditlab.analysis.agreement.concordance import Concordance, concordance
from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.data.histories import histories
from creditlab.analysis.effects.anova import Anova, anova
from creditlab.analysis.effects.association import COLUMNS as ASSOCIATION
from creditlab.analysis.effects.association import association, trajectories
from creditlab.analysis.effects.assumptions import assumptions
from creditlab.analysis.effects.dose_response import COLUMNS as DOSE
from creditlab.analysis.effects.dose_response import CURVE, curve, dose, numeric
from creditlab.analysis.effects.matched import BY, matched
from creditlab.analysis.effects.posthoc import posthoc
from creditlab.analysis.effects.power import power
from creditlab.analysis.effects.robust import robust
from creditlab.analysis.effects.shares import shares
from creditlab.analysis.model.fits import Kind, fit_all
from creditlab.analysis.model.multiplicity import multiplicity

NAMES = (
    *("runs", "anova", "shares", "assumptions", "robust", "posthoc", "multiplicity", "concordance", "agreement"),
    *("matched", "association", "trajectories", "dose", "curve", "power"),
)
OUTCOME = "test/accuracy"  # what metrics are associated with


@dataclass
class Tables:
    frames: dict[str, pd.DataFrame]  # by name, in the order of NAMES
    anova: Anova | None = None
    concordance: Concordance | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def tables(
    sweep: Sweep, metrics: Sequence[str], only: Sequence[str], kind: Kind = "II", strict: bool = False, order: int = 2
) -> Tables:
    """The tables in `only` (of NAMES) over `metrics` of `sweep`. Raises AnalysisError if `strict` and a cell is
    empty."""
    wanted = set(only)
    made = Tables({"runs": sweep.runs})
    usable, factors = sweep.usable, sweep.factors
    if wanted & {"anova", "shares", "multiplicity"}:
        made.anova = anova(usable, factors, metrics, kind, strict, order)
        made.frames["anova"] = made.anova.table
        made.frames["shares"] = shares(made.anova.table)
        made.notes |= {
            "models": [asdict(model) for model in made.anova.models],
            "families": made.anova.families,
            "untested": made.anova.untested,
        }
    if wanted & {"assumptions", "robust"}:
        found = assumptions(usable, factors, metrics, order)
        refuted = list(found.loc[found["fails"] != "", "metric"])
        made.frames |= {"assumptions": found, "robust": robust(usable, factors, refuted, order)}
    if wanted & {"posthoc", "power"}:
        made.frames["posthoc"] = posthoc(usable, factors, metrics, order)
        made.frames["power"] = power(made.frames["posthoc"])
    if made.anova and "multiplicity" in wanted:
        residuals = fit_all(usable, factors, metrics, kind, order=order).residuals
        made.frames["multiplicity"] = multiplicity(made.anova.table, residuals)
    if wanted & {"concordance", "agreement"}:
        made.concordance = concordance(sweep)
        made.frames |= {"concordance": made.concordance.table, "agreement": made.concordance.pairs}
        made.notes["concordance"] = made.concordance.notes
    if wanted & {"matched", "trajectories"}:
        history = histories(sweep)
        each = [matched(history, factors, by) for by in BY]
        made.frames["matched"] = pd.concat(each, ignore_index=True)
        bands = [trajectories(history, factors, factor) for factor in factors]
        made.frames["trajectories"] = pd.concat(bands, ignore_index=True)
    others = [metric for metric in metrics if metric != OUTCOME]
    if "association" in wanted:
        known = factors if OUTCOME in sweep.metrics else []
        scopes = [association(usable, factor, OUTCOME, others) for factor in known]
        made.frames["association"] = pd.concat(scopes) if scopes else pd.DataFrame(columns=ASSOCIATION)
    for name, make, columns in (("dose", dose, DOSE), ("curve", curve, CURVE)):
        if name in wanted:
            answers = [make(usable, factor, metrics) for factor in numeric(usable, factors)]
            made.frames[name] = pd.concat(answers) if answers else pd.DataFrame(columns=columns)
    made.frames = {name: made.frames[name] for name in NAMES if name in made.frames and name in wanted}
    return made
