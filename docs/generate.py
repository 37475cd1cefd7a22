"""Writes docs/configuration.md (the default, the allowed values and the meaning of every config key) and
docs/metrics.md (the formula, range, unit, source and cost of every metric).

    make docs

The default and the meaning of a key come from `conf/`. Its allowed values come from the signature of its `_target_`.
What the page says about a metric comes from the metric's docstring.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

from creditlab.config import GROUPS, SUPPLIED, Config, Metrics, Training, Trajectory, import_target
from creditlab.scopes import scope_of
from creditlab.signature import signature
from creditlab.values import allowed_values

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
METRICS_PAGE = ROOT / "docs" / "metrics.md"
INTRODUCTION = """# Configuration

`make docs` generates this page from `conf/` and from the signatures of the classes and functions named there. A test
fails when the page is out of date.

`group=option` chooses an option. `group.key=value` sets a key. `creditlab -m` takes several values of either:
`algorithm=bp,fa`, `seed=range(10)`, `optimiser.lr=1e-3,1e-2`. Every key of every run is checked before the first run
starts. `--config-dir=FOLDER` adds a folder of yours with the same groups.
"""


def comments(path: Path) -> dict[str, str]:
    """The comment at the end of each line `key: value # comment`, by dotted key."""
    by_key, parents = {}, []
    for line in path.read_text().splitlines():
        match = re.match(r"( *)([\w@/-]+):( [^#]*)?(?:# ?(.*))?$", line)
        if match:
            indent, key, _, comment = match.groups()
            parents = [*parents[: len(indent) // 2], key]
            by_key[".".join(parents)] = comment or ""
    return by_key


def in_yaml(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def table_row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rows(keys: dict, annotations: dict, meanings: dict[str, str], *, prefix: str, group: str = "") -> Iterator[str]:
    """One row per key. `prefix` goes before a key on the page, `group` before it in `meanings`."""
    for key, value in keys.items():
        allowed = allowed_values(annotations[key]) if key in annotations else ""
        yield table_row(f"`{prefix}{key}`", f"`{in_yaml(value)}`", allowed, meanings.get(f"{group}{key}", ""))


HEAD = "| key | default | allowed values | meaning |\n|---|---|---|---|"


def page() -> str:
    base = ROOT / "conf" / "config.yaml"
    top, meanings = yaml.safe_load(base.read_text()), comments(base)
    parts = [INTRODUCTION, "## Every run\n", HEAD]
    run_keys = {k: v for k, v in top.items() if k not in ("defaults", "hydra", "training")}
    parts += rows(run_keys, typing.get_type_hints(Config, include_extras=True), meanings, prefix="")
    annotations = typing.get_type_hints(Training, include_extras=True)
    parts += rows(top["training"], annotations, meanings, prefix="training.", group="training.")
    for group in (*GROUPS, "metrics", "tracker", "hydra/launcher", "hydra/sweeper"):
        parts.append(f"\n## {group}")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            keys = yaml.safe_load(path.read_text())
            parts.append(f"\n### `{group}={path.stem}`\n\n{path.read_text().splitlines()[0].removeprefix('# ')}")
            if "_target_" in keys:
                parts.append(f"`{keys['_target_']}`")
            if group == "metrics":
                annotations = typing.get_type_hints(Metrics, include_extras=True)
                of_trajectory = typing.get_type_hints(Trajectory, include_extras=True)
                annotations |= {f"trajectory.{k}": a for k, a in of_trajectory.items()}
                keys |= {f"trajectory.{k}": v for k, v in keys.get("trajectory", {}).items()}
                keys = {k: v for k, v in keys.items() if k not in ("trajectory", "instruments")}
            else:
                form = signature(keys["_target_"])
                supplied = form.positional[: SUPPLIED.get(group, 0)]
                annotations = {n: a for n, a in form.annotations.items() if n not in supplied}
            keys = {k: v for k, v in keys.items() if k not in ("_target_", "defaults")}
            if keys:
                prefix = group.replace("/", ".") + "."
                parts += ["", HEAD, *rows(keys, annotations, comments(path), prefix=prefix)]
    parts.append("\n`metrics.instruments` maps names to metrics. [metrics.md](metrics.md) lists them.")
    return "\n".join(parts) + "\n"


METRICS = """# Metrics

`make docs` generates this page from `conf/metrics/` and from the docstrings of the functions named there. A test fails
when the page is out of date.

A value is recorded as `<scope>/<layer>/<name>` in `history.jsonl` and `summary.json`, or as `network/<name>` if it
describes the network as a whole. Its value at initialisation is `<name>@init`. A metric with several parts is recorded
as `<name>_<part>`. A metric in `weights/` that needs only weights or singular values is also measured on W − W₀ and
recorded in `changes/`. Signals are those of the training batch of a measurement step; at initialisation, those of the
first step. *Ends* means that the metric is measured only at initialisation and at the end. A value that is not defined
is null. The following is recorded for every run, even with `metrics=none`: `test/accuracy`, `test/loss`, `train/loss`,
`validation/…`; and in `arrays.npz` the loss, correctness, prediction and label of each test sample, and
`test/confusion`, counts of labels × predictions.

The tables describe the cost of each metric in words. The number of measurements does not depend on the length of a
run, so neither does their cost. A run must be long enough for them: the goal is at most 5 % of its wall time for
`light` and at most 20 % for `full`. The table below was measured by `python -m benchmarks.instruments --root DATA`,
which also prints the milliseconds of each metric. Times are processor time on one thread of a busy two-core machine,
with batches of 128:

| run | one step | `light` | share of the run | meets the goal from | `full` | share of the run | meets the goal from |
|---|---|---|---|---|---|---|---|
| MNIST MLP 784-256-128-10, 4,680 steps | 3.0 to 4.1 ms | 0.4 s | 1.9 % | 1,635 steps | 3.1 s | 17.7 % | 3,992 steps |
| CIFAR-10 convnet of depth 4, 50,000 steps | 120 ms | 19 s | 0.3 % | 2,535 steps | 112 s | 1.8 % | 3,301 steps |
| CIFAR-10 ResNet-18, 39,000 steps | 4.6 to 4.9 s | 473 s | 0.2 % | 1,544 steps | 3,938 s | 2.1 % | 3,116 steps |

The real runs of the MLP, by `seconds_metrics` over `seconds`: 2.5 % and 14.2 %. **Shorter runs miss the goal for
`full`.** In creditlab's default run, 1,000 steps on digits, `light` takes 4.2 to 4.9 % and `full` 33 to 34 % of the
processor time. With `training.steps=2500`, `full` takes 18 %. Three things cost most: the accuracy on the test set,
which goes with each measurement, the adversarial examples, and the Hessian. `metrics.points` and
`'~metrics.instruments.hessian'` lower the cost. `full` needs up to about 4.5 GiB of memory on ResNet-18 and 1.8 GiB on
the convnet.
"""
METRICS_HEAD = "| name | meaning | formula | range | unit | cost | source |\n|---|---|---|---|---|---|---|"
FIELDS = ("Range", "Unit", "Cost", "Source", "Parts")


def described(metric: object) -> dict[str, str]:
    """The parts of a metric's docstring: `meaning`, `formula`, and `FIELDS`."""
    parts: dict[str, list[str]] = {"meaning": [], "formula": []}
    current = "meaning"
    for line in (inspect.getdoc(metric) or "").splitlines():
        if match := re.match(rf"({'|'.join(FIELDS)}): *(.*)", line):
            current, line = match[1], match[2]
        part = "formula" if current == "meaning" and line.startswith("    ") else current
        parts.setdefault(part, []).append(line.strip())
    return {k: " ".join(line for line in lines if line) for k, lines in parts.items()}


def metrics_page() -> str:
    folder = ROOT / "conf" / "metrics"
    options = {option: yaml.safe_load((folder / f"{option}.yaml").read_text()) for option in ("light", "full")}
    nodes = {name: node for option in options.values() for name, node in option["instruments"].items()}
    rows: dict[str, list[str]] = {}
    for name, node in nodes.items():
        text = described(import_target(node))
        keys = ", ".join(f"`{k}: {in_yaml(v)}`" for k, v in node.items() if not k.startswith("_"))
        meaning = (
            text["meaning"]
            + (f" *Parts*: {text['Parts']}" if "Parts" in text else "")
            + (f" *Keys*: {keys}." if keys else "")
        )
        cost = ("ends; " if node.get("_at_") == "ends" else "") + text.get("Cost", "")
        shown_name = f"`{name}`" + (" (light)" if name in options["light"]["instruments"] else "")
        formula = f"`{text['formula']}`" if text["formula"] else ""
        scope = scope_of(signature(node["_target_"]).positional)
        assert scope is not None
        row = table_row(
            shown_name, meaning, formula, text.get("Range", ""), text.get("Unit", ""), cost, text.get("Source", "")
        )
        rows.setdefault(scope, []).append(row)
    parts = [METRICS]
    for scope, lines in rows.items():
        parts += [f"## {scope}/\n", METRICS_HEAD, *lines, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    METRICS_PAGE.write_text(metrics_page())
