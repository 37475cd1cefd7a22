"""What a run leaves behind, written and read.

    multirun/<sweep>/<label>-<identity>/   run.json  history.jsonl  arrays.npz  weights.safetensors  summary.json ...

Every file except the history is written under another name, synced and then moved to its own. So a reader never sees
half a file. `summary.json` comes last. A run is *finished* if the summary parses, if its digests match, and if the
files that it names have the sizes that it names. Its weights may be removed: it stays finished. Nothing is ever
unpickled except the tensors of a checkpoint (`weights_only`). Only the holder of the folder's lock (`creditlab.lock`)
writes.
"""

from creditlab.files import finite, sync_folder, to_json, write_arrays, write_json, write_whole
from creditlab.records.claims import Claims, read_claims
from creditlab.records.identity import EXCLUDED, flatten, folder_name, identifies, identifying, identity
from creditlab.records.reading import (
    ARRAYS,
    FINISHED,
    KEPT,
    SCHEMA,
    WEIGHTS,
    NewerSchema,
    RecordError,
    Run,
    Status,
    digest,
    read_history,
    read_last_line,
    read_run,
    without_garbage_collection,
)
from creditlab.records.sweeps import SpoiltPlan, read_plan, read_sweep, run_folders
from creditlab.records.writing import History, begin, cause_of, fail, find_run, finish, forget, make_folder, open_run

CONFUSED = 1000  # no confusion matrix for more classes: with 50,257 tokens it would hold 2.5 billion counts

__all__ = [
    "ARRAYS",
    "CONFUSED",
    "EXCLUDED",
    "FINISHED",
    "KEPT",
    "SCHEMA",
    "WEIGHTS",
    "Claims",
    "History",
    "NewerSchema",
    "RecordError",
    "Run",
    "SpoiltPlan",
    "Status",
    "begin",
    "cause_of",
    "digest",
    "fail",
    "find_run",
    "finish",
    "finite",
    "flatten",
    "folder_name",
    "forget",
    "identifies",
    "identifying",
    "identity",
    "make_folder",
    "open_run",
    "read_claims",
    "read_history",
    "read_last_line",
    "read_plan",
    "read_run",
    "read_sweep",
    "run_folders",
    "sync_folder",
    "to_json",
    "without_garbage_collection",
    "write_arrays",
    "write_json",
    "write_whole",
]
