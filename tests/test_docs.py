"""The README is short, and all that it and the documentation name is there."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from amsdff_jax.cli.main import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_settings_exist(page):
    text = page.read_text(encoding="utf-8")
    for verb in re.findall(r"(?:^|`)(?:srun )?amsdff (\w+)", text, re.MULTILINE):
        assert verb in [*VERBS, "configs"], verb
    for name in re.findall(r"scripts/(\w+\.py)", text):
        assert (ROOT / "scripts" / name).is_file(), name
    for name in re.findall(r"--config=(?:configs/)?(\w+)", text):
        assert (ROOT / "configs" / f"{name}.py").is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_in_a_clone_too(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text)
    for link in ("".join(pair) for pair in links):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_the_lines_that_troubleshooting_explains_are_in_the_code():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([^`\d][^`]+)` \|", text, re.MULTILINE)
    assert len(lines) > 40
    sources = [file for folder in ("amsdff_jax", "scripts") for file in (ROOT / folder).rglob("*.py")]
    messages = [message for file in sources for message in _messages(ast.parse(file.read_text(encoding="utf-8")))]
    for line in lines:
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        assert any(pattern.search(message) for message in messages), line


def _messages(tree):
    """The strings of a module, with `…` for what is put into them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_nobody_is_told_to_install_a_name_that_the_index_does_not_know():
    for folder in ("amsdff_jax", "scripts", "configs", "docs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".j2", ".md", ".ipynb"):
                assert not re.search(r"pip install \S*amsdff-jax", file.read_text(encoding="utf-8")), file


def test_the_table_of_the_readme_is_that_of_the_results():
    def rows(file):
        cells = [line.strip("| ").split(" | ") for line in file.read_text(encoding="utf-8").splitlines() if "|" in line]
        return {name: numbers for name, *numbers in cells if len(numbers) == 4 and "." in numbers[0]}

    shown, measured = rows(ROOT / "README.md"), rows(ROOT / "results" / "experiments" / "README.md")
    best = [
        max((values[place] for name, values in measured.items() if name != "amsdff"), key=lambda cell: cell.split()[0])
        for place in range(4)
    ]
    assert list(shown.values()) == [measured["amsdff"], best, measured["linear"], measured["tfidf"]]


@pytest.mark.slow  # trains a model
def test_the_tutorial_runs(tiny_encoder, tmp_path):
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    script = "\n\n".join(cells)
    # On an encoder that compiles in seconds.
    assert script.count("minilm-l6") == 2 and script.count("max_length=48") == 1
    script = script.replace("minilm-l6", str(tiny_encoder)).replace("max_length=48", "max_length=24")
    (tmp_path / "tutorial.py").write_text(script, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "tutorial.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "exported" / "load.py").is_file()


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    for needed in ("mkdocs", "nbconvert", "latex2mathml"):
        pytest.importorskip(needed, reason="needs the extra docs")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    for page in (tmp_path / "site").rglob("index.html"):
        for source in re.findall(r"<img[^>]* src=\"([^\":]+)\"", page.read_text(encoding="utf-8")):
            assert (page.parent / source).is_file(), f"{page.parent.name}: {source}"
    settings = (tmp_path / "site" / "settings" / "index.html").read_text(encoding="utf-8")
    assert "train.encoder_learning_rate" in settings
    assert "peak, of the encoder; 0 freezes it" in settings
    assert "<math" in (tmp_path / "site" / "model" / "index.html").read_text(encoding="utf-8")
    assert "<td>random_encoder</td>" in (tmp_path / "site" / "results" / "index.html").read_text(encoding="utf-8")
