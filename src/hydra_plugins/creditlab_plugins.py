"""Hydra takes plugins from this namespace package only; creditlab's own live in `creditlab.sweep`."""

from creditlab.sweep.grid import GridSweeper as Grid
from creditlab.sweep.pool import PoolLauncher as Pool
from creditlab.sweep.slurm import SlurmLauncher as Slurm


class GridSweeper(Grid):
    pass


class PoolLauncher(Pool):
    pass


class SlurmLauncher(Slurm):
    pass
