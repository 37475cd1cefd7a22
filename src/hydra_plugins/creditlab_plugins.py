"""Hydra takes plugins from this namespace package only; creditlab's own live in `creditlab.sweep`."""

from creditlab.sweep import grid, pool, slurm


class GridSweeper(grid.GridSweeper):
    pass


class PoolLauncher(pool.PoolLauncher):
    pass


class SlurmLauncher(slurm.SlurmLauncher):
    pass
