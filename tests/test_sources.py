"""Which code of the user's own a run reaches, and whether it has changed."""

import sys

import pytest

from creditlab import sources
from creditlab.sources import changed_code, code_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a rule, and a module beside it."""
    files = {
        "pretend_rules/__init__.py": "",
        "pretend_rules/rule.py": "import numpy\nfrom . import gain\nfrom pretend_helper import scale\n",
        "pretend_rules/gain.py": "def late():\n    import pretend_rules.deep.inner\n",
        "pretend_rules/deep/__init__.py": "",
        "pretend_rules/deep/inner.py": "from ..gain import late\n",
        "pretend_rules/unused.py": "",
        "pretend_helper.py": "scale = 1\n",
    }
    for name, text in files.items():
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sources, "_code", sources._code.__wrapped__)  # a process reads a file once; this one is several
    return tmp_path


CONFIG = {
    "algorithm": {"_target_": "pretend_rules.rule.Rule"},
    "optimiser": {"_target_": "torch.optim.AdamW"},
    "dataset": {"_target_": "creditlab.datasets.digits.Digits"},
    "tracker": {"_target_": "pretend_rules.unused.Tracker"},
}


def test_all_that_a_target_imports_of_the_users_own_and_nothing_else(package):
    heavy = "torch.optim" in sys.modules
    assert list(code_of(CONFIG)) == [
        "pretend_helper",
        "pretend_rules",
        "pretend_rules.deep",
        "pretend_rules.deep.inner",
        "pretend_rules.gain",
        "pretend_rules.rule",
    ]
    assert ("torch.optim" in sys.modules) == heavy
    assert "pretend_rules" not in sys.modules


def test_targets_inside_lists_and_metrics_count(package):
    nested = {"metrics": {"instruments": {"mine": {"_target_": "pretend_helper.metric"}}}}
    assert list(code_of(nested)) == ["pretend_helper"]
    assert list(code_of({"dataset": {"parts": [{"_target_": "pretend_helper.part"}]}})) == ["pretend_helper"]


@pytest.mark.parametrize("name", ["pretend_helper.py", "pretend_rules/deep/inner.py", "pretend_rules/__init__.py"])
def test_a_change_anywhere_is_named_by_its_file(package, name):
    before = code_of(CONFIG)
    assert changed_code(before, CONFIG) == []
    (package / name).write_text("# changed\n")
    assert str(package / name) in changed_code(before, CONFIG)


def test_a_module_that_is_no_longer_used_and_a_record_without_code(package):
    assert changed_code({**code_of(CONFIG), "gone": "0"}, CONFIG) == ["gone"]
    assert changed_code(None, CONFIG) == []
