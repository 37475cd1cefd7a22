"""`creditlab-prune multirun/<sweep>`: removes the weights of finished runs, which stay finished and are still analysed.

A run is left alone if it is not finished, if a process is working on it, or if its summary does not name the weights
with their size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from creditlab import records
from creditlab.files import printable
from creditlab.lock import Held, hold


def prune(folder: Path, dry_run: bool) -> int | None:
    """Remove the weights of the run in `folder`. Returns their bytes, None if there are none to remove. `dry_run`:
    remove nothing. Raises Held if a process is working on the run.
    """
    if dry_run or _weights(folder) is None:
        return _weights(folder)
    with hold(folder) as lock:
        size = _weights(folder)  # read again, now that no other process writes
        if size is not None:
            lock.check()
            (folder / records.WEIGHTS).unlink()
        return size


def _weights(folder: Path) -> int | None:
    """The size of the weights that may be removed from the run in `folder`."""
    run = records.read_run(folder)
    return run.summary.get("files", {}).get(records.WEIGHTS) if run.finished and not run.weights_removed else None


def _folders(folder: Path) -> Iterator[Path]:
    """The runs in `folder`, the folder of a run or of a sweep. Raises RecordError if there are none."""
    if folder.is_dir() and records.read_run(folder).record:
        yield folder
        return
    yield from (run.folder for run in records.read_sweep(folder))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-prune", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="the folders of sweeps or of runs")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    chosen = parser.parse_args(arguments)
    sizes, held = [], []
    try:
        for folder in [run for place in chosen.folders for run in _folders(place)]:
            try:
                size = prune(folder, chosen.dry_run)
            except (Held, OSError) as error:
                held.append(f"{folder.name}: {error}")
                continue
            sizes += [] if size is None else [size]
    except records.RecordError as error:
        print(f"creditlab-prune: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    done = "would remove" if chosen.dry_run else "removed"
    print(f"{done} the weights of {len(sizes)} {'run' if len(sizes) == 1 else 'runs'}, {sum(sizes) / 2**20:.1f} MiB")
    for line in held:
        print(f"creditlab-prune: left alone, {printable(line)}", file=sys.stderr)
    raise SystemExit(1 if held else 0)


if __name__ == "__main__":
    main()
