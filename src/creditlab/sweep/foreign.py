"""A launcher that is not creditlab's: Hydra's own (`basic`), or that of a plugin (`joblib`, `ray`).

It calls the command's task function for each run, and knows nothing of run IDs. So the sweep is planned, checked and
written down here, as for creditlab's launchers, and the foreign one gets the runs that are to be done. What became of
them is read from their folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from hydra.plugins.launcher import Launcher

from creditlab import records
from creditlab.files import printable
from creditlab.sweep.display import evidence
from creditlab.sweep.launcher import LeftToOthers, SweepFailed, SweepLauncher, Worklist


class ForeignLauncher(SweepLauncher):
    """Has `launcher` start the runs."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def start(self, worklist: Worklist, sweep: Path) -> None:
        print(f"{worklist}: {sweep}", file=sys.stderr)
        runs, problem = worklist.to_do, "not finished"
        try:
            if runs:
                overrides = [yaml.safe_load(run.hydra["overrides.yaml"]) for run in runs]
                self.launcher.launch(overrides, initial_job_idx=0)
        except Exception as error:  # of the launcher, which may be of any kind: a process that trained runs died, say
            problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        unfinished = [(run, state) for run in runs if not (state := records.read_run(run.folder)).finished]
        for run, state in unfinished:
            print(f"{printable(evidence(run))}\n    {printable(state.problem or problem)}", file=sys.stderr)
        if unfinished:
            number = f"{len(unfinished)} of {len(runs)}"
            raise SweepFailed(f"{number} runs failed or did not finish. The same command runs only these again.")
        if elsewhere := worklist.left_to_others():
            raise LeftToOthers(len(elsewhere), f"creditlab-status {sweep} shows when they have ended.")
