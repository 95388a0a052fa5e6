"""Runs a script as if PyTorch were not installed: python without_torch.py SCRIPT ARGUMENTS..."""

import importlib.machinery
import runpy
import sys


class NoTorch(importlib.machinery.PathFinder):
    """Finds every module but torch."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "torch" else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = NoTorch
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
