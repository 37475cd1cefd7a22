"""Within against between under the null and under an effect, the intervals, and the tables of a sweep."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis import load
from creditlab.analysis.agreement import pairs_of_runs
from creditlab.analysis.agreement.pairs_of_runs import Runs, distances, embed, permutation_p
from creditlab.analysis.agreement.similarity import GROUPS, SAMPLES, compare, rdms, similarity, similarity_pairs
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.jackknife import jackknife, reach
from creditlab.analysis.model.permutation import blocks
from creditlab.analysis.names import labels
from creditlab.records import write_arrays


def design(algorithms=("bp", "fa"), optimisers=("sgd", "muon"), seeds=3):
    cells = [(a, o, s) for a in algorithms for o in optimisers for s in range(seeds)]
    return pd.DataFrame(cells, columns=["algorithm", "optimiser", "seed"])


def matrices(settings, effect=0.0, start=0.0, generator=None):
    """Distances of classes whose means depend on the algorithm (`effect`) and on the seed (`start`)."""
    rng = generator or np.random.default_rng(0)
    common, of_algorithm, first = rng.normal(size=(10, 6)), {}, {}
    out = []
    for algorithm, seed in zip(settings["algorithm"], settings["seed"], strict=True):
        of_algorithm.setdefault(algorithm, rng.normal(size=(10, 6)))
        first.setdefault(seed, rng.normal(size=(10, 6)))
        out.append(common + effect * of_algorithm[algorithm] + start * first[seed] + rng.normal(size=(10, 6)))
    return np.stack([distances(p, "euclidean") for p in out])


def test_means_are_those_over_pairs_of_runs_counted_one_by_one():
    settings = design(seeds=3)[:-2]  # unbalanced
    held = matrices(settings, effect=1, start=1)
    vectors = embed(held, "RDM")
    expected = {"within": [], "between": [], "same": []}
    for i, j in combinations(range(len(settings)), 2):
        a, b = settings.iloc[i], settings.iloc[j]
        if a["optimiser"] == b["optimiser"]:
            kind = "within" if a["algorithm"] == b["algorithm"] else "between"
            expected["same" if a["seed"] == b["seed"] else kind].append(vectors[i] @ vectors[j])
    row, pairs = compare(settings, held, "algorithm", ["optimiser"], "RDM")
    assert row["within"] == pytest.approx(np.mean(expected["within"]))
    assert row["between"] == pytest.approx(np.mean(expected["between"]))
    assert row["between_same_seed"] == pytest.approx(np.mean(expected["same"]))
    assert pairs["n_pairs"].tolist() == [6, 8, 3]
    between = pairs.loc[pairs["a"] != pairs["b"], "similarity"].item()
    assert between == pytest.approx(row["between"])


@pytest.mark.parametrize("measure", ["RDM", "CKA"])
def test_an_effect_of_the_algorithm_is_found_and_the_order_of_rows_means_nothing(measure):
    settings = design(seeds=4)
    held = matrices(settings, effect=2)
    row, pairs = compare(settings, held, "algorithm", ["optimiser"], measure)
    assert row["p"] < 0.02
    assert row["within"] > row["between"] + 0.1
    assert (pairs["ci_low"] < pairs["similarity"]).all()
    assert (pairs["similarity"] < pairs["ci_high"]).all()
    shuffled = np.random.default_rng(3).permutation(len(settings))
    again, others = compare(settings.iloc[shuffled], held[shuffled], "algorithm", ["optimiser"], measure)
    assert again == row
    pd.testing.assert_frame_equal(pairs, others)


def test_shared_initial_weights_are_not_taken_for_an_effect():
    """With a strong effect of the seed and none of the algorithm, pairs of one seed would make between look closer."""
    row, _ = compare(*(lambda s: (s, matrices(s, start=3)))(design(seeds=4)), "algorithm", ["optimiser"], "RDM")
    assert row["between_same_seed"] > row["between"] + 0.2
    assert abs(row["difference"]) < 0.1


def test_false_positives_are_at_the_level(monkeypatch):
    """Of 1,000 sweeps whose runs share what the seed does, and whose algorithms do nothing."""
    monkeypatch.setattr(pairs_of_runs, "DRAWS", 19)
    settings, rng, p = design(seeds=5), np.random.default_rng(0), []
    words = labels(settings)
    runs = Runs(*(pd.factorize(words[c])[0] for c in ("algorithm", "optimiser", "seed")))
    block = blocks(words, "algorithm", ["optimiser"])
    for _ in range(1000):
        vectors = rng.normal(size=(len(settings), 45)) + rng.normal(size=(5, 45))[settings["seed"]]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        p.append(permutation_p(vectors, runs, block))
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.02)
    settings = design(optimisers=("sgd",), seeds=3)  # four distinct relabellings: the whole of `compare`
    p = [compare(settings, matrices(settings, 0, 1, rng), "algorithm", [], "RDM")[0]["p"] for _ in range(100)]
    assert np.mean(np.array(p) <= 0.25) <= 0.25 + 3 * np.sqrt(0.25 * 0.75 / 100)


def test_one_seed_shows_similarity_and_tests_nothing():
    settings = design(seeds=1)
    row, pairs = compare(settings, matrices(settings), "algorithm", ["optimiser"], "RDM")
    assert np.isnan([row["within"], row["p"]]).all()
    assert np.isfinite(row["between_same_seed"])
    assert pairs.empty


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=30)
    error = jackknife(np.array([np.delete(x, i).mean() for i in range(30)]))
    assert error == pytest.approx(x.std(ddof=1) / np.sqrt(30))


@pytest.mark.parametrize(("items", "most"), [(10, [0.97, 0.985]), (20, [0.97, 0.97])])
@pytest.mark.parametrize(("measure", "distance"), [("RDM", "correlation"), ("CKA", "euclidean")])
def test_intervals_cover_the_value_of_the_population_of_items(measure, distance, items, most):
    """Four networks see items of many: in 95 % ± 2 % of 1,000 draws the interval holds what they would show of all.
    That of within minus between, of ten items, does in up to 98 %: the jackknife overstates the spread of pairs."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(8, 6)) + 0.7 * rng.normal(size=(4, 8, 6))  # two algorithms × two seeds

    def estimates(matrices: np.ndarray) -> np.ndarray:
        """Fisher's z of a pair, and within minus between, (2, draws), of (draws, 4, items, items)."""
        flat = embed(matrices.reshape(-1, *matrices.shape[2:]), measure)
        alike = np.einsum("dip,djp->ijd", *2 * [flat.reshape(*matrices.shape[:2], -1)])
        between = (alike[0, 3] + alike[1, 2]) / 2
        return np.stack([np.arctanh(between), (alike[0, 1] + alike[2, 3]) / 2 - between])

    def draw(count: int) -> np.ndarray:
        x = rng.normal(size=(count, 8)) * np.linspace(1, 2, 8)
        return np.stack([distances(x @ w, distance) for w in weights])

    truth = np.mean([estimates(draw(700)[None]) for _ in range(5)], axis=0)
    drawn = np.stack([draw(items) for _ in range(1000)])
    kept = [np.setdiff1d(np.arange(items), group) for group in np.array_split(np.arange(items), GROUPS)]
    kept = [k for k in kept if len(k) < items]
    wide = reach(np.stack([estimates(drawn[:, :, k[:, None], k]) for k in kept]), items)
    covered = (np.abs(estimates(drawn) - truth) <= wide).mean(axis=1)
    assert (covered >= 0.93).all()
    assert (covered <= most).all()


def test_compare_has_these_intervals():
    settings = design(optimisers=("sgd",), seeds=3)
    held = matrices(settings, 1, 1)
    row, pairs = compare(settings, held, "algorithm", [], "RDM")
    parts = []
    for left_out in range(10):
        kept = np.delete(np.arange(10), left_out)
        parts.append(compare(settings, held[:, kept[:, None], kept], "algorithm", [], "RDM"))
    wide = stats.t.ppf(0.975, 9) * np.sqrt(0.8)
    error = jackknife(np.array([part["difference"] for part, _ in parts]))
    assert (row["ci_high"] - row["difference"]) == pytest.approx(wide * error)
    error = jackknife(np.arctanh(np.stack([each["similarity"] for _, each in parts])))
    assert pairs["ci_low"].to_numpy() == pytest.approx(np.tanh(np.arctanh(pairs["similarity"]) - wide * error))


def test_of_a_sweep(folder):
    rng = np.random.default_rng(0)
    for algorithm in ("bp", "fa"):
        shared = rng.normal(size=(10, 6))
        for seed in range(3):
            run = folder.add({"test/accuracy": 0.9}, algorithm=algorithm, seed=seed)
            dead = np.zeros((10, 4)) if (algorithm, seed) == ("fa", 2) else rng.normal(size=(10, 4))
            arrays = {
                "representation/fc1": shared + 0.3 * rng.normal(size=(10, 6)),
                "representation/fc2": dead,
                "sample_representation/fc1": rng.normal(size=(300, 6)),
            }
            write_arrays(run / "arrays.npz", arrays)
    folder.add({"test/accuracy": 0.9}, algorithm="fa", seed=3)  # no arrays
    folder.add(algorithm="bp", seed=3, status="diverged")
    sweep = load(folder.path)
    table = similarity(sweep).frame.set_index(["items", "layer", "measure"])
    assert table.columns.tolist() == [c for c in similarity.columns if c not in table.index.names]
    first = table.loc[("classes", "fc1", "RDM")]
    assert first["within"] > first["between"] + 0.3
    assert table.loc[("classes", "fc2", "CKA"), "left_out"] == 1
    assert table.loc[("samples", "fc1", "RDM"), "n_items"] == SAMPLES
    words = " ".join(similarity(sweep).notes)
    assert "diverged: 1" in words
    assert "no readable arrays: fa-sgd-digits-mlp-s3" in words
    assert "fc2, RDM: runs left out, all their distances alike: 1" in words
    matrices_of_levels = rdms(sweep).frame
    assert set(matrices_of_levels["level"]) == {"bp", "fa"}
    assert (matrices_of_levels.groupby(["layer", "level"]).size() == 45).all()
    pairs = similarity_pairs(sweep).frame.query("items == 'classes' and layer == 'fc1' and measure == 'RDM'")
    assert pairs[["a", "b"]].to_numpy().tolist() == [["bp", "bp"], ["bp", "fa"], ["fa", "fa"]]
    assert pairs["similarity"].iloc[1] == pytest.approx(first["between"])


def test_the_distance_can_be_chosen(folder):
    rng = np.random.default_rng(0)
    for algorithm in ("bp", "fa"):
        for seed in range(2):
            run = folder.add({"test/accuracy": 0.9}, algorithm=algorithm, seed=seed)
            write_arrays(run / "arrays.npz", {"representation/fc1": rng.normal(size=(6, 4))})
    sweep = load(folder.path)
    for distance in ("correlation", "euclidean"):
        for statistic in (similarity, similarity_pairs):
            frame = statistic(sweep, distance=distance).frame
            assert dict(zip(frame["measure"], frame["distance"], strict=True)) == {"RDM": distance, "CKA": "euclidean"}
        assert set(rdms(sweep, distance=distance).frame["distance"]) == {distance}
    by = [similarity(sweep, distance=d).frame.set_index("measure")["within"] for d in ("correlation", "euclidean")]
    assert by[0]["RDM"] != by[1]["RDM"]
    assert by[0]["CKA"] == by[1]["CKA"]


def test_a_frame_without_folders_has_no_representation():
    sweep = Sweep.of(design().assign(status="complete"), ["algorithm", "optimiser"], [])
    assert [len(statistic(sweep)) for statistic in (similarity, similarity_pairs, rdms)] == [0, 0, 0]
