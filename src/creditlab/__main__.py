"""The command line: `creditlab key=value …` for a run, `creditlab -m …` for a sweep. Hydra's flags keep their meaning.

Nothing here imports torch, so help and mistakes in the configuration answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from creditlab import interrupt, records
from creditlab.command_line import arguments, completion, private
from creditlab.command_line.loader import Loader
from creditlab.command_line.messages import message_of
from creditlab.config import ConfigError
from creditlab.lock import Held
from creditlab.sweep.launcher import (
    LeftToOthers,
    SweepFailed,
    SweepLauncher,
    check_best,
    score,
    worklist_of,
    worst_objective,
)
from creditlab.sweep.plan import Planned, check_devices, planned, preflight, remove_empty, sweep_name

_HERE = Path(__file__).parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _single(config: DictConfig) -> float | None:
    """One run in this process: a single one, or a run of a sweep whose launcher is not one of creditlab's."""
    composed = OmegaConf.merge(HydraConfig.instance().cfg, config)
    assert isinstance(composed, DictConfig)
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode is RunMode.MULTIRUN  # a launcher of Hydra's own, which calls this for each run
    folder = Path(hydra_config.sweep.dir if in_sweep else hydra_config.run.dir)
    if hydra_config.job.chdir:  # this process has left the folder of the command
        folder = Path(hydra_config.runtime.output_dir)
    try:
        if not in_sweep:
            arguments.refuse_sweep(composed)
        run = planned(composed, folder)
        result, finished_before = _run(run)
        print(f"{'finished before, ' if finished_before else ''}{result.status}: {result.folder}")
        for name in ("test/accuracy", "test/loss"):
            print(f"  {name:15} {result.metrics[name]:.4f}  (at initialisation {result.metrics[name + '@init']:.4f})")
        for name, reason in result.broken.items():
            print(f"  not computed: {name}, {reason}")
        return score(result, run.config["training"]["objective"], worst_objective(composed.hydra))
    except (ConfigError, records.RecordError, Held, OmegaConfBaseException) as error:
        message = message_of(error, [CONF]) if isinstance(error, OmegaConfBaseException) else str(error)
        if not in_sweep:
            remove_empty(Loader.absent)  # Hydra has made them
            _refuse(message)
        raise SweepFailed(message) from None  # the launcher goes on with the other runs


def _run(run: Planned) -> tuple[records.Run, bool]:
    """Train `run`, unless it is finished and not to be repeated; whether it was finished before. Raises SweepFailed if
    it fails.
    """
    worklist = worklist_of([run], {})
    check_devices([run.config["device"]])
    if not worklist.finished:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from creditlab.process import prepare_process

        prepare_process(run.config["threads"])
        preflight([run])
    worklist.print_notes()
    if worklist.finished:
        return records.read_run(run.folder), True
    records.make_folder(run.folder.parent)
    for finished_run in worklist.again:
        records.forget(finished_run.folder)
    interrupt.watch(signal.SIGINT, signal.SIGTERM)
    from creditlab.training import train

    try:
        return train(run.config, run.folder, _report, run.hydra), False
    except (ConfigError, records.RecordError, Held):
        raise
    except Exception as error:
        cause = records.cause_of(error)
        trace = run.folder / "error.txt"  # absent if the disk is full
        raise SweepFailed(f"the run failed: {cause}\n  {trace if trace.exists() else run.folder}") from None


def _report(step: int, steps: int, metrics: Mapping[str, float]) -> None:
    loss, accuracy = metrics["train/loss"], metrics["test/accuracy"]
    print(f"step {step:>7}/{steps}  loss {loss:.4f}  accuracy {accuracy:.4f}", flush=True)


def _refuse(message: str) -> NoReturn:
    print(f"creditlab: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the `creditlab` command."""
    sys.path.insert(0, os.getcwd())  # a user's own rules and metrics
    if not OmegaConf.has_resolver("sweep_name"):
        OmegaConf.register_new_resolver("sweep_name", sweep_name)
    private.install(Loader)
    wants_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # have Hydra raise, so that we can say what is allowed
    folders = [CONF]
    try:
        folders = arguments.read(CONF)
        with completion.only_accepted():
            _single()
        if SweepLauncher.folder is not None:
            check_best(SweepLauncher.folder)
    except (ConfigError, records.RecordError, Held) as error:
        _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        if wants_traceback:
            raise
        _refuse(message_of(error, folders))
    except (SweepFailed, LeftToOthers) as error:
        print(f"creditlab: {error}", file=sys.stderr)
        raise SystemExit(1 if isinstance(error, SweepFailed) else 4) from None
    except OSError as error:  # Hydra makes the folder of a single run
        if wants_traceback or error.filename is None:
            raise
        _refuse(f"cannot write to {Path(error.filename).absolute()}: {error.strerror}. Give another folder.")
    except KeyboardInterrupt:  # the user stopped it: the run under way has its checkpoint
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
