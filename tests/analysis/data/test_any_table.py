"""A table from elsewhere: what is read from it, what is recognised, and what is said of a bad one."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import anova, fit, load, posthoc
from creditlab.analysis.data import table_file
from creditlab.analysis.data.any_table import STATUS_OF
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import AnalysisError

FACTORS = ["algorithm", "optimiser"]


def results(seeds: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = product(("bp", "fa", "es"), ("sgd", "adamw"), range(seeds))
    frame = pd.DataFrame(rows, columns=[*FACTORS, "seed"])
    accuracy = 0.9 - 0.1 * (frame["algorithm"] == "es") + 0.02 * rng.normal(size=len(frame))
    return frame.assign(accuracy=accuracy, rank=rng.normal(size=len(frame)), note="a note")


def written(tmp_path, frame: pd.DataFrame, name: str = "results.csv"):
    path = tmp_path / name
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix in (".jsonl", ".ndjson"):
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def tables(sweep: Sweep) -> list[pd.DataFrame]:
    fits = fit(sweep)
    return [anova(fits).frame, posthoc(fits).frame]


@pytest.mark.parametrize("name", ["r.csv", "r.tsv", "r.parquet", "r.jsonl", "r.ndjson"])
def test_every_format_gives_the_tables_of_the_frame(tmp_path, name):
    frame = results()
    sweep = load(written(tmp_path, frame, name), factors=FACTORS)
    assert (sweep.factors, sweep.outcomes) == (FACTORS, ["accuracy", "rank"])
    for ours, of_frame in zip(tables(sweep), tables(Sweep.of(frame, FACTORS, ["accuracy", "rank"])), strict=True):
        pd.testing.assert_frame_equal(ours, of_frame, rtol=1e-9)


def test_a_frame_may_call_its_seed_what_it_likes():
    frame = results()
    renamed = Sweep.of(frame.rename(columns={"seed": "replicate"}), FACTORS, ["accuracy"], seed="replicate")
    for a, b in zip(tables(renamed), tables(Sweep.of(frame, FACTORS, ["accuracy"])), strict=True):
        pd.testing.assert_frame_equal(a, b)
    with pytest.raises(AnalysisError, match=r"no column 'sed'\. Did you mean seed\?"):
        Sweep.of(frame, FACTORS, ["accuracy"], seed="sed")
    with pytest.raises(AnalysisError, match="'seed' is the name of the seed in every table"):
        Sweep.of(frame, [*FACTORS, "seed"], ["accuracy"], seed="note")


def test_the_runs_of_a_report_give_the_analysis_of_their_sweep(small_sweep, tmp_path):
    sweep = load(small_sweep)
    path = written(tmp_path, sweep.runs, "runs.csv")
    again = load(path, factors=sweep.factors)
    assert list(again.runs["run"]) == list(sweep.runs["run"])
    assert (again.factors, again.outcomes) == (sweep.factors, sweep.outcomes)
    assert again.outcomes
    for ours, theirs in zip(tables(again), tables(sweep), strict=True):
        of_all_tests = ["p_adjusted", "found", "level", "ci_low", "ci_high"]  # a table has fewer questions
        apart = [column for column in of_all_tests if column in ours]
        pd.testing.assert_frame_equal(ours.drop(columns=apart), theirs.drop(columns=apart), rtol=1e-9)


def test_an_export_of_weights_and_biases(tmp_path):
    frame = results().drop(columns="note")
    export = pd.DataFrame(
        {"Name": ["misty"] * len(frame), "State": "finished", "Notes": "", "Runtime": range(len(frame))}
    )
    export = export.join(frame).assign(_runtime=np.arange(len(frame)), _step=np.arange(len(frame)))
    export.loc[1, "State"], export.loc[2, "State"] = "crashed", "running"
    export.loc[[1, 2], ["accuracy", "rank"]] = np.nan
    export["accuracy"] = export["accuracy"].astype(object)
    export.loc[3, "accuracy"] = "NaN"
    path = written(tmp_path, export)
    path.write_text(path.read_text().replace("misty,finished,,3,bp,sgd,3,,", "misty,finished,,3,bp,sgd,3,NaN,"))
    sweep = load(path, factors=FACTORS)
    assert dict(sweep.counts) == {"complete": 21, "diverged": 1, "failed": 1, "unfinished": 1}
    assert sweep.outcomes == ["accuracy", "rank"]  # neither _runtime nor Runtime
    assert list(sweep.runs["run"][:2]) == ["misty (row 2)", "misty (row 3)"]
    assert len(sweep.usable) == 22
    assert len(sweep.complete) == 21


def test_an_export_of_mlflow(tmp_path):
    frame = results()
    export = pd.DataFrame(
        {"run_id": [f"{i:032x}" for i in range(len(frame))], "experiment_id": 1, "status": "FINISHED", "end_time": "x"}
    )
    export = export.assign(**{f"params.{name}": frame[name] for name in (*FACTORS, "seed")})
    export = export.assign(**{"metrics.test_accuracy": frame["accuracy"], "metrics.rank": frame["rank"]})
    export = export.assign(**{"params.rank": 3, "tags.user": "me"})
    export.loc[0, "status"] = "FAILED"
    path = written(tmp_path, export)
    sweep = load(path, factors=["params.algorithm", "optimiser"], seed="params.seed", metrics=["test_*"])
    assert (sweep.factors, sweep.outcomes) == (FACTORS, ["test_accuracy"])
    assert dict(sweep.counts) == {"failed": 1, "complete": len(frame) - 1}
    assert load(path, factors=FACTORS).outcomes == ["test_accuracy", "metrics.rank"]  # params.rank has its own name


def test_a_metric_that_is_not_finite_is_a_run_that_diverged_and_an_empty_cell_is_not(tmp_path):
    frame = results()
    frame.loc[0, "accuracy"] = np.inf
    frame.loc[5, "rank"] = np.nan  # an empty field
    sweep = load(written(tmp_path, frame), factors=FACTORS)
    assert list(sweep.runs["status"][:6]) == ["diverged", *["complete"] * 5]
    assert load(written(tmp_path, frame), factors=FACTORS, metrics=["rank"]).counts == {"complete": 24}


def test_a_status_column_of_any_name(tmp_path):
    frame = results().assign(how=["Done", "killed", "diverged", *["ok"] * 21])
    sweep = load(written(tmp_path, frame), factors=FACTORS, status="how")
    assert dict(sweep.counts) == {"complete": 22, "failed": 1, "diverged": 1}
    assert len(sweep.complete) == 22
    assert {"finished", "crashed", "diverged"} <= STATUS_OF.keys()


def test_rows_can_be_chosen_by_any_column(tmp_path):
    frame = pd.concat([results().assign(dataset=name) for name in ("mnist", "cifar")])
    sweep = load(written(tmp_path, frame), factors=FACTORS, where={"dataset": ["mnist"]})
    assert len(sweep.runs) == 24


def test_a_factor_that_another_one_determines_is_said_and_left_out(tmp_path):
    frame = results()
    frame["lr"] = frame["algorithm"].map({"bp": 0.1, "fa": 0.2, "es": 0.3})
    sweep = load(written(tmp_path, frame), factors=[*FACTORS, "lr"])
    assert (sweep.factors, sweep.aliased) == (FACTORS, {"lr": "algorithm"})


def test_a_key_that_one_option_has_is_nested_in_it(tmp_path):
    frame = results()[lambda rows: rows["algorithm"] != "fa"].assign(sigma=np.nan)
    of_es = frame[frame["algorithm"] == "es"]
    frame = pd.concat([frame[frame["algorithm"] == "bp"], of_es.assign(sigma=0.1), of_es.assign(sigma=0.2)])
    sweep = load(written(tmp_path, frame), factors=[*FACTORS, "sigma"])
    assert (sweep.factors, sweep.nested) == (FACTORS, {"sigma": "algorithm"})


def test_numbers_are_levels_in_their_order_and_metrics_that_do_not_vary_are_said(tmp_path):
    frame = results().assign(constant=3, absent=np.nan)
    frame["width"] = np.where(frame["optimiser"] == "sgd", 8, 16)
    sweep = load(written(tmp_path, frame), factors=["algorithm", "width"], metrics=["acc*", "constant"])
    assert sweep.runs["width"].dtype == np.int64
    assert sweep.problems == ["left out, constant: constant"]
    assert sweep.outcome == "accuracy"
    assert sweep.name == "results.csv"


# Bad input ------------------------------------------------------------------------------------------------------------


def message(path, **keys) -> str:
    with pytest.raises(AnalysisError) as refused:
        load(path, **{"factors": FACTORS, **keys})
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_files_that_are_no_tables(tmp_path, monkeypatch):
    path = written(tmp_path, results())
    assert message(tmp_path / "result.csv").endswith("there is no such file. Did you mean results.csv?")
    for name, content, reason in (
        ("a.csv", b" \n", "the file is empty"),
        ("b.csv", b"a,b\n1,2,3\n", "cannot be read as a table (Error tokenizing data"),
        ("c.csv", b"\xff\xfe\x00", "cannot be read as a table (not UTF-8 text, from byte 0 on)"),
        ("d.csv", b"a;b\n1;2\n", "or their separator is not that of the file's type"),
        ("e.csv", b"a,a\n1,2\n", "two columns are named 'a'"),
        ("f.csv", b"a,b\n", "holds 0 rows of 2 columns"),
        ("g.parquet", b"PAR1 is not enough", "cannot be read as a table"),
        ("h.jsonl", b"[1, 2]\n", "a line is not an object"),
        ("i.jsonl", b'{"a": 1\n', "cannot be read as a table"),
        ("j.jsonl", b"[" * 100_000, "cannot be read as a table"),
        ("k.xlsx", b"PK", "a table is a file that ends in .csv, .tsv, .parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        assert reason in message(tmp_path / name)
    monkeypatch.setattr(table_file, "BYTES", 100)
    assert "and at most 100 are read" in message(path)
    monkeypatch.undo()
    monkeypatch.setattr(table_file, "CELLS", 100)
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        assert "at most 100 cells are read" in message(written(tmp_path, results(), name))
    (tmp_path / "link.csv").symlink_to(path)
    monkeypatch.undo()
    assert len(load(tmp_path / "link.csv", factors=FACTORS).runs) == 24  # the user's own link


def test_one_table_alone(tmp_path):
    path = written(tmp_path, results())
    for other in (tmp_path, path):
        with pytest.raises(AnalysisError, match=r"is a file among several paths\. Give one table alone, or folders"):
            load(other, path, factors=FACTORS)
    with pytest.raises(AnalysisError, match="name the columns of a table; a sweep's folder tells its own"):
        load(tmp_path, factors=FACTORS)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"factors": ["algoritm"]}, "there is no column 'algoritm'. Did you mean algorithm? There are: algorithm, opt"),
        ({"factors": []}, "a table needs the names of its factors: --factors COLUMN …. The columns are algorithm, "),
        ({"factors": ["algorithm", "algorithm"]}, "the column 'algorithm' is given twice"),
        ({"factors": ["algorithm", "seed"]}, "the column 'seed' is given twice"),
        ({"seed": "sead"}, "there is no column 'sead'. Did you mean seed?"),
        ({"status": "state"}, "there is no column 'state'."),
        ({"status": "note"}, "note=a note (row 2) is no status. There are: complete, "),
        ({"metrics": ["acuracy"]}, "no metric matches acuracy. Did you mean accuracy? There are: accuracy, rank."),
        ({"metrics": ["note"]}, "no metric matches note. There are: accuracy, rank."),
        ({"factors": [*FACTORS, "note"]}, "the factor 'note' has one level, a note: leave it out of --factors."),
        ({"factors": [*FACTORS, "rank"]}, "'rank' has a number of its own in each row, so it is probably a metric"),
        ({"factors": [*FACTORS, "name"]}, "the factor 'name' has a name of its own in each row: leave it out"),
        ({"factors": ["algorithm"]}, "rows 2 and 6 are both of algorithm=bp, seed=0 (24 rows have a double): add "
         "optimiser to --factors, or drop one of them."),
        ({"where": {"dataset": ["x"]}}, "there is no column 'dataset'."),
        ({"where": {"algorithm": ["bq"]}}, "no run has algorithm=bq."),
        ({"where": {"seed": ["0"]}}, "the column 'seed' has one seed, 0, and at least two are needed"),
    ],
)  # fmt: skip
def test_what_is_said_of_columns(tmp_path, keys, reason):
    frame = results()
    assert reason in message(written(tmp_path, frame.assign(name=[f"r{i}" for i in range(len(frame))])), **keys)


def test_what_is_said_of_rows(tmp_path):
    frame = results()
    assert "no column of numbers is left to be a metric" in message(
        written(tmp_path, frame[[*FACTORS, "seed", "note"]])
    )
    constant = frame[[*FACTORS, "seed"]].assign(loss=1.0)
    assert message(written(tmp_path, constant)) == "no metric varies: left out, constant: loss."
    assert "no column is named 'seed'" in message(written(tmp_path, frame.rename(columns={"seed": "s"})))
    double = pd.concat([frame, frame.iloc[[3]]])
    assert "rows 5 and 26 are both of algorithm=bp, optimiser=sgd, seed=3: add the factor" in message(
        written(tmp_path, double)
    )
    failed = frame.assign(status="failed", run=range(24))
    assert message(written(tmp_path, failed)) == "none of the 24 rows is of a finished run: nothing to analyse."
    lacking = frame.astype({"seed": object})
    lacking.loc[4, "seed"] = None
    assert "the seed 'seed' is missing in row 6." in message(written(tmp_path, lacking))


def test_names_with_control_characters_are_made_visible(tmp_path):
    frame = results().rename(columns={"rank": "ra\x1b[31mnk"}).replace({"algorithm": {"bp": "b\x07p"}})
    sweep = load(written(tmp_path, frame), factors=FACTORS)
    assert sweep.outcomes == ["accuracy", "ra\\x1b[31mnk"]
    assert sweep.runs["algorithm"][0] == "b\\x07p"


def test_deeply_nested_and_huge_numbers_of_json_lines(tmp_path):
    rows = [json.dumps({**row, "deep": [1, {"a": 2}], "huge": 10**400}) for row in results().to_dict("records")]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(rows))
    assert len(load(path, factors=FACTORS, metrics=["accuracy"]).complete) == 24
