"""A key that only some options have is never averaged into a comparison of the options."""

from __future__ import annotations

import numpy as np

from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.report.conclusions import conclusions


def sentences(path, **options) -> list[str]:
    sweep = load(path, **options)
    tables = {name: statistic(fit(sweep)) for name, statistic in statistics().items()}
    return ["".join(part for part in one.parts if isinstance(part, str)) for one in conclusions(tables, sweep)]


def test_the_best_sigma_beats_bp_so_nobody_says_that_bp_beats_es(folder):
    rng = np.random.default_rng(0)
    for seed in range(4):
        folder.add({"test/accuracy": 0.9 + 0.01 * rng.random()}, algorithm="bp", seed=seed)
        for sigma, accuracy in ((0.1, 0.97), (0.5, 0.4)):
            value = accuracy + 0.01 * rng.random()
            folder.add({"test/accuracy": value}, algorithm="es", keys={"algorithm.sigma": sigma}, seed=seed)
    texts = sentences(folder.path)
    assert "The levels of algorithm are not compared: algorithm.sigma varies within es only" in texts[0]
    assert not any(text.startswith(("By algorithm", "The average hides")) for text in texts)

    chosen = sentences(folder.path, where={"algorithm.sigma": ["0.1", "absent"]})
    assert any(
        text.startswith("By algorithm, test accuracy differs: es is more accurate than bp by ") for text in chosen
    )
    assert not any("not compared" in text for text in chosen)
