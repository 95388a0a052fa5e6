"""The command `amsdff`, and what the wheel that brings it holds."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

from amsdff_jax import Config
from amsdff_jax.cli.main import VERBS
from amsdff_jax.cli.packaged import CONFIGS, SCRIPTS
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.processes import run_script

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; sys.argv[0] = 'amsdff'; from amsdff_jax.cli.main import main; sys.exit(main())"


def amsdff(*arguments, package=ROOT, cwd=None, python=()):
    environment = os.environ | {"PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, *python, "-c", COMMAND, *map(str, arguments)], cwd=cwd, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """A folder with the wheel and the source distribution, as they would be published."""
    hatchling = pytest.importorskip("hatchling.build", reason="needs hatchling, which builds the package")
    folder, before = tmp_path_factory.mktemp("dist"), Path.cwd()
    os.chdir(ROOT)
    try:
        hatchling.build_wheel(str(folder))
        hatchling.build_sdist(str(folder))
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def wheel(distributions):
    """The package as the wheel holds it, unpacked."""
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as archive:
        archive.extractall(distributions / "installed")
    return distributions / "installed"


def tracked(*names):
    """The files of the clone under these names, less what git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *names]
    return set(subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout.split())


def test_every_script_is_a_verb():
    assert sorted(VERBS.values()) == sorted(file.stem for file in SCRIPTS.glob("*.py"))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
def test_help_names_all_verbs_and_loads_nothing(arguments):
    result = amsdff(*arguments, python=["-X", "importtime"])
    assert result.returncode == 0
    assert all(re.search(rf"^  {verb} +[A-Z]", result.stdout, re.MULTILINE) for verb in [*VERBS, "configs"])
    assert not re.search(r"\| +(jax|transformers|numpy|absl)$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("verb", ["train", "benchmark", "plan", "export"])
def test_interrupted_while_it_loads_a_script_ends_in_a_line_as_the_command_does(verb, tmp_path):
    def run(*command):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        result = subprocess.run([sys.executable, *command], env=environment, text=True, capture_output=True)
        return result.returncode, result.stdout + result.stderr

    script = str(SCRIPTS / f"{verb}.py")
    (tmp_path / "jax.py").write_text("raise KeyboardInterrupt")  # as Ctrl-C in the midst of the imports
    expected = 75, "stopped before there was anything to save; run the same command again\n"
    assert run(script) == run("-c", COMMAND, verb) == expected
    (tmp_path / "jax.py").write_text("raise RuntimeError('damaged')")
    code, output = run(script)
    assert code == 1 and "Traceback" in output and output.endswith("RuntimeError: damaged\n")


def test_no_script_stands_in_the_way_of_a_library_of_its_name(tmp_path):
    begins = f"import sys; sys.argv[0] = {str(SCRIPTS / 'train.py')!r}; sys.path.insert(0, {str(SCRIPTS)!r})"
    (tmp_path / "evaluate.py").write_text("of = 'the library'")
    program = f"{begins}; import amsdff_jax.cli, evaluate; print(evaluate.of)"
    told = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{tmp_path}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout == "the library\n", told.stderr


def test_importing_the_package_loads_and_sets_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import amsdff_jax;"
        "assert not {'jax', 'numpy', 'torch', 'transformers'} & set(sys.modules); assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_the_library_needs_nothing_that_only_commands_and_some_data_need():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['ml_collections', 'tensorboardX', 'tensorflow_datasets']));"
        "from amsdff_jax import Classifier, Config, Trainer, load_data; import amsdff_jax.export.exporter;"
        "config = Config.from_dict({'data': {'source': 'bundled'}}).replace(train__epochs=2);"
        "assert len(load_data(config.data).train) > 100"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_the_library_leaves_the_environment_and_says_nothing_of_pytorch():
    code = (
        "import os, sys; sys.modules['torch'] = None; before = dict(os.environ);"
        "import amsdff_jax; amsdff_jax.load_tokenizer; assert dict(os.environ) == before"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    assert "PyTorch" not in result.stderr


def test_a_prediction_imports_nothing_that_it_does_not_need(tiny_encoder, tmp_path):
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 2, seed=0)
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), ("a", "b"), 8))
    code = f"""
        import sys
        from amsdff_jax import Classifier

        Classifier.from_pretrained({str(tmp_path / "model")!r}).predict("w1 w2")
        unneeded = {{"torch", "transformers", "scipy", "sklearn", "matplotlib", "tensorflow", "tensorboardX"}}
        assert not unneeded & set(sys.modules), unneeded & set(sys.modules)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
    )


def test_a_verb_shows_its_own_name_and_flags(tmp_path):
    code, output = run_script(tmp_path / "output", "amsdff", "train", "--help")
    assert code == 0
    assert "amsdff train --config=agnews" in output
    assert "--workdir" in output
    assert "python scripts/" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "trian: no such command; did you mean train? There are train, "),
        (["configs", "agnews", "imdb"], "imdb: expected one name"),
        (["configs", "agnew"], "agnew: no such config; there are ablations, agnews"),
        (["train"], "--config: not given; expected settings, such as --config=configs/agnews.py, or a file"),
        (["train", "--config=agnew"], "--config: no file 'agnew'; did you mean agnews?"),
        (
            ["train", "a.csv", "b.csv"],
            "b.csv: expected one file, or a pattern of several in quotes ('part-*.csv'), and flags",
        ),
        (["train", "a.csv", "--config.data.train_file=b.csv"], "a.csv: given beside --config.data.train_file"),
        (
            ["train", "a.csv", "--config.train.learning_rate=1", "--config.train.head_learning_rate=2"],
            "--config.train.learning_rate: the former name of --config.train.head_learning_rate, which is given too",
        ),
        (["train", "--config=broken.json"], "broken.json: not valid JSON"),
        (["train", "--config=list.yaml"], "list.yaml: expected names and values"),
        (["train", "--config=unknown.yaml"], "unknown.yaml: train.epcohs: no such field; did you mean epochs?"),
        (["train", "--config=broken.yml"], "broken.yml: not valid YAML"),
        (["train", "--config=date.yml"], "date.yml: not valid YAML (day is out of range for month)"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, tmp_path):
    for name, text in {"broken.json": "{", "list.yaml": "- a", "unknown.yaml": "train: {epcohs: 3}",
                       "broken.yml": "a: [\x00", "date.yml": "seed: 2024-02-30"}.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    code, output = run_script(tmp_path / "output", "amsdff", *arguments, cwd=tmp_path)
    assert code == 2
    assert output.startswith("error: ")
    assert message in output
    assert len(output.splitlines()) == 1


def test_a_reader_that_has_gone_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, "configs"], env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


def test_configs_are_listed_and_printed():
    listing = amsdff("configs").stdout
    assert [line.split()[0] for line in listing.splitlines()] == sorted(file.stem for file in CONFIGS.glob("*.py"))
    assert amsdff("configs", "files").stdout == (CONFIGS / "files.py").read_text()


READ_CONFIG = """
import sys
from amsdff_jax.cli import command_line
command_line.DEFINE_CONFIG("config", "files", "")
def main(file=""):
    config = command_line.read_config(file)
    print(command_line.run_name(file), config.train.epochs, config.model.kernel_sizes, config.data.train_file, sep="|")
command_line.run(main, others="[FILE]")
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config=agnews"], "agnews|2|(1, 3, 5)|"),
        (["--config=agnews", "--config.model.kernel_sizes=(1,3)"], "agnews|2|(1, 3)|"),
        (["data/reviews.csv.gz"], "reviews|3|(1, 3, 5)|data/reviews.csv.gz"),
        (["--config=runs/mine/config.json"], "mine|7|(3,)|"),
        (["--config=runs/mine/config.json", "--config.train.epochs=8"], "mine|8|(3,)|"),
        (["--config=runs/mi:ne/config.json"], "mi:ne|6|(1, 3, 5)|"),
        (["--config=few.yaml", "data/reviews.csv"], "reviews|5|(1, 3, 5)|data/reviews.csv"),
    ],
)
def test_settings_by_name_and_in_every_format(arguments, expected, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    config = Config().replace(train__epochs=7, model__kernel_sizes=(3,))
    (tmp_path / "runs" / "mine" / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    (tmp_path / "runs" / "mi:ne").mkdir()
    (tmp_path / "runs" / "mi:ne" / "config.json").write_text('{"train": {"epochs": 6}}')
    (tmp_path / "few.yaml").write_text("train:\n  epochs: 5\n")
    (tmp_path / "script.py").write_text(READ_CONFIG)
    _, output = run_script(tmp_path / "output", str(tmp_path / "script.py"), *arguments, cwd=tmp_path)
    assert output.strip() == expected


@pytest.mark.parametrize("config", ["agnews", "old.py", "old.yaml"])
def test_a_setting_is_taken_under_its_former_name(config, tmp_path):
    (tmp_path / "old.py").write_text(
        "from amsdff_jax.config import default_config\n"
        "def get_config():\n    config = default_config()\n    config.train.learning_rate = 7e-3\n    return config\n"
    )
    (tmp_path / "old.yaml").write_text("train:\n  learning_rate: 7.0e-3\n")
    (tmp_path / "script.py").write_text(READ_CONFIG.replace("config.train.epochs", "config.train.head_learning_rate"))
    for flags, expected in (((), 3e-4 if config == "agnews" else 7e-3), (("--config.train.learning_rate=9e-3",), 9e-3)):
        arguments = (str(tmp_path / "script.py"), f"--config={config}", *flags)
        _, output = run_script(tmp_path / "output", *arguments, cwd=tmp_path)
        *notices, result = output.strip().splitlines()
        assert result.split("|")[1] == str(expected)
        assert ["is now called train.head_learning_rate" in notice for notice in notices] == (
            [True] if flags or config != "agnews" else []
        )


def test_the_wheel_holds_the_package_its_scripts_and_configs_and_nothing_else(wheel):
    held = {file.relative_to(wheel).as_posix() for file in wheel.rglob("*") if file.is_file()}
    names = tracked("amsdff_jax", "scripts", "configs")
    expected = {name if name.startswith("amsdff_jax/") else f"amsdff_jax/{name}" for name in names}
    assert {name for name in held if ".dist-info/" not in name} == expected


def test_the_source_distribution_holds_what_is_built_and_tested_and_nothing_else(distributions):
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers()}
    shown = re.compile(r"/README\.md$|^results/([cg]pu|families)/[^/]+\.json$")
    reports = {name for name in tracked("results") if shown.search(name)}
    project = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml", ".gitignore"}
    project |= {"CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"}
    assert held == tracked("amsdff_jax", "scripts", "configs", "tests", "docs") | reports | project | {"PKG-INFO"}


def test_both_distributions_can_be_published(distributions):
    pytest.importorskip("twine", reason="needs twine, which checks what an index would refuse")
    files = [file for file in distributions.iterdir() if file.is_file()]
    assert len(files) == 2
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)


# What Windows has not, of Python and of its packages; and what not everybody installs, or only some commands need.
IMPORT_EVERYTHING = """
import importlib, pkgutil, signal, sys

HIDDEN = ("fcntl", "resource", "grp", "termios", "tensorflow_datasets", "uvloop", "torch", "onnx",
    "onnxruntime", "ml_collections", "tensorboardX", "starlette", "uvicorn", "prometheus_client", "httptools")

class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Hiding, sys.meta_path)
for name in HIDDEN:
    sys.modules.pop(name, None)
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1"):
    delattr(signal, name)
import amsdff_jax
for module in pkgutil.walk_packages(amsdff_jax.__path__, "amsdff_jax."):
    if ".loaders" not in module.name:  # which are run in the folder of an export
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name, error.name)
"""
NEED_MORE = {
    "amsdff_jax.benchmark.onnx_side onnxruntime",
    "amsdff_jax.benchmark.torch_side torch",
    "amsdff_jax.conversion.torch_model torch",
    "amsdff_jax.export.onnx_graph onnx",
    "amsdff_jax.interop.torch_architecture torch",
    "amsdff_jax.serving.app prometheus_client",
    "amsdff_jax.serving.metrics prometheus_client",
    "amsdff_jax.serving.server uvicorn",
    "amsdff_jax.serving.service prometheus_client",
}


@pytest.mark.slow
def test_everything_can_be_imported_without_what_windows_lacks():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING], env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.splitlines()) == NEED_MORE


def test_the_command_works_from_the_wheel_outside_the_clone(wheel, tmp_path):
    assert "agnews" in amsdff("configs", package=wheel, cwd=tmp_path).stdout
    result = amsdff("predict", "--model=nowhere", "A text.", package=wheel, cwd=tmp_path)
    assert result.returncode == 2
    assert "nowhere" in result.stdout


def test_a_device_without_enough_memory_is_one_line(tmp_path):
    (tmp_path / "large.py").write_text(
        "import jax.numpy\nfrom amsdff_jax.cli import command_line\n"
        "command_line.run(lambda: jax.numpy.zeros(1 << 47).block_until_ready())\n"
    )
    code, output = run_script(tmp_path / "output", str(tmp_path / "large.py"))
    assert code == 2
    assert re.fullmatch(r"error: out of memory on the device \(RESOURCE_EXHAUSTED: .*\); compute fewer .*\n", output)
