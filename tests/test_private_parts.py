"""The private parts of Hydra and submitit that creditlab uses are as they were, and are used in their places only.

A failure after an upgrade means: read what changed there, adapt the module named in the message, then this list.
"""

import ast
import importlib
import importlib.metadata
import inspect
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HYDRA, SUBMITIT = "creditlab/command_line/private.py", "creditlab/sweep/slurm/sbatch.py"
LOADER = "hydra._internal.config_loader_impl:ConfigLoaderImpl"
REPOSITORY = "hydra._internal.config_repository:IConfigRepository"
PARTS = [  # the module that uses it, the part, its parameters
    (HYDRA, f"{LOADER}.__init__", "self config_search_path"),
    (
        HYDRA,
        f"{LOADER}._load_configuration_impl",
        "self config_name overrides run_mode from_shell validate_sweep_overrides",
    ),
    (HYDRA, f"{LOADER}._parse_overrides_and_create_caching_repo", "self config_name overrides"),
    (HYDRA, f"{LOADER}._apply_overrides_to_config", "overrides cfg"),
    (HYDRA, f"{REPOSITORY}.group_exists", "self config_path"),
    (HYDRA, f"{REPOSITORY}.get_group_options", "self group_name results_filter"),
    (HYDRA, "hydra._internal.hydra:Hydra.create_main_hydra2", "task_name config_search_path"),
    (HYDRA, "hydra._internal.utils:get_args_parser", ""),
    (SUBMITIT, "submitit.slurm.slurm:SlurmExecutor._submit_command", "self command"),
]
PACKAGES = {"hydra": "hydra-core", "submitit": "submitit"}


def look_up(part: str) -> object:
    module, _, path = part.partition(":")
    thing = importlib.import_module(module)
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


@pytest.mark.parametrize(("user", "part", "parameters"), PARTS, ids=[part for _, part, _ in PARTS])
def test_an_upgrade_has_not_changed_it(user, part, parameters):
    package = PACKAGES[part.partition(".")[0]]
    version = f"{package} {importlib.metadata.version(package)}"
    try:
        current = " ".join(inspect.signature(look_up(part)).parameters)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{version} has moved {part}, which {user} uses: {error}", pytrace=False)
    if current != parameters:
        message = f"{version} has changed {part}, which {user} uses: it takes ({current}), no longer ({parameters})"
        pytest.fail(message, pytrace=False)


def test_hydra_makes_its_loader_by_the_name_that_we_replace():
    source = inspect.getsource(look_up("hydra._internal.hydra:Hydra.create_main_hydra2"))
    version = importlib.metadata.version("hydra-core")
    assert "ConfigLoaderImpl(" in source, f"hydra-core {version} makes its loader in another way: see {HYDRA}"


def test_submitit_makes_an_array_of_the_parameter_that_we_set():
    parameters = inspect.signature(look_up("submitit.slurm.slurm:_make_sbatch_string")).parameters
    version = importlib.metadata.version("submitit")
    assert "map_count" in parameters, f"submitit {version} makes arrays in another way: see {SUBMITIT}"


def private_parts(tree: ast.Module) -> list[str]:
    """The private parts of other packages that a module imports, and the private methods of `PARTS` that it names."""
    methods = {part.rpartition(".")[2] for _, part, _ in PARTS if part.rpartition(".")[2].startswith("_")}
    methods -= {"__init__"}
    parts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            parts += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            parts += [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Attribute) and node.attr in methods:
            parts.append(f"hydra or submitit: {node.attr}")
    return [
        part
        for part in parts
        if (part.partition(".")[0] in ("hydra", "omegaconf", "submitit") and "._" in part) or ": _" in part
    ]


def test_no_other_module_uses_a_private_part():
    users = {
        path.relative_to(SOURCE).as_posix(): parts
        for path in SOURCE.rglob("*.py")
        if (parts := private_parts(ast.parse(path.read_text())))
    }
    loader = users.pop("creditlab/command_line/loader.py")
    assert {part.partition(":")[0] for part in loader} == {"hydra or submitit"}  # methods, and no import
    assert sorted(users) == sorted([HYDRA, SUBMITIT]), users


def test_private_parts_are_recognised():
    code = (
        "import hydra._internal.utils\nfrom hydra import _internal\nfrom submitit.core import utils\nx._submit_command"
    )
    assert private_parts(ast.parse(code)) == [
        "hydra._internal.utils",
        "hydra._internal",
        "hydra or submitit: _submit_command",
    ]
