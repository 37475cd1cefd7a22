"""Keys that only some options have: an option is compared at its best value of them, never at their average.

Where σ is varied for es beside bp, a mean over σ is no property of es, and the best σ by the very numbers that are
then compared flatters it. So the value is chosen on other data: by the validation accuracy, if the runs recorded it,
else for each seed by the outcome of the *other* seeds. Each combination of the other factors has a choice of its own.
The effect of the key itself is tested within the option that has it (`model.fits.within_options`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from creditlab.analysis.names import SEED, labels, level_order, lower_is_better, outcome_of, some

VALIDATION = "validation/accuracy"


def options_with(runs: pd.DataFrame, key: str, host: str) -> list[str]:
    """The levels of the factor `host` that have several values of `key`."""
    values = runs.dropna(subset=[key]).groupby(host)[key].nunique()
    return sorted((str(level) for level in values.index[values > 1]), key=level_order)


def set_aside(
    runs: pd.DataFrame, factors: Sequence[str], nested: Mapping[str, str], metrics: Sequence[str]
) -> tuple[pd.Series, list[str]]:
    """Which of the finished `runs` take no part in comparisons since another value of a nested key is better, and how
    that was decided, one line for each option.
    """
    aside = pd.Series(False, index=runs.index)
    by = VALIDATION if VALIDATION in metrics else outcome_of([m for m in metrics if not m.endswith("@init")])
    notes = []
    for host in dict.fromkeys(nested.values()):
        keys = [key for key, of in nested.items() if of == host]
        for option in dict.fromkeys(level for key in keys for level in options_with(runs, key, host)):
            having = runs[runs[host].astype(str) == option]
            varied = [key for key in keys if option in options_with(runs, key, host)]
            if by is None:
                notes.append(f"{option} is compared at the mean over {some(varied)}: no outcome tells which is best")
                continue
            others = [factor for factor in factors if factor != host]
            aside[having.index] = ~_best(having, others, varied, by)
            how = "the validation accuracy" if by == VALIDATION else f"the {by} of the other seeds"
            notes.append(f"{option} is compared at its best {some(varied)}, chosen for each seed by {how}")
    return aside, notes


def _best(runs: pd.DataFrame, others: Sequence[str], keys: Sequence[str], by: str) -> pd.Series:
    """Which runs of one option have the best combination of `keys` for their seed and combination of `others`."""
    words = labels(runs[[*others, *keys, SEED]])
    sign = -1.0 if lower_is_better(by) else 1.0
    score = (sign * runs[by]).where(runs["status"] == "complete", -np.inf).fillna(-np.inf)
    best = pd.Series(False, index=runs.index)
    for _, cell in words.groupby(list(others)) if others else [((), words)]:
        value = [" ".join(row) for row in cell[list(keys)].itertuples(index=False)]
        table = pd.DataFrame({"value": value, "seed": cell[SEED], "score": score[cell.index]})
        table = table.pivot_table("score", "seed", "value", aggfunc="mean")
        for seed in table.index:
            used = table if by == VALIDATION else table.drop(index=seed)
            means = (used if len(used) else table).mean()
            if means.notna().any():
                chosen = (cell[SEED] == seed) & (pd.Series(value, index=cell.index) == means.idxmax())
                best |= chosen.reindex(best.index, fill_value=False)
    return best
