"""A copy of the code that runs will use, so that edits change nothing for runs that wait in a queue.

The copy holds creditlab, and each module or package of the user's own that was imported to build the runs, with the
modules beside it. Installed modules (in `site-packages`) are not copied.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import creditlab
from creditlab.provenance import provenance
from creditlab.sources import is_installed

IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "multirun")


def take(target: Path) -> None:
    """Copy the code to the folder `target`, for PYTHONPATH."""
    target.mkdir(parents=True)
    package = Path(creditlab.__file__).parent
    shutil.copytree(package, target / "creditlab", ignore=IGNORED)
    (target / "creditlab" / "git.json").write_text(json.dumps(provenance()["git"]))
    for path in _user_modules():
        copy = target / path.name
        if copy.exists():
            continue
        if path.is_dir():
            shutil.copytree(path, copy, ignore=IGNORED)
        else:
            for module in path.parent.glob("*.py"):
                shutil.copy2(module, target / module.name)


def _user_modules() -> set[Path]:
    """The files or folders of the imported top-level modules that are not installed, not Python's, not creditlab's."""
    package = Path(creditlab.__file__).resolve().parent
    paths = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name == "__main__" or file is None:
            continue
        path = Path(file).resolve()
        if is_installed(path) or path.is_relative_to(package.parent) or not file.endswith(".py"):
            continue
        paths.add(path.parent if path.name == "__init__.py" else path)
    return paths
