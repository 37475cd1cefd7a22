"""Fixtures of all tests: configs as a user would compose them, the folder of the real data."""

import os
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import settings
from omegaconf import OmegaConf

from creditlab.__main__ import CONF
from creditlab.sweep.plan import Planned, planned, sweep_name

torch.set_num_threads(1)
settings.register_profile("creditlab", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("creditlab")


@pytest.fixture
def plan(tmp_path):
    """The run that a command line stands for, checked, in a folder of its own."""

    def make(*overrides: str, folder: Path = tmp_path / "sweep") -> Planned:
        if not OmegaConf.has_resolver("sweep_name"):
            OmegaConf.register_new_resolver("sweep_name", sweep_name)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return planned(compose("config", list(overrides), return_hydra_config=True), folder)

    return make


@pytest.fixture(scope="session")
def data_root() -> str:
    """The folder of the real image data sets."""
    root = os.environ.get("CREDITLAB_DATA")
    if not root:
        pytest.skip("CREDITLAB_DATA does not name a folder with the real data sets")
    return root
