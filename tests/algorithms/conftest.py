import pytest


@pytest.fixture(autouse=True)
def text(tmp_path, monkeypatch):
    """A text where the command is given, which is where one is looked for."""
    (tmp_path / "data" / "tinyshakespeare").mkdir(parents=True)
    (tmp_path / "data" / "tinyshakespeare" / "input.txt").write_text("the cat sat on the mat and " * 900)
    monkeypatch.chdir(tmp_path)
