"""Writes docs/configuration.md (every config key: its default, what it may be, what it means) and docs/metrics.md
(every instrument: formula, range, unit, source, cost).

    make docs

A key's default and meaning stand in `conf/`, what it may be in the signature of its `_target_`; what is to be said of
an instrument stands in its docstring.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

from creditlab.config import GROUPS, SUPPLIED, Config, Metrics, Training, Trajectory, describe, function
from creditlab.scopes import scope_of
from creditlab.signature import signature

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
METRICS_PAGE = ROOT / "docs" / "metrics.md"
INTRODUCTION = """# Configuration

Generated from `conf/` and the signatures that it names by `make docs`; a test holds it to them.

`group=option` chooses an option, `group.key=value` sets a key, `creditlab -m` takes several values of either:
`algorithm=bp,fa`, `seed=range(10)`, `optimiser.lr=1e-3,1e-2`. Every key of every run is checked before the first run
starts. A folder of your own with the same groups is added by `--config-dir=FOLDER`.
"""


def comments(path: Path) -> dict[str, str]:
    """The comment at the end of each line `key: value # comment`, by dotted key."""
    found, above = {}, []
    for line in path.read_text().splitlines():
        match = re.match(r"( *)([\w@/-]+):( [^#]*)?(?:# ?(.*))?$", line)
        if match:
            indent, key, _, comment = match.groups()
            above = [*above[: len(indent) // 2], key]
            found[".".join(above)] = comment or ""
    return found


def rows(keys: dict, prefix: str, allowed: dict, said: dict[str, str], shown: str) -> Iterator[str]:
    for key, value in keys.items():
        default = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
        may_be = describe(allowed[key]) if key in allowed else ""
        cells = (f"`{shown}{key}`", f"`{default}`", may_be, said.get(f"{prefix}{key}", ""))
        yield "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


HEAD = "| key | default | may be | meaning |\n|---|---|---|---|"


def page() -> str:
    base = ROOT / "conf" / "config.yaml"
    top, said = yaml.safe_load(base.read_text()), comments(base)
    parts = [INTRODUCTION, "## Every run\n", HEAD]
    own = {k: v for k, v in top.items() if k not in ("defaults", "hydra", "training")}
    parts += rows(own, "", typing.get_type_hints(Config, include_extras=True), said, "")
    hints = typing.get_type_hints(Training, include_extras=True)
    parts += rows(top["training"], "training.", hints, said, "training.")
    for group in (*GROUPS, "metrics", "tracker", "hydra/launcher", "hydra/sweeper"):
        parts.append(f"\n## {group}")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            option, keys = path.stem, yaml.safe_load(path.read_text())
            parts.append(f"\n### `{group}={option}`\n\n{path.read_text().splitlines()[0].removeprefix('# ')}")
            if "_target_" in keys:
                parts.append(f"`{keys['_target_']}`")
            if group == "metrics":
                allowed = typing.get_type_hints(Metrics, include_extras=True)
                allowed |= {
                    f"trajectory.{k}": a for k, a in typing.get_type_hints(Trajectory, include_extras=True).items()
                }
                keys |= {f"trajectory.{k}": v for k, v in keys.get("trajectory", {}).items()}
                keys = {k: v for k, v in keys.items() if k not in ("trajectory", "instruments")}
            else:
                form = signature(keys["_target_"])
                allowed = {
                    n: a for n, a in form.annotations.items() if n not in form.positional[: SUPPLIED.get(group, 0)]
                }
            keys = {k: v for k, v in keys.items() if k not in ("_target_", "defaults")}
            if keys:
                shown = group.replace("/", ".") + "."
                parts += ["", HEAD, *rows(keys, "", allowed, comments(path), shown)]
    parts.append("\n`metrics.instruments` maps names to metrics: they are listed in [metrics.md](metrics.md).")
    return "\n".join(parts) + "\n"


METRICS = """# Metrics

Generated from `conf/metrics/` and the docstrings of the functions that it names by `make docs`; a test holds it to
them.

A value is recorded as `<scope>/<layer>/<name>` in `history.jsonl` and `summary.json` (`network/<name>` where it is of
the network as a whole), and at initialisation as `<name>@init` beside it; a metric with parts as `<name>_<part>`. What
is seen in `weights/` from weight or singular values alone is also measured of W − W₀, in `changes/`. Signals are those
of the training batch of a probe step; at initialisation, those of the first step. *Ends*: looked at only at
initialisation and at the end. A value that is not defined is null. Recorded for every run, with `metrics=none` too:
`test/accuracy`, `test/loss`, `train/loss`, `validation/…`, and in `arrays.npz` loss, correctness, prediction and label
by test sample, and `test/confusion`, counts of labels × predictions.

The cost of a metric is in words in the tables. What instruments take does not depend on a run's length, for they look
at so many points: a run must be long enough for them. Goals: `light` at most 5 %, `full` at most 20 % of a run's wall
time. Measured by `python -m benchmarks.instruments --root DATA` (which gives each metric's milliseconds too), in
processor time on one thread of a busy two-core machine, batches of 128:

| run | a step | `light` | of the run | within the goal from | `full` | of the run | within the goal from |
|---|---|---|---|---|---|---|---|
| MNIST MLP 784-256-128-10, 4,680 steps | 3.0 to 4.1 ms | 0.4 s | 1.9 % | 1,635 steps | 3.1 s | 17.7 % | 3,992 steps |
| CIFAR-10 convnet of depth 4, 50,000 steps | 120 ms | 19 s | 0.3 % | 2,535 steps | 112 s | 1.8 % | 3,301 steps |
| CIFAR-10 ResNet-18, 39,000 steps | 4.6 to 4.9 s | 473 s | 0.2 % | 1,544 steps | 3,938 s | 2.1 % | 3,116 steps |

The MLP's real runs, by `seconds_metrics` of `seconds`: 2.5 % and 14.2 %. **Shorter runs miss the goal for `full`**: of
creditlab's default run, 1,000 steps on digits, `light` takes 4.2 to 4.9 % and `full` 33 to 34 % of the processor time;
with `training.steps=2500`, `full` takes 18 %. The largest parts are the accuracy on the test set that goes with each
look, adversarial examples and the Hessian: `metrics.points` and `'~metrics.instruments.hessian'` lower them. The most
memory that `full` takes is about 4.5 GiB on ResNet-18, 1.8 GiB on the convnet.
"""
METRICS_HEAD = "| name | tells | formula | range | unit | cost | source |\n|---|---|---|---|---|---|---|"
FIELDS = ("Range", "Unit", "Cost", "Source", "Parts")


def described(metric: object) -> dict[str, str]:
    """The parts of a metric's docstring: `tells`, `formula`, and `FIELDS`."""
    found: dict[str, list[str]] = {"tells": [], "formula": []}
    current = "tells"
    for line in (inspect.getdoc(metric) or "").splitlines():
        if match := re.match(rf"({'|'.join(FIELDS)}): *(.*)", line):
            current, line = match[1], match[2]
        place = "formula" if current == "tells" and line.startswith("    ") else current
        found.setdefault(place, []).append(line.strip())
    return {k: " ".join(line for line in lines if line) for k, lines in found.items()}


def metrics_page() -> str:
    folder = ROOT / "conf" / "metrics"
    texts = {option: yaml.safe_load((folder / f"{option}.yaml").read_text()) for option in ("light", "full")}
    nodes = {name: node for option in texts.values() for name, node in option["instruments"].items()}
    rows: dict[str, list[str]] = {}
    for name, node in nodes.items():
        metric, form = function(node), signature(node["_target_"])
        told = described(metric)
        keys = ", ".join(
            f"`{k}: {yaml.safe_dump(v, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"
            for k, v in node.items()
            if not k.startswith("_")
        )
        tells = (
            told["tells"]
            + (f" *Parts*: {told['Parts']}" if "Parts" in told else "")
            + (f" *Keys*: {keys}." if keys else "")
        )
        at = ("ends; " if node.get("_at_") == "ends" else "") + told.get("Cost", "")
        marked = f"`{name}`" + (" (light)" if name in texts["light"]["instruments"] else "")
        formula = f"`{told['formula']}`" if told["formula"] else ""
        cells = (marked, tells, formula, told.get("Range", ""), told.get("Unit", ""), at, told.get("Source", ""))
        scope = scope_of(form.positional)
        assert scope is not None
        rows.setdefault(scope, []).append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    parts = [METRICS]
    for scope, lines in rows.items():
        parts += [f"## {scope}/\n", METRICS_HEAD, *lines, ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    METRICS_PAGE.write_text(metrics_page())
