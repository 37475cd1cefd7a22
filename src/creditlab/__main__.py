"""The command line: `creditlab key=value …` for a run, `creditlab -m …` for a sweep. Hydra's flags keep their meaning.

Nothing here imports torch: help and a mistake in the configuration answer at once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import hydra
import hydra._internal.hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from creditlab import interrupt, records
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.lock import Held
from creditlab.sweep.explain import explain
from creditlab.sweep.launcher import SweepFailed, objective, wanted
from creditlab.sweep.loader import Loader
from creditlab.sweep.plan import planned, preflight, sweep_name

_HERE = Path(__file__).parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parents[1] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _single(config: DictConfig) -> float | None:
    """One run in this process."""
    composed = OmegaConf.merge(HydraConfig.instance().cfg, config)
    assert isinstance(composed, DictConfig)
    folder = Path(HydraConfig.get().run.dir)
    try:
        _refuse_sweep(composed)
        run = planned(composed, folder)
        found = records.find_run(run.folder, run.config)
        again = found.finished and wanted(found, run.config["retry"])
        if again or not found.finished:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            preflight([run])
            records.make_folder(folder)
            if again:
                records.forget(run.folder)
            interrupt.watch(signal.SIGINT, signal.SIGTERM)
            from creditlab.process import prepare_process
            from creditlab.training import train

            prepare_process(run.config["threads"])

            try:
                found = train(run.config, run.folder, _report, run.hydra)
            except (ConfigError, records.RecordError, Held):
                raise
            except Exception as error:
                cause = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"creditlab: the run failed: {cause}\n  {run.folder / 'error.txt'}", file=sys.stderr)
                raise SystemExit(1) from None
        print(f"{found.status}: {found.folder}")
        for name in ("test/accuracy", "test/loss"):
            print(f"  {name:15} {found.metrics[name]:.4f}  (at initialisation {found.metrics[name + '@init']:.4f})")
        for name, reason in found.broken.items():
            print(f"  absent: {name}, {reason}")
        return objective(found, run.config["training"]["objective"])
    except (ConfigError, records.RecordError, Held) as error:
        with contextlib.suppress(OSError):  # it holds runs; if not, Hydra has just made it
            folder.rmdir()
        _refuse(str(error))


def _refuse_sweep(composed: DictConfig) -> None:
    """Raise ConfigError where a single run would pass over what is said of a sweep."""
    for override in composed.hydra.overrides.hydra:
        if re.match(r"[+~]*hydra[./](sweeper|launcher)\b", override):
            raise ConfigError(f"{override}: is of a sweep, and this is a single run. For a sweep give -m first.")
    if composed.hydra.sweeper.get("params"):
        name = composed.hydra.runtime.choices.get("experiment")
        raise ConfigError(f"+experiment={name} is a sweep, and this is a single run: creditlab -m +experiment={name}")


def _report(step: int, steps: int, found: Mapping[str, float]) -> None:
    print(f"step {step:>7}/{steps}  loss {found['train/loss']:.4f}  accuracy {found['test/accuracy']:.4f}", flush=True)


def _refuse(message: str) -> NoReturn:
    print(f"creditlab: {message}", file=sys.stderr)
    raise SystemExit(2)


def _read_command_line() -> list[Path]:
    """The folders of the config groups, creditlab's and the user's. Refuses a command line that Hydra takes amiss."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign, assignment]
    known, rest = parser.parse_known_args()
    if flags := [word for word in rest if word.startswith("-")]:
        _refuse(f"{flags[0]}: there is no such flag.{did_you_mean(flags[0], parser._option_string_actions)}")
    if rest:
        before = [word for word in sys.argv[1:] if word not in (*known.overrides, *rest)]
        _refuse(f"flags come before all overrides: creditlab {shlex.join([*before, *known.overrides, *rest])}")
    if sum(map(bool, (known.run, known.multirun, known.cfg, known.info, known.shell_completion))) > 1:
        _refuse(
            "give one of --run, --multirun, --cfg, --info and --shell-completion; --cfg shows the config of one run."
        )
    if known.resolve and not (known.cfg or known.help):
        _refuse("--resolve goes with --cfg or --help.")
    given: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(known.overrides):
        key, line = override.get_key_element().lstrip("+"), str(override.input_line)
        if not key:
            _refuse(f"{line}: which key? Give key=value.")
        if key in given:
            _refuse(f"{given[key]} and {line}: give {key} once.")
        given[key] = line
    if not known.config_dir:
        return [CONF]
    own = Path(known.config_dir)
    for path in sorted(own.rglob("*.yaml")):
        if (CONF / path.relative_to(own)).exists():
            _refuse(f"{path}: creditlab has an option of this name, which would be taken; give yours another name.")
    return [CONF, own]


def main() -> None:
    """Entry point of the `creditlab` command."""
    sys.path.insert(0, os.getcwd())  # a user's own rules and metrics
    if not OmegaConf.has_resolver("sweep_name"):
        OmegaConf.register_new_resolver("sweep_name", sweep_name)
    hydra._internal.hydra.ConfigLoaderImpl = Loader  # type: ignore[misc]
    whole = "HYDRA_FULL_ERROR" in os.environ  # the user wants tracebacks
    os.environ["HYDRA_FULL_ERROR"] = "1"  # have Hydra raise, so that we can say what is allowed
    folders = [CONF]
    try:
        folders = _read_command_line()
        _single()
    except (ConfigError, records.RecordError, Held) as error:
        _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        if whole:
            raise
        _refuse(explain(error, folders))
    except SweepFailed as error:
        print(f"creditlab: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:  # Hydra makes the folder of a single run
        if whole or error.filename is None:
            raise
        _refuse(f"cannot write to {Path(error.filename).absolute()}: {error.strerror}. Give another folder.")
    except KeyboardInterrupt:  # asked to stop: what was under way has its checkpoint
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
