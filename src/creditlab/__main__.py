"""The command line: `creditlab key=value …` for a run, `creditlab -m …` for a sweep. Hydra's flags keep their meaning.

Nothing here imports torch: help and a mistake in the configuration answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from creditlab import records
from creditlab.config import ConfigError
from creditlab.sweep.explain import explain
from creditlab.sweep.plan import planned, preflight, sweep_name
from creditlab.sweep.pool import SweepFailed, objective

_HERE = Path(__file__).parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _single(config: DictConfig) -> float | None:
    """One run in this process."""
    composed = OmegaConf.merge(HydraConfig.instance().cfg, config)
    assert isinstance(composed, DictConfig)
    folder = Path(HydraConfig.get().run.dir)
    try:
        run = planned(composed, folder)
        found = records.find_run(run.folder, run.config)
        if not found.finished:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            preflight([run])
            records.make_folder(folder)
            from creditlab.training import train

            found = train(run.config, run.folder, _report, run.hydra)
        print(f"{found.status}: {found.folder}")
        for name in ("test/accuracy", "test/loss"):
            print(f"  {name:15} {found.metrics[name]:.4f}  (at initialisation {found.metrics[name + '@init']:.4f})")
        return objective(found, run.config["training"]["objective"])
    except (ConfigError, records.RecordError) as error:
        _refuse(str(error))


def _report(step: int, steps: int, found: Mapping[str, float]) -> None:
    print(f"step {step:>7}/{steps}  loss {found['train/loss']:.4f}  accuracy {found['test/accuracy']:.4f}", flush=True)


def _refuse(message: str) -> NoReturn:
    print(f"creditlab: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Entry point of the `creditlab` command."""
    sys.path.insert(0, os.getcwd())  # a user's own rules and metrics
    if not OmegaConf.has_resolver("sweep_name"):
        OmegaConf.register_new_resolver("sweep_name", lambda name, task: sweep_name(name, list(task)))
    whole = "HYDRA_FULL_ERROR" in os.environ  # the user wants tracebacks
    os.environ["HYDRA_FULL_ERROR"] = "1"  # have Hydra raise, so that we can say what is allowed
    try:
        _single()
    except (ConfigError, records.RecordError) as error:
        _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        if whole:
            raise
        _refuse(explain(error, CONF))
    except SweepFailed as error:
        print(f"creditlab: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:  # Hydra makes the folder of a single run
        if whole or error.filename is None:
            raise
        _refuse(f"cannot write to {Path(error.filename).absolute()}: {error.strerror}. Give another folder.")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
