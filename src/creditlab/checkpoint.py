"""The state of a run, and the checkpoint from which it resumes.

A checkpoint holds the `KEPT` fields of the `TrainState` and the state of the network, the rule, the optimiser and the
metrics. It holds no generator: all that is random is a function of the seed and the step.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from pickle import PickleError

import numpy as np
import torch
from torch import Tensor

from creditlab import records
from creditlab.files import HISTORY, open_regular, read_bytes
from creditlab.parts import Parts

KEPT = (  # fields that are saved
    "step",
    "loss_sum",
    "loss_count",
    "seconds",
    "history_size",
    "history_sha256",
    "tracked",
    "first",
)
DAMAGED = (  # what loading a damaged checkpoint may raise
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    PickleError,
)


@dataclass
class TrainState:
    """All that changes while a run trains, except for the state of its parts. Checkpoints hold the `KEPT` fields."""

    step: int = 0  # steps that are done
    loss_sum: float = 0.0  # sum of the training losses since the last evaluation
    loss_count: int = 0  # their number
    seconds: float = 0.0  # computing time of the run until the last checkpoint
    history_size: int = 0  # bytes of history.jsonl that belong to the checkpoint
    history_sha256: str = ""  # their digest; empty in a checkpoint of an earlier creditlab
    tracked: str = ""  # names the tracker's copy of the run, which a resumed run continues
    first: dict[str, float] = field(default_factory=dict)  # metrics at initialisation

    status: str = "running"  # then "complete" or "diverged"
    metrics: dict[str, float] = field(default_factory=dict)  # of the last recorded point
    by_sample: dict[str, np.ndarray] = field(default_factory=dict)  # of the test samples, at the last recorded point
    weights_before: list[Tensor] = field(default_factory=list)  # before the update, if noise is added to updates
    began: float = field(default_factory=time.perf_counter)  # when it would have begun, had it run without a pause
    saved: float = field(default_factory=time.perf_counter)  # when the last checkpoint was written


def save(path: Path, parts: Parts, state: TrainState) -> None:
    """Write the checkpoint `path`. The former one stays whole until the new one is complete."""
    content = {
        "moment": {name: getattr(state, name) for name in KEPT},
        "instruments": parts.instruments.state(),
        # Copies: runs that train together share storage, and without copies each file would hold all of it.
        "network": {name: tensor.clone() for name, tensor in parts.network.state_dict().items()},
        "algorithm": parts.algorithm.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
    }
    records.write_whole(path, lambda file: torch.save(content, file))


def restore(path: Path, parts: Parts, state: TrainState) -> None:
    """Load the checkpoint `path` into `parts` and `state`. Raises one of `DAMAGED` if that is not possible; `state` is
    then unchanged, but `parts` may be changed in part.
    """
    with open_regular(path) as file:
        content = torch.load(file, map_location=parts.device, weights_only=True)
    moment = {"history_sha256": ""} | content["moment"]
    kept = {name: moment[name] for name in KEPT}
    _check_history(path.with_name("history.jsonl"), kept["history_size"], kept["history_sha256"])
    parts.network.load_state_dict(content["network"])
    parts.algorithm.load_state_dict(content["algorithm"])
    parts.optimiser.load_state_dict(content["optimiser"])
    parts.instruments.restore(content["instruments"])
    for name, value in kept.items():
        setattr(state, name, value)


def _check_history(path: Path, size: int, sha256: str) -> None:
    """Raise ValueError or OSError unless the history at `path` begins with the lines that belong to the checkpoint."""
    content = read_bytes(path, HISTORY)[:size]
    if len(content) < size:
        raise ValueError("history.jsonl is shorter than when the checkpoint was written")
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("history.jsonl was changed after the checkpoint was written")
    records.read_history(path, size)
