"""The columns of the describing tables, frozen: what reads them elsewhere breaks if one changes."""

from creditlab.analysis.agreement import fingerprint, similarity
from creditlab.analysis.report import conclusions

ABOUT = "dataset layer items n_items measure distance factor"


def test_columns():
    assert " ".join(similarity.COLUMNS) == (
        f"{ABOUT} n_runs left_out within between difference ci_low ci_high p between_same_seed"
    )
    assert " ".join(similarity.PAIRS) == f"{ABOUT} a b n_pairs similarity ci_low ci_high"
    assert " ".join(similarity.RDMS) == "dataset layer factor level distance a b dissimilarity"
    assert " ".join(fingerprint.COLUMNS) == (
        "target held_out metrics n_metrics classifier n_runs n_identified accuracy chance shuffled p best_metric"
    )
    assert " ".join(fingerprint.CONFUSION) == ("target held_out metrics classifier fold true identified_as n_runs")
    assert " ".join(conclusions.WHAT_HOW) == ("of term n_metrics n_found median_eta_sq lowest highest highest_metric")
    assert " ".join(conclusions.LEVELS) == "metric factor level n_runs mean sd lowest highest"
