"""The README is short, and all that it and the documentation name is there."""

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


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text)
    assert links
    generated = {"docs/settings.md"}
    for link in ("".join(pair) for pair in links):
        assert link in generated or (ROOT / link).exists(), link


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="needs MkDocs")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    settings = (tmp_path / "site" / "settings" / "index.html").read_text(encoding="utf-8")
    assert "train.encoder_learning_rate" in settings
    assert "peak, of the encoder; 0 freezes it" in settings
