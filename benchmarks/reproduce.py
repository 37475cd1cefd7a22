"""A study, whole: its sweeps, their analysis, and a table that sets our number beside the study's for every claim.

    python -m benchmarks.reproduce rank_collapse --budget small --root DATA [--only depth freon]

For each file of conf/experiment/<study>/ it gives the command

    creditlab -m +experiment=<study>/<name> hydra.sweeper.budget=<budget> sweep=<study>/<name>-<budget> …

(files that only look at another one's runs share them; one that needs a run to be there has it done first), then
the analysis of the sweep and, at last, `python -m creditlab.analysis.studies.claims`. Budgets: full (the study's size,
where it is known), small (some hours on two cores) and smoke (minutes, on what a clone has, digits and the licence's
text: it shows that all runs, and of the analysis only what claims need). Given again it goes on where it
was. Exit status: 1 where something failed, 2 where something was refused (its data are not there).
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.measure import ROOT
from creditlab.analysis.studies.claims import claims
from creditlab.hints import did_you_mean

EXPERIMENTS = ROOT / "conf" / "experiment"


def sweep_of(path: Path) -> str:
    """The experiment whose runs `path` looks at: its own, or the one of its study that it builds on."""
    content = yaml.safe_load(path.read_text())
    base = [str(entry) for entry in content.get("defaults", []) if isinstance(entry, str)]
    of_study = [Path(entry) for entry in base if Path(entry).parent.name == path.parent.name]
    return sweep_of(path.with_name(f"{of_study[0].name}.yaml")) if of_study else path.stem


def before(path: Path, study: str) -> list[str]:
    """The experiments of whose runs `path` names one (`metrics.surrogate`): multirun/<study>/<name>-<budget>."""
    return re.findall(rf"multirun/{study}/([\w/]+)-full", path.read_text())


def tables_of(study: str, name: str) -> list[str]:
    """What the claims need of the analysis of an experiment's runs, and the two tables that all begin with."""
    about_it = [claim for claim in claims(study) if claim.get("sweep", claim["experiment"]) == name]
    return sorted({"anova", "concordance", *(claim["table"]["table"] for claim in about_it if "table" in claim)})


def give(*words: str) -> int:
    print(f"\n$ {shlex.join(words)}", flush=True)
    return subprocess.run([sys.executable, "-m", *words]).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = sorted(p.name for p in EXPERIMENTS.iterdir() if (p / "shared").is_dir())
    parser.add_argument("study", choices=studies)
    parser.add_argument("--budget", choices=["smoke", "small", "full"], default="smoke")
    parser.add_argument("--root", help="folder of the image data sets, in torchvision's layout")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the study's experiments")
    chosen = parser.parse_args()
    paths = sorted((EXPERIMENTS / chosen.study).glob("*.yaml"))
    if unknown := sorted(set(chosen.only or ()) - {path.stem for path in paths}):
        names = [path.stem for path in paths]
        hint = did_you_mean(unknown[0], names)
        parser.error(f"{chosen.study} has no experiment {unknown[0]!r}.{hint} It has {', '.join(names)}.")
    asked = [path for path in paths if not chosen.only or path.stem in chosen.only]
    failed, refused = [], []
    named = [name for path in asked for name in (*before(path, chosen.study), sweep_of(path))]
    smoke = chosen.budget == "smoke"
    for name in dict.fromkeys(named):
        sweep = f"{chosen.study}/{name}-{chosen.budget}"
        keys = [f"+experiment={chosen.study}/{name}", f"hydra.sweeper.budget={chosen.budget}", f"sweep={sweep}"]
        if smoke and "dataset: text" in (EXPERIMENTS / chosen.study / f"{name}.yaml").read_text():
            keys += [f"dataset.root={ROOT}", "dataset.path=LICENSE", "dataset.level=byte"]
        keys += [f"dataset.root={chosen.root}"] if chosen.root and not smoke else []
        analysis = [
            "creditlab.analysis",
            f"multirun/{sweep}",
            *(["--only", *tables_of(chosen.study, name)] if smoke else []),
        ]
        of_claims = name in {path.stem for path in paths}
        status = give("creditlab", "-m", *keys)
        if status == 2:  # before anything started
            refused.append(name)
        elif status or (of_claims and give(*analysis) not in (0, 3)):
            failed.append(name)
    if len(refused) < len(set(named)):
        give("creditlab.analysis.studies.claims", chosen.study, f"multirun/{chosen.study}", "--budget", chosen.budget)
    if refused:
        print(f"refused, for the reason above: {', '.join(refused)}; data are found by --root FOLDER", file=sys.stderr)
    if failed:
        print(f"did not succeed: {', '.join(failed)}; given again, this goes on where it was", file=sys.stderr)
    return 1 if failed else 2 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
