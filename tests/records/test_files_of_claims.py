"""Files of claims: what is read, and what is said of a bad one."""

import pytest
import yaml

from creditlab.records import RecordError, read_claims
from creditlab.records.claims import cells, parse_claims, range_of, same_level, unknown_level

WHOLE = {"claim": "more", "metric": "test/accuracy", "difference": {"algorithm": ["fa", "bp"]}, "holds": {"above": 0}}
EQUIVALENCE = {key: value for key, value in WHOLE.items() if key not in ("difference", "holds")}
EQUIVALENCE |= {"equivalence": {"algorithm": ["fa", "bp"]}, "margin": 0.02}


def with_kind(**keys):
    return {key: value for key, value in WHOLE.items() if key != "difference"} | keys


def test_the_cells_and_the_range_of_each_kind():
    assert cells(WHOLE | {"where": {"optimiser": "sgd"}}) == [
        (1, {"optimiser": "sgd", "algorithm": "fa"}),
        (-1, {"optimiser": "sgd", "algorithm": "bp"}),
    ]
    assert range_of(WHOLE) == {"above": 0}
    assert range_of(EQUIVALENCE) == {"above": -0.02, "below": 0.02}
    assert cells(with_kind(cell={"algorithm": "fa"}, where={"optimiser": "sgd"})) == [
        (1, {"optimiser": "sgd", "algorithm": "fa"})
    ]
    assert cells(with_kind(slope={"over": "x", "where": {"a": 1}}, where={"b": 2})) == [(1, {"b": 2, "a": 1})]
    assert cells(with_kind(contrast=[[1, {"a": 1}], [-2, {"a": 2}]])) == [(1, {"a": 1}), (-2, {"a": 2})]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (WHOLE | {"metrc": 1}, "has an unknown key 'metrc'. Did you mean metric? There are: claim, metric, where"),
        (with_kind(diference={}), "has an unknown key 'diference'. Did you mean difference?"),
        (with_kind(), "must have one of cell, difference, ratio, equivalence, slope, contrast, table."),
        (WHOLE | {"cell": {"a": 1}}, "table, and has cell and difference."),
        ({"claim": "x", "difference": {"a": [1, 2]}, "holds": {"above": 1}}, "has no 'metric'"),
        (EQUIVALENCE | {"margin": -0.02}, "margin=-0.02: must be a number more than 0."),
        (EQUIVALENCE | {"margin": "2 %"}, "margin=2 %: must be a number more than 0."),
        (EQUIVALENCE | {"margin": float("nan")}, "margin=nan: must be a number more than 0."),
        (EQUIVALENCE | {"holds": {"above": 0}}, "is a claim of kind equivalence, which has margin instead of holds."),
        (WHOLE | {"margin": 0.1}, "is a claim of kind difference, which has holds instead of margin."),
        (WHOLE | {"holds": {}}, "holds={}: must be {above: NUMBER}, {below: NUMBER} or both."),
        (WHOLE | {"holds": {"over": 1}}, "must be {above: NUMBER}"),
        (WHOLE | {"holds": {"above": 1, "below": 0}}, "no value is above 1 and below 0."),
        (WHOLE | {"where": "sgd"}, "where=sgd: must be levels by factor"),
        (with_kind(difference={"algorithm": ["fa", "fa"]}), "must be two levels of a factor"),
        (with_kind(ratio={"algorithm": ["fa"]}), "must be two levels of a factor"),
        (with_kind(ratio={"algorithm": ["fa", "bp"]}, holds={"above": -1}), "a ratio is more than 0"),
        (with_kind(cell={}), "must be levels by factor"),
        (with_kind(slope={"at": "x"}), "must be the name of a numeric factor"),
        (with_kind(contrast=[[1]]), "must be a list of weights and cells"),
        (with_kind(contrast=3), "must be a list of weights and cells"),
        (with_kind(table={"table": "anova"}), "must be {table: …, row: {…}, column: …}"),
        (WHOLE | {"when": "never"}, "when=never: must be end, late"),
        (WHOLE | {"learned": "yes"}, "learned=yes: must be an accuracy"),
        (with_kind(slope="x"), "must be the name of a numeric factor"),
        ("more", "is no mapping of keys to values."),
        (WHOLE | {"claim": ""}, "needs texts as claim and metric."),
    ],
)
def test_a_claim_that_is_not_whole_is_named_in_one_line(tmp_path, claim, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump([WHOLE]) + yaml.safe_dump([claim]))
    with pytest.raises(RecordError) as refused:
        read_claims(path)
    assert str(refused.value).startswith(f"{path}: claim 2")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- claim: [", "x, line 1: is not YAML (expected the node content"),
        ("claim: more", "x: must be a list of claims"),
        ("", "x: must be a list of claims"),
        ("- &a {claim: *a}", "x: aliases (*name) are not read: write the value out."),
        ("\x00", "x: is not YAML"),
        ("[" * 5000, ": is not YAML"),
    ],
)
def test_files_that_hold_no_claims(text, message):
    with pytest.raises(RecordError) as refused:
        parse_claims(text, "x")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_too_long_or_is_not_text(tmp_path):
    (tmp_path / "demo.claims.yml").write_bytes(b"\xff")
    with pytest.raises(RecordError, match=r"no such file of claims\. Did you mean demo\.claims\.yml\?"):
        read_claims(tmp_path / "demo.claim.yml")
    with pytest.raises(RecordError, match="'utf-8' codec"):
        read_claims(tmp_path / "demo.claims.yml")
    (tmp_path / "long.yml").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(RecordError, match="at most 1048576 are read"):
        read_claims(tmp_path / "long.yml")


def test_levels_are_known_by_what_they_mean():
    assert same_level("1e-3", 0.001)
    assert same_level([256, 128], "[256,128]")
    assert same_level("absent", None)
    assert not same_level("bp", "fa")
    levels = {"algorithm": ["bp", "fa"], "lr": [0.001]}
    assert unknown_level(WHOLE | {"where": {"lr": "1e-3"}}, levels) == ""
    assert unknown_level(WHOLE | {"where": {"l": 1}}, levels) == "no run has a key 'l'. Did you mean lr?"
    other = {**WHOLE, "difference": {"algorithm": ["fa", "bq"]}}
    assert unknown_level(other, levels) == "no run has algorithm=bq. There are: bp, fa"
    assert unknown_level(with_kind(slope={"over": "alrithm"}), levels).startswith("no run has a key 'alrithm'.")
