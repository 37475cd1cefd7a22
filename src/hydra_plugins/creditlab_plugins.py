"""creditlab's sweeper and launchers, for Hydra: it takes plugins from this namespace package only.

The classes themselves are in `creditlab.sweep`.
"""

from creditlab.sweep.pool import PoolLauncher as Pool
from creditlab.sweep.slurm.launcher import SlurmLauncher as Slurm
from creditlab.sweep.sweeper import GridSweeper as Grid


class GridSweeper(Grid):
    pass


class PoolLauncher(Pool):
    pass


class SlurmLauncher(Slurm):
    pass


del Grid, Pool, Slurm  # else `creditlab --info plugins` lists them, too
