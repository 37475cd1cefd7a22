import subprocess
import sys
from typing import Any, Literal, get_args

import pytest

from creditlab.keys import Positive
from creditlab.signature import TargetError, defined_in, signature

MODULE = """
from dataclasses import dataclass
from typing import Literal
from creditlab.keys import Positive
from other.place import thing as renamed
import torch_that_is_not_there

class Base:
    def __init__(self, network, task, *, scale: Positive, kind: Literal["a", "b"] = "a"): ...

class Derived(Base): ...

class Free(Base):
    def __init__(self, network, **rest): ...

@dataclass
class Data:
    width: int
    name: "str | None" = None

def function(x, y: Tensor, *, rate: float | Tensor, flag: bool): ...
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    package = tmp_path / "pretend_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import Derived as Exported\n")
    (package / "inner.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "pretend_package"


def test_keywords_with_their_types(module):
    form = signature(f"{module}.inner.Base")
    assert form.positional == ("network", "task")
    assert form.keywords == {"scale": Positive, "kind": Literal["a", "b"]}
    assert form.required == {"network", "task", "scale"}


def test_inheritance_and_re_export_are_followed(module):
    assert signature(f"{module}.inner.Derived") == signature(f"{module}.inner.Base")
    assert signature(f"{module}.Exported") == signature(f"{module}.inner.Base")


def test_dataclasses_functions_and_open_signatures(module):
    assert signature(f"{module}.inner.Data").annotations == {"width": int, "name": str | None}
    assert signature(f"{module}.inner.Data").required == {"width"}
    form = signature(f"{module}.inner.function")
    assert form.annotations["y"] is Any
    assert float in get_args(form.annotations["rate"])
    assert signature(f"{module}.inner.Free").open


@pytest.mark.parametrize(
    "target", ["plain", "nowhere.at.All", "pretend_package.inner.Missing", "pretend_package.nothing.X"]
)
def test_a_target_that_is_not_there(module, target):
    with pytest.raises(TargetError):
        signature(target)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class A:\n    def __init__(self, a\n", "broken.py, line 2: '\\(' was never closed"),
        ("x = '\0'", "broken.py"),
    ],
)
def test_a_module_that_is_no_python_is_named_with_its_line(tmp_path, monkeypatch, source, message):
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TargetError, match=message):
        signature("broken.A")
    assert defined_in("broken.A") == []


def test_an_annotation_that_is_a_remark_admits_anything(tmp_path, monkeypatch):
    (tmp_path / "remarks.py").write_text("def f(*, size: 'how large it is'): ...")
    monkeypatch.syspath_prepend(tmp_path)
    assert signature("remarks.f").annotations == {"size": Any}


def test_torch_is_read_without_being_imported():
    code = (
        "import sys; from creditlab.signature import signature; form = signature('torch.optim.SGD');"
        "assert 'momentum' in form.annotations, form; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
