"""Draws the pictures of statistics.md from 45 real runs, and from the table of error rates in that page.

.venv/bin/python docs/statistics/draw.py
"""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GREY, BLUE, ORANGE = "#999999", "#0072b2", "#d55e00"
plt.rcParams |= {"svg.hashsalt": "creditlab", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def strata() -> None:
    runs = pd.read_csv(ROOT / "tests" / "analysis" / "oracle_data" / "sweep_complete.csv")
    means = runs.pivot_table("change_rank", "seed", "algorithm")[["bp", "fa", "dfa"]]
    figure, ax = plt.subplots(figsize=(4.2, 2.6), layout="constrained")
    for seed, row in means.iterrows():
        ax.plot(row.index, row, color=GREY, marker="o", markersize=4, label="one seed" if seed == 0 else None)
    ax.plot(
        means.columns, means.mean(), color=BLUE, linewidth=0, marker="_", markersize=26, markeredgewidth=3, label="mean"
    )
    ax.set_ylabel("rank of the weight changes")
    ax.legend(frameon=False)
    figure.savefig(HERE / "strata.svg", metadata={"Date": None})


def rates() -> None:
    """The first column of the table of designs: the model beside one pooled residual."""
    text = (ROOT / "docs" / "statistics.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+|nan) \| ([\d.]+) \|$", text, re.M)
    designs = list(dict.fromkeys(row[0] for row in rows))
    figure, ax = plt.subplots(figsize=(6.8, 3.2), layout="constrained")
    for place, design in enumerate(designs):
        for offset, (_, _, main, _, pooled, _) in enumerate(row for row in rows if row[0] == design):
            y = place + 0.22 * (offset - 1)
            if pooled != "nan":
                ax.plot(
                    float(pooled), y, "x", color=ORANGE, label="one pooled residual" if not place + offset else None
                )
            ax.plot(float(main), y, "o", color=BLUE, markersize=5, label="the model" if not place + offset else None)
    ax.axvline(5, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(designs)), designs)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, None)
    ax.set_xlabel("found where nothing is, per cent (from above: 3, 5, 10 seeds)")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(HERE / "rates.svg", metadata={"Date": None})


strata()
rates()
