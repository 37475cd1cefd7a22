"""What trackers have mirrored, read back by their own libraries: {step: metrics}, what the run came to, the config."""

import json
import struct
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Mirror:
    history: dict[int, dict[str, float]]  # fails where a step was recorded twice
    summary: dict[str, float]
    outcome: str
    config: dict[str, str]


def once(points):
    """{step: {name: value}} of (step, name, value), each of which may be there once."""
    by_step: dict[int, dict[str, float]] = {}
    for step, name, value in points:
        assert name not in by_step.setdefault(step, {}), f"{name} twice at step {step}"
        by_step[step][name] = value
    return by_step


def tensorboard(folder: Path) -> Mirror:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    points = [(e.step, name, e.value) for name in events.Tags()["scalars"] for e in events.Scalars(name)]
    text = {
        name.removesuffix("/text_summary"): events.Tensors(name)[-1].tensor_proto.string_val[0].decode()
        for name in events.Tags()["tensors"]
    }
    plugin = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    config = {k: v.string_value or v.number_value for k, v in plugin.session_start_info.hparams.items()}
    return Mirror(once(points), json.loads(text.get("summary", "{}")), text["outcome"], config)


def mlflow(folder: Path, uri: str, name: str) -> Mirror:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    (run,) = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{folder.name}'")
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    names = {"epoch"}.union(*(line["metrics"] for line in lines)) & run.data.metrics.keys()
    points = ((m.step, k, m.value) for k in names for m in client.get_metric_history(run.info.run_id, k))
    return Mirror(once(points), run.data.metrics, run.data.tags["creditlab.outcome"], run.data.params)


def wandb(folder: Path) -> Mirror:
    """From the offline files; of a run that went on there is one for each part. A step must be later than those that a
    part before had: wandb's server drops others.
    """

    def content(items):
        return {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}

    points, summary, config, ids, last = [], {}, {}, set(), -1
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in written(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
                config |= content(record.run.config.update)
            if kind == "history":
                values = content(record.history.item)
                step = record.history.step.num
                points += [(step, k, v) for k, v in values.items() if not k.startswith("_") and step > last]
            if kind == "summary":
                summary |= content(record.summary.update)
        last = max(step for step, _, _ in points)
    assert len(ids) == 1
    return Mirror(once(points), summary, summary.pop("outcome"), config)


def written(path: Path):
    """The messages in an offline file, once its last one is there: wandb's own process writes it."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline = time.monotonic() + 30
    while True:
        records = [Record.FromString(data) for data in frames(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < deadline, f"{path} was not ended"
        time.sleep(0.05)


def frames(log: bytes):
    """The records of a LevelDB log (after wandb's header of 7 bytes): blocks of 32 KiB, of frames with a checksum, a
    length and a type (whole, first, middle, last).
    """
    at, part = 7, b""
    while at + 7 <= len(log):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", log[at : at + 7])
        part += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield part
            part = b""
