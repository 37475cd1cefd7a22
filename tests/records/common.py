"""What tests of records share: a config, and a finished run."""

import json
import os

import numpy as np

from creditlab import records

CONFIG = {
    "choices": {"algorithm": "bp", "optimiser": "adamw", "dataset": "digits", "architecture": "mlp", "metrics": "none"},
    "algorithm": {"_target_": "a.B"},
    "optimiser": {"_target_": "c.D", "lr": 0.1, "betas": [0.9, 0.99]},
    "dataset": {"_target_": "e.F", "root": "data", "download": False},
    "architecture": {"_target_": "g.h", "widths": [8, 8]},
    "metrics": {"points": 0, "instruments": {}},
    "training": {"steps": 10, "checkpoint_seconds": 60.0},
    "seed": 0,
    "device": "auto",
    "threads": 1,
    "precision": "float32",
    "sweep": None,
}


def changed(**keys):
    """CONFIG with `group__key=value`."""
    config = json.loads(json.dumps(CONFIG))
    for path, value in keys.items():
        node = config
        *parents, last = path.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def finished(folder, metrics=None, config=CONFIG, status="complete"):
    records.open_run(folder, config)
    records.begin(folder, config, {"config.yaml": "a: 1\n"})
    history = records.History(folder / "history.jsonl")
    history.append(0, 0.0, {"test/accuracy": 0.1})
    history.append(10, 1.0, {"test/accuracy": 0.9})
    history.close()
    records.write_arrays(folder / "arrays.npz", {"test/loss": np.arange(3.0)})
    (folder / "weights.safetensors").write_bytes(b"weights")
    records.finish(folder, config, status, 10, metrics or {"test/accuracy": 0.9}, {"seconds": 1.0})
    return records.read_run(folder)


def unsealed(path):
    """The content without its digest, as an earlier creditlab wrote it and as a stranger can write it."""
    content = json.loads(path.read_text())
    del content["sha256"]
    return content


def pipe_instead(path):
    path.unlink()
    os.mkfifo(path)


def unreadable(path, monkeypatch):
    """As chmod 000 makes it for every user but root."""
    real = os.open

    def opened(name, *arguments, **keys):
        if str(name).startswith(str(path)):
            raise PermissionError(13, "Permission denied", str(name))
        return real(name, *arguments, **keys)

    monkeypatch.setattr(os, "open", opened)
