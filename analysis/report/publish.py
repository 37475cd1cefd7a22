"""From the tables of a sweep to what one reads: figures and report.html.

    further   the tables that describe a sweep beside its tests: levels, what_how, similarity, rdms, fingerprint, …
    publish   figures/<name>.{svg,png} and report.html, of all tables

Any table can be shown; those in TITLES have a title and an explanation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from creditlab.analysis.agreement.fingerprint import fingerprint
from creditlab.analysis.agreement.similarity import similarity
from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.report import figures
from creditlab.analysis.report.conclusions import conclusions, levels, what_how
from creditlab.analysis.report.gallery import gallery
from creditlab.analysis.report.html import Shown, report, runs_table
from creditlab.records import RecordError, read_plan, write_whole

# name → title, and what a row is; in the order of the page
TITLES = {
    "what_how": (
        "Share of variance, summed up",
        "A row a term, over the metrics of what is learned and of how it is encoded: η² (median, lowest, highest) and "
        "for how many metrics the term is found, at adjusted p < .05.",
    ),
    "anova": (
        "Analysis of variance",
        "A row a metric and term. η² is a share of the total sum of squares; p_adjusted is Holm's.",
    ),
    "levels": (
        "Metrics by level",
        "A row a metric and level of a factor, over the complete runs: mean, standard deviation, lowest, highest.",
    ),
    "concordance": (
        "Concordance",
        "A row a data set and factor, the levels of which rank the test samples. Unrelated raters have an expected W "
        "of 1/n_raters.",
    ),
    "similarity": (
        "Similarity of representations",
        "A row a layer, measure and factor: mean similarity of two runs of one level and of two levels, of different "
        "seeds and all else equal. p: levels permuted within blocks; not adjusted over rows.",
    ),
    "similarity_pairs": (
        "Similarity by pair of levels",
        "A row a pair of levels, a level with itself included.",
    ),
    "fingerprint": (
        "Fingerprint",
        "A row a target, what is held out, set of metrics and classifier. Accuracy is balanced; shuffled is its mean "
        "under shuffled labels; p is not adjusted over rows. The single metric is the best of all, and p that of the "
        "best.",
    ),
    "fingerprint_confusion": (
        "Fingerprint: confusion",
        "A row a fold, true level and level identified.",
    ),
    "assumptions": ("Assumptions", "A row a metric: are residuals normal, and equally spread over cells?"),
    "robust": (
        "Where assumptions fail",
        "A row a metric, term and test that does not need them; empty where no assumption is refuted.",
    ),
    "posthoc": ("Pairwise comparisons", "A row a metric and pair of levels: their difference with its interval."),
    "multiplicity": ("Multiplicity", "A row a metric and term: p adjusted within its family of metrics."),
    "shares": ("Share of variance", "A row a metric and term."),
    "agreement": ("Agreement of each two", "A row a pair of raters."),
    "matched": (
        "Matched comparison",
        "A row a metric and pair of levels that share two seeds or more, at equal accuracy, steps or distance from the "
        "start.",
    ),
    "association": (
        "Association with accuracy",
        "A row a metric and scope: across runs, within and between levels. Intervals need three seeds; p is not "
        "adjusted.",
    ),
    "dose": ("Trends", "A row a factor of three numeric levels or more, and metric: trend and change point."),
    "curve": ("Curves", "A row a factor of three numeric levels or more, metric and level."),
    "power": (
        "Power",
        "A row a metric and pair of levels that share seeds: how many seeds their difference needs for a power of 0.8.",
    ),
    "trajectories": ("Trajectories", "A row a factor's level, metric and step."),
    "rdms": ("Dissimilarity of classes", "A row a layer, level and pair of classes."),
}


def further(
    sweep: Sweep, outcomes: Sequence[str], anova: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], dict[str, list[str]]]:
    """The describing tables by name, and by name what was left out of them and why."""
    likeness = similarity(sweep)
    chosen = set(outcomes)
    told = fingerprint(sweep.usable, sweep.factors, [m for m in sweep.metrics if m.removesuffix("@init") in chosen])
    frames = {
        "what_how": what_how(anova),
        "levels": levels(sweep.usable, sweep.factors, outcomes),
        "similarity": likeness.table,
        "similarity_pairs": likeness.pairs,
        "rdms": likeness.rdms,
        "fingerprint": told.table,
        "fingerprint_confusion": told.confusion,
    }
    return frames, {"similarity": likeness.notes, "fingerprint": told.notes}


def publish(
    sweep: Sweep, frames: Mapping[str, pd.DataFrame], notes: Mapping[str, Sequence[str]], out: Path
) -> list[Path]:
    """Write the figures and the report of the tables in `frames` into `out`; the paths. The report links each table to
    `out`/<name>.csv, which is not written here. `notes` are shown above the table of their name.
    """
    order = [*(name for name in TITLES if name in frames), *(n for n in frames if n not in TITLES and n != "runs")]
    tables = {name: frames[name].reset_index(drop=True) for name in order}
    shown = [
        Shown(name, *TITLES.get(name, (name.replace("_", " ").capitalize(), "")), tables[name], notes.get(name, ()))
        for name in order
    ]
    plates = list(gallery(sweep, tables))
    drawn = {f"{p.name}.{kind}": figures.to_bytes(p.figure, kind) for p in plates for kind in ("svg", "png")}
    try:
        plan = read_plan(sweep.folder)
    except RecordError:  # told among the sweep's problems
        plan = None
    command = str(plan.get("command", "")) if plan else ""
    pictures = [(plate, drawn[f"{plate.name}.svg"]) for plate in plates]
    page = report(sweep, command, [*shown, runs_table(sweep)], conclusions(tables, sweep.factors), pictures, out)

    files = {f"figures/{name}": content for name, content in drawn.items()} | {"report.html": page.encode()}
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(out / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return [out / name for name in files]
