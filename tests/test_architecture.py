"""Imports run one way: a folder imports only from those before it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    "base", "reporting", "config", "parallel", "data", "interop", "models", "evaluation", "training", "conversion",
    "explanation", "prediction", "serving", "export", "inspection", "experiments", "benchmark", "cli",
]  # fmt: skip
# Nothing else imports PyTorch, which need not be there; an export's loader is copied, never imported.
USERS_OF_PYTORCH = {
    "interop/torch_architecture.py", "conversion/torch_model.py", "benchmark/torch_side.py", "export/onnx_graph.py",
    "export/loaders/safetensors.py",
}  # fmt: skip
PACKAGE = ROOT / "amsdff_jax"
FILES = {file.relative_to(PACKAGE).as_posix(): file for file in sorted(PACKAGE.rglob("*/*.py"))}


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("name", FILES)
def test_folders_import_only_from_those_before(name):
    modules = {module for module in imported_modules(FILES[name]) if module.split(".")[0] == "amsdff_jax"}
    assert "amsdff_jax" not in modules
    folders = {module.split(".")[1] for module in modules}
    assert folders <= set(ORDER[: ORDER.index(name.split("/")[0]) + 1])


def test_only_the_twin_and_its_users_import_pytorch_and_nothing_tensorflow():
    for name in FILES.keys() - USERS_OF_PYTORCH:
        assert not {module.split(".")[0] for module in imported_modules(FILES[name])} & {"torch", "tensorflow"}, name


def test_one_function_expands_the_tilde():
    alone = {"base/files.py", "interop/torch_architecture.py"}  # the second is a file for others to take away
    assert not [name for name, file in FILES.items() if "expanduser" in file.read_text("utf-8") and name not in alone]


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda file: file.name)
def test_scripts_are_flags_and_one_call(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 65
