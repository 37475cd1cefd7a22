"""The command line: what a user sees, and how soon."""

import os
import subprocess
import sys

import pytest
import yaml

from creditlab.__main__ import main

IMPORTS = (
    "import sys; from creditlab.__main__ import main; sys.argv[1:] = sys.argv[1:]\n"
    "try: main()\n"
    "except SystemExit as end: code = end.code\n"
    "heavy = {'torch', 'pandas', 'statsmodels', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
    "print('HEAVY', sorted(heavy))"
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "creditlab algorithm=fa optimiser=muon"),
        (["algorithm=bpp"], "Did you mean bp?"),
        (["optimiser.lrr=3"], "Did you mean optimiser.lr?"),
        (["algorithm.scale=2"], "the option chosen has no such key; algorithm=brsf, dfa, fa, frsf, kp,"),
        (["seed=x"], "seed='x': must be a whole number"),
        (["-m", "seed=1,x"], "seed='x': must be a whole number"),
        (["algorithm=["], "cannot read the override 'algorithm=['"),
        (["optimiser.betas=[0.9]"], "optimiser.betas=[0.9]: must be a list of 2, each a number"),
        (
            ["-m", "optimiser=muon,adamw", "optimiser.scale=none"],
            "not a key of optimiser=adamw, only of optimiser=muon",
        ),
        (["--cfg", "job"], "_target_: creditlab.algorithms.bp.Backpropagation"),
    ],
)
def test_help_and_mistakes_answer_without_torch(tmp_path, arguments, expected):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert expected in done.stdout + done.stderr
    assert "HEAVY []" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "multirun" / "seed").exists()


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """What the command line says as it refuses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def give(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["creditlab", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.delenv("HYDRA_FULL_ERROR")
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        assert (end.value.code, output.out) == (2, "")
        assert not (tmp_path / "multirun").exists()  # a refused command leaves nothing behind
        return output.err

    return give


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["algorithm=null"],
            "algorithm=null: must name one option. There are bp, bp_aligned, bp_goodness, brsf, dfa, es,",
        ),
        (["algorithm=[bp]"], "algorithm=[bp]: must name one option."),
        (["algorithm="], "algorithm=: must name one option."),
        (["-m", "algorithm=bp,null"], "algorithm=null: must name one option."),
        (["training={stepz: 4}"], "training: one of the keys that you give does not exist."),
        (["metrics.instruments=null"], "metrics.instruments=null: must be a mapping"),
        (["hydra.run.dir=null"], "Error merging override hydra.run.dir=null: field 'hydra.run.dir' is not Optional"),
        (["~algorithm"], "~algorithm: must name one option."),
        (["algorithm={scale: 1}"], "algorithm: one of the keys that you give does not exist."),
        (["+algorithm=bp"], "algorithm: an option is chosen already. Write algorithm=… without a plus"),
        (["+algorithm=fa"], "algorithm: an option is chosen already. Write algorithm=… without a plus"),
        (["hydra/launcher=pol"], "hydra/launcher=pol: there is no such option. Did you mean pool?"),
        (["-m", "hydra.launcher=pool"], "hydra.launcher=pool: an option is chosen with a slash, hydra/launcher=…"),
        (["-m", "hydra.launcher.devices=cpu"], "hydra.launcher.devices='cpu': must be a list, each text or null."),
        (["-m", "hydra.launcher.device=[cpu]"], "there is no such key. Did you mean hydra.launcher.devices?"),
        (["-m", "hydra.launcher.devices=[cpu,cuda:99]"], "device=cuda:99: not on this machine"),
        (["-m", "hydra.launcher.mem=4G"], "the option chosen has no such key; hydra/launcher=slurm has it."),
        (["-m", "hydra.sweeper.max_runs=many"], "hydra.sweeper.max_runs='many': must be a whole number at least 1."),
        (["-m", "hydra.sweeper.params=3"], "hydra.sweeper.params=3: must be a mapping or null."),
        (["batch_size=64"], "batch_size: there is no such key. Did you mean training.batch_size?"),
        (["epochs=3"], "Did you mean training.epochs or metrics.epochs?"),
        (["demo"], "cannot read the override 'demo'. Give key=value"),
        (["=1"], "=1: which key?"),
        (["seed=0,1"], "seed=0,1: stands for several runs, which need -m"),
        (["seed=range(2)"], "seed=range(2): stands for several runs, which need -m"),
        (["experiment=demo"], "write +experiment=demo, with the plus"),
        (["-m", "experiment=demo,mnist/bp"], "write +experiment=demo, with the plus"),
        (["+experiment=nope"], "mnist/bp, mnist/dfa"),
        (["hydra.sweeper.budget=smoke"], "hydra.sweeper.budget=smoke: belongs to a sweep, and this is a single run."),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: belongs to a sweep, and this is a single run."),
        (["+experiment=rank_collapse/depth", "dataset=digits"], "is a sweep, and this is a single run: creditlab -m"),
        (["-m", "+experiment=mnist/bp,rank_collapse/depth"], "depth is a sweep of its own, so give it alone"),
        (["-m", "+experiment=rank_collapse/depth", "hydra.sweeper.budget=smok"], "full, small, smoke. Did you mean s"),
        (["+experiment=mnist/bpp"], "experiment=mnist/bpp: there is no such option. Did you mean mnist/bp?"),
        (["seed=1", "seed=2"], "seed=1 and seed=2: give seed once."),
        (["-m", "seed=1,2", "+seed=3"], "seed=1,2 and +seed=3: give seed once."),
        (["a=b", "-m", "c=d e"], "flags come before all overrides: creditlab -m a=b 'c=d e'"),
        (["--mutlirun"], "--mutlirun: there is no such flag. Did you mean --multirun?"),
        (["-m", "seed=0,1", "--cfg", "job"], "give one of --run, --multirun, --cfg"),
        (["--resolve", "seed=1"], "--resolve goes with --cfg or --help."),
        (["--cfg", "jo"], "invalid choice: 'jo' (choose from"),
        (["-m", "seed=range(0)"], "seed=range(0): has no values, so nothing would run"),
        (["-m", "sweep=a,b"], "sweep=a,b: cannot be swept, because it does not change a run's result."),
        (["-m", "threads=1,2"], "threads=1,2: cannot be swept"),
        (["-m", "sweep=../x", "seed=0,1"], "sweep='../x': must be text of letters, digits"),
        (["-m", "optimiser.lr=interval(0,1)"], "a grid needs its values"),
        (["-m", "optimiser=muon,kaon", "optimiser.scael=none"], "optimiser.scael: there is no such key. Did you mean"),
        (["-m", "seed=0,1", "optimiser.scale=none"], "optimiser.scale: the option chosen has no such key"),
        (["-m", "+experiment=demo,mnist/bp", "dataset.root=x"], "only of +experiment=mnist/bp"),
        (["-m", "dataset=digits,mnist", "algorithm=bp,fa", "dataset.root=x"], "not a key of dataset=digits, only of"),
        (["training.batch_size=${nope}"], "training.batch_size: its ${…} cannot be resolved: Interpolation key 'nope'"),
        (["-m", "training.batch_size=${nope}", "seed=0,1"], "training.batch_size: its ${…} cannot be resolved: Interp"),
        (["-m", "training.objective=${oc.env:NOPE}", "seed=0"], 'objective: its ${…} cannot be resolved: "Environment'),
        (["sweep=/tmp/x/y"], "sweep='/tmp/x/y': must be text of letters, digits"),
        (["sweep=a/b/c", "device=cuda:99"], "device=cuda:99: not on this machine"),
        (["--config-path=x", "seed=1"], "Add yours to them: --config-dir=FOLDER."),
        (["-m", "hydra.sweep.subdir=x", "seed=1"], "hydra.sweep.subdir=x: a run's folder is named after its config."),
        (["seed=1-10"], "must be a whole number at least 0. For a run of each: creditlab -m 'seed=range(1,11)'"),
        (["-m", "seed=[0,1,2]"], "must be a whole number at least 0. For a run of each: creditlab -m seed=0,1,2"),
        (["-m", "algorithm=bp,", "fa"], "algorithm=bp, fa: write algorithm=bp,fa, without spaces."),
        (["algorithm", "=", "fa"], "algorithm =: write algorithm=VALUE, without spaces."),
        (["algorithm=", "fa"], "algorithm= fa: write algorithm=fa, without spaces."),
        (["algorithm=pb"], "algorithm=pb: there is no such option. Did you mean bp?"),
        (["~metrics.instruments.hesian"], "there is no such key. Did you mean metrics.instruments.hessian?"),
        (["dataset.root=/données"], "Letters such as é need quotes of their own"),
        (["-m", "~optimiser.lr", "seed=0,1"], "~optimiser.lr: a key of an option cannot be left out"),
    ],
)
def test_a_command_line_that_cannot_be_meant(refused, arguments, message):
    assert message in refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "dataset=mnist,fashion_mnist"],
        ["-m", "+experiment=mnist/bp,mnist/fa"],
        ["-m", "dataset=mnist", "seed=0,1"],
    ],
)
def test_a_key_that_only_the_swept_options_have_reaches_them(refused, arguments):
    assert "MNIST is not on this machine: there is no" in (message := refused(*arguments, "dataset.root=elsewhere"))
    assert "elsewhere/MNIST" in message


def test_mistakes_in_a_folder_of_ones_own(refused, tmp_path):
    files = {
        "algorithm/broken.yaml": "_target_: mine.Rule\ngain: [1.0\n",
        "algorithm/list.yaml": "- a\n",
        "algorithm/short.yaml": "_target_: creditlab.algorithms.fa.FeedbackAlignment\n",
        "algorithm/nowhere.yaml": "_target_: there_is_no.Rule\n",
        "algorithm/syntax.yaml": "_target_: my_syntax.Rule\n",
        "algorithm/raises.yaml": "_target_: my_raises.Rule\n",
        "optimiser/mine.yaml": "_target_: torch.optim.AdamW\nlr: 0.01\n",
        "experiment/local.yaml": "training:\n  steps: 5\n",
        "experiment/slash.yaml": "# @package _global_\ndefaults:\n  - override hydra/launcher: pool\n",
        "experiment/spelt.yaml": "# @package _global_\ndefaults:\n  - override /optimizer: sgd\n",
    }
    for name, text in files.items():
        (path := tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "my_syntax.py").write_text("class Rule:\n    def __init__(self, a\n")
    start = "class Rule:\n    def __init__(self, network, task, draw, generator): ...\n"
    (tmp_path / "my_raises.py").write_text(f"{start}\nraise RuntimeError('no luck')\n")
    for override, message in {
        "algorithm=broken": "conf/algorithm/broken.yaml, line 3: expected ',' or ']'",
        "algorithm=list": "algorithm: needs a `_target_`",
        "algorithm=nowhere": "there is no module there_is_no in Python, neither in this folder nor installed",
        "algorithm=syntax": "my_syntax.py, line 2: '(' was never closed",
        "algorithm=raises": "cannot be imported. RuntimeError: no luck",
        "algorithm=short": "needs this key (a number more than 0)",
        "algorithm=lst": "algorithm=lst: there is no such option. Did you mean list?",
        "+experiment=local": "+experiment=local: the first line of its file must be `# @package _global_`",
        "+experiment=slash": "experiment/slash.yaml: in its defaults write `override /hydra/launcher: …`",
        "+experiment=spelt": "optimizer: there is no such key. Did you mean optimiser?",
        "optimiser.lrr=1": "Did you mean optimiser.lr?",
    }.items():
        assert message in refused("--config-dir=conf", override), override
    assert "my_raises.py, line 4" in refused("--config-dir=conf", "algorithm=raises")
    assert "~optimiser.lr: a key of an option" in refused("--config-dir=conf", "optimiser=mine", "~optimiser.lr")
    assert "~optimiser.lr: a key" in refused(f"hydra.searchpath=[{tmp_path}/conf]", "optimiser=mine", "~optimiser.lr")
    sweep = ["--config-dir=conf", "-m", "optimiser=mine,adamw", "optimiser.eps=1e-9"]
    assert "optimiser.eps: not a key of optimiser=mine, only of optimiser=adamw" in refused(*sweep)


def test_mistakes_have_an_exit_status_of_their_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", "seed=x"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""


def test_training_imports_nothing_of_the_analysis(tmp_path):
    code = (
        "import sys, creditlab.training, creditlab.datasets.digits, creditlab.algorithms.ff\n"
        "assert not {'pandas', 'statsmodels', 'matplotlib', 'jinja2', 'playwright', 'analysis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(("keys", "folder"), [([], "single"), (["sweep=mine"], "mine")])
def test_a_single_run_prints_where_its_record_is(tmp_path, keys, folder):
    keys = [*keys, "training.steps=5", "training.evaluations=1", "device=cpu"]
    environment = {**os.environ, "HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", *keys],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert f"complete: multirun/{folder}/bp-adamw-digits-mlp-s0-" in done.stdout
    assert "test/accuracy" in done.stdout


@pytest.mark.parametrize("name", ["20241128", "12e4567", "1_000", "true", "étude"])
def test_a_sweep_may_have_any_name(tmp_path, name):
    words = [sys.executable, "-m", "creditlab", "--cfg", "job", f"sweep={name}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert yaml.safe_load(done.stdout)["sweep"] == name, done.stderr


def test_a_sweep_whose_name_is_a_number_lands_in_its_folder(tmp_path):
    words = ["-m", "hydra/launcher=slurm", "hydra.launcher.dry_run=true", "sweep=20241128", "seed=0,1", "device=cpu"]
    words = [sys.executable, "-m", "creditlab", *words]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "2 runs to do: multirun/20241128\n" in done.stderr
