"""Sweeps on disk, made by the writers of the record format, for the analysis to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from creditlab import records

OWN_KEYS = {"es": {"sigma": 0.1}, "ff": {"threshold": 2.0}, "sgd": {"momentum": 0.9}}


@dataclass
class Folder:
    """A sweep's folder that runs can be put into."""

    path: Path

    def add(
        self,
        metrics: Mapping[str, Any] | None = None,
        loss: np.ndarray | None = None,
        label: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        status: str = "complete",
        keys: Mapping[str, Any] | None = None,
        seed: int = 0,
        history: Mapping[str, float] | None = None,
        **options: str,
    ) -> Path:
        """One run. `keys` are flat settings beside the options', `history` is the one point of its history; a status
        that is not of a finished run leaves no summary."""
        choices = {"algorithm": "bp", "optimiser": "sgd", "dataset": "digits", "architecture": "mlp"} | options
        config: dict[str, Any] = {"choices": {**choices, "metrics": "light"}, "seed": seed, "device": "cpu"}
        config |= {group: {"_target_": f"x.{name}", **OWN_KEYS.get(name, {})} for group, name in choices.items()}
        config |= {"training": {"steps": 10, "keep_weights": True}, "metrics": {"points": 3}}
        for key, value in (keys or {}).items():
            group, _, name = key.partition(".")
            config[group][name] = value
        folder = self.path / records.folder_name(config)
        folder.mkdir(parents=True)
        head = {"schema": records.SCHEMA, "identity": records.identity(config)}
        records.write_json(folder / "run.json", {**head, "config": config})
        written = records.History(folder / "history.jsonl")
        written.append(10, 1.0, history or {"train/loss": 0.5})
        written.close()
        if loss is not None:
            test = {"test/loss": loss, "test/label": np.arange(len(loss)) % 10 if label is None else label}
            test |= {} if predicted is None else {"test/predicted": predicted}
            records.write_arrays(folder / "arrays.npz", test)
        if status == "failed":
            (folder / "error.txt").write_text("RuntimeError: the device is on fire\nTraceback ...\n")
        if status in records.FINISHED:
            digest = records.digest(folder / "history.jsonl")
            tail = {"status": status, "steps": 10, "seconds": 1.0, "metrics": metrics or {}, "history_sha256": digest}
            records.write_json(folder / "summary.json", {**head, **tail})
        return folder

    def cross(self, outcome: Callable[..., Mapping[str, Any]], seeds: int, **levels: list) -> Folder:
        """A run for each combination of `levels` and seed; `outcome(seed=…, algorithm=…, …)` gives what `add` takes."""
        for *combination, seed in product(*levels.values(), range(seeds)):
            options = dict(zip(levels, combination, strict=True))
            self.add(**outcome(seed=seed, **options), seed=seed, **options)
        return self


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "sweep"
    path.mkdir()
    return Folder(path)


@pytest.fixture
def small_sweep(folder: Folder) -> Path:
    """The folder of a sweep of 3 algorithms, 3 widths and 3 seeds, of which all tables have rows that can."""
    rng = np.random.default_rng(0)
    for algorithm, width, seed in product(("bp", "fa", "es"), (1, 2, 4), range(3)):
        metrics = {"test/accuracy": rng.random(), "weights/a/rank": float(rng.exponential() ** 4)}
        metrics["weights/b/rank"] = metrics["test/accuracy"] + metrics["weights/a/rank"]
        keys, history = {"architecture.width": width}, {"train/loss": rng.random()}
        run = folder.add(metrics, algorithm=algorithm, keys=keys, seed=seed, history=history)
        arrays = {"test/loss": rng.random(30), "test/label": np.arange(30) % 6}
        arrays |= {"test/predicted": rng.integers(6, size=30), "representation/a": rng.normal(size=(6, 4))}
        records.write_arrays(run / "arrays.npz", arrays)
    return folder.path
