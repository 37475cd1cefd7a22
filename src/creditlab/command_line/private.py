"""The inner parts of Hydra that creditlab uses, each with the reason. No other module imports an inner part of Hydra.

`ConfigLoader` (Hydra's `ConfigLoaderImpl`), and the name by which Hydra makes one
    Hydra has no interface to choose the loader. It applies the overrides of a sweep to the default options first, which
    rejects valid sweeps (see `loader`), and it does not name the valid options in its errors.
    `loader` extends `_load_configuration_impl`, and calls `_parse_overrides_and_create_caching_repo` and
    `_apply_overrides_to_config`.
`ConfigRepository` (Hydra's `IConfigRepository`)
    Which groups and options exist. The public `get_group_options` of a loader ignores `hydra.searchpath`.
`get_args_parser`
    Hydra's flags. `hydra.main` reads the command line with this parser, and accepts much that cannot be meant.

`tests/test_private_parts.py` fails if an upgrade of Hydra moves or changes one of them.
"""

from __future__ import annotations

import importlib.metadata

try:
    import hydra._internal.hydra as _hydra
    from hydra._internal.config_loader_impl import ConfigLoaderImpl as ConfigLoader
    from hydra._internal.config_repository import IConfigRepository as ConfigRepository
    from hydra._internal.utils import get_args_parser
except ImportError as error:
    version = importlib.metadata.version("hydra-core")
    raise ImportError(f"hydra-core {version} has moved a part that {__name__} uses: {error}") from error

__all__ = ["ConfigLoader", "ConfigRepository", "get_args_parser", "install"]


def install(loader: type[ConfigLoader]) -> None:
    """Have Hydra compose configs with `loader`."""
    _hydra.ConfigLoaderImpl = loader  # type: ignore[misc]
