"""What tests share: the options of every config group, and a run of a fraction of a second."""

from creditlab.__main__ import CONF

SMALL = [
    "training.steps=6",
    "training.batch_size=32",
    "training.evaluations=2",
    "training.checkpoint_seconds=null",
    "metrics.samples=64",
    "metrics.points=2",
    "metrics.trajectory.length=3",
    "device=cpu",
]


def options(group: str) -> list[str]:
    """The names of the options of a config group: a new YAML is picked up by every suite over its group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
