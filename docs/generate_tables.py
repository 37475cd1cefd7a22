"""Writes docs/tables.md: every table of the analysis, what one row is, and what each column means.

    make docs

All of it is read from the statistics themselves (`creditlab.analysis.catalogue`).
"""

from __future__ import annotations

from pathlib import Path

from creditlab.analysis.catalogue import statistics
from creditlab.analysis.table import FURTHER, Statistic

PAGE = Path(__file__).parent / "tables.md"
INTRODUCTION = """# Tables of the analysis

Generated from the statistics of `creditlab.analysis` by `make docs`; a test holds it to them.

`creditlab-analyse DIR` writes each table as `DIR/report/<name>.csv`, in the order of this page;
`creditlab-analyse DIR --only NAME …` writes those named. In Python each is a function of the same name:
`from creditlab.analysis import anova, fit, load`, then `anova(fit(load("multirun/demo"))).frame`. A function *of fits*
takes the fitted metrics, one *of a sweep* takes the sweep, or fits and uses their sweep.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *map(section, statistics().values())])


def section(statistic: Statistic) -> str:
    source = "fits" if statistic.of_fits else "a sweep"
    lines = [f"## {statistic.name}", "", f"*{statistic.title}*, of {source}. {statistic.row}", ""]
    lines += ["| column | meaning | unit |", "|---|---|---|"]
    for name, column in statistic.columns.items():
        shown = "further columns" if name == FURTHER else f"`{name}`"
        lines.append(f"| {shown} | {column.meaning} | {column.unit} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
