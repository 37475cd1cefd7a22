"""On which machine a process runs, and with which versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from creditlab import lock

PACKAGES = ("creditlab", "torch", "torchvision", "numpy", "hydra-core", "scikit-learn")


@cache
def provenance() -> dict[str, Any]:
    """Host, process, SLURM job, versions and commit. They are looked up once per process."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"host": platform.node(), "pid": os.getpid(), "job_id": lock.job()[0], "versions": versions, "git": _git()}


def _git() -> dict[str, Any] | None:
    """The commit of the source, and whether files were changed since; None outside a checkout."""
    source = Path(__file__).parent
    if (source / "git.json").exists():  # a snapshot holds the commit that it was taken from
        return json.loads((source / "git.json").read_text())
    command = ["git", "-C", str(source), "status", "--porcelain=v2", "--branch", "--", str(source)]
    try:
        status = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = status.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "changed": any(not line.startswith("#") for line in lines)}
