import json

from creditlab.sweep.slurm import snapshot


def test_a_snapshot_holds_creditlab_and_the_users_own_modules_only(tmp_path, monkeypatch):
    user_folder = tmp_path / "own"
    (user_folder / "my_package_of_rules" / "deep").mkdir(parents=True)
    (user_folder / "my_package_of_rules" / "__init__.py").write_text("")
    (user_folder / "my_package_of_rules" / "deep" / "table.csv").write_text("1,2")
    (user_folder / "my_module_of_rules.py").write_text("import my_helper_of_rules")
    (user_folder / "my_helper_of_rules.py").write_text("")
    monkeypatch.syspath_prepend(str(user_folder))
    __import__("my_package_of_rules")
    __import__("my_module_of_rules")
    snapshot.take(tmp_path / "source")
    names = {path.name for path in (tmp_path / "source").iterdir()}
    assert {"creditlab", "my_package_of_rules", "my_module_of_rules.py", "my_helper_of_rules.py"} <= names
    assert not {"torch", "numpy", "hydra", "pytest", "json"} & names
    assert (tmp_path / "source" / "my_package_of_rules" / "deep" / "table.csv").exists()
    assert "commit" in (json.loads((tmp_path / "source" / "creditlab" / "git.json").read_text()) or {"commit": None})
