"""The fast composer gives what Hydra composes."""

import re

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from creditlab.__main__ import CONF
from creditlab.sweep.compose import Composer
from creditlab.sweep.plan import planned, sweep_name
from tests.common import options


@pytest.fixture(scope="module")
def composer():
    if not OmegaConf.has_resolver("sweep_name"):
        OmegaConf.register_new_resolver("sweep_name", sweep_name)
    with initialize_config_dir(str(CONF), job_name="creditlab", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.compose_config("config", ["metrics=none,light"], RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=None)
        yield Composer(context, config)


def by_hydra(composer, overrides, sweep):
    return planned(composer.context.config_loader.load_sweep_config(composer.config, overrides), sweep)


def outcome(call, *arguments):
    try:
        return call(*arguments), None
    except (ValueError, HydraException) as error:
        return None, error


OVERRIDES = st.one_of(
    *(st.sampled_from([f"{group}={option}" for option in options(group)])
      for group in ("algorithm", "optimiser", "dataset", "architecture", "metrics")),
    st.integers(0, 10**6).map("seed={}".format),
    st.floats(1e-9, 1e3).map("optimiser.lr={}".format),
    st.sampled_from(["+experiment=demo", "+experiment=mnist/es", "optimiser.lr=1", "optimiser.lr=1e-2",
                     "training.steps=7", "training.epochs=2.5", "training.steps=null", "training.keep_weights=False",
                     "training.schedule='cosine'", 'training.schedule="linear"', "metrics.points=0", "sweep=a b",
                     "sweep='quoted: ${not} x'", "metrics={points: 3}", "training={steps: 3, batch_size: 8}",
                     "~metrics.instruments", "++seed=4", "device=cpu", "seed=${training.batch_size}",
                     "architecture.widths=[8,16]", "training.objective=test/loss", "seed=0x10", "seed=01", "seed=-1"]),
)  # fmt: skip


@given(st.lists(OVERRIDES, max_size=6))
def test_any_overrides(composer, tmp_path_factory, overrides):
    sweep = tmp_path_factory.getbasetemp()
    expected, refusal = outcome(by_hydra, composer, overrides, sweep)
    if refusal is not None:
        with pytest.raises(type(refusal), match=f"^{re.escape(str(refusal))}$"):
            composer.planned(overrides, sweep)
        return
    fast = composer.planned(overrides, sweep)
    assert fast.config == expected.config
    assert repr(fast.config) == repr(expected.config)  # types and order, too
    assert fast.folder == expected.folder
    assert fast.hydra["config.yaml"] == expected.hydra["config.yaml"]
    written = OmegaConf.create(fast.hydra["hydra.yaml"])
    assert written.hydra.overrides.task == overrides
    wanted = OmegaConf.create(expected.hydra["hydra.yaml"])
    wanted.hydra.job = written.hydra.job
    wanted.hydra.overrides.task = overrides
    assert written == wanted
    assert fast.hydra["overrides.yaml"] == OmegaConf.to_yaml(OmegaConf.create(overrides))


def test_a_sweep_composes_each_combination_of_options_once(composer, tmp_path):
    composer.bases.clear()
    for algorithm in ("bp", "fa"):
        for seed in range(50):
            composer.planned([f"algorithm={algorithm}", f"seed={seed}", f"optimiser.lr={0.1 + seed}"], tmp_path)
    assert len(composer.bases) == 2


def test_what_the_short_cut_takes_for_a_whole_number_is_one():
    parser = OverridesParser.create()
    for text in ("0", "7", "-3", "123456789012345678901"):
        assert parser.parse_override(f"seed={text}").value() == int(text)
