"""Imports run one way: a file imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the ground up. What stands on one line does not import each other.
FLOORS = [
    ["escaping", "terminal"],
    [
        "errors",
        "paths",
        "regular_file",
        "file_lock",
        "interop.torch_architecture",
        "export.run_loader",
        "export.loaders.stablehlo",
        "export.loaders.safetensors",
        "export.loaders.onnx",
    ],
    ["cache", "validation", "json_file", "parallel.forks"],
    ["class_weights", "records"],
    ["arguments", "config", "export.output_folder", "parallel.hosts"],
    [
        "idle_settings",
        "data.chunks",
        "data.normalizer_growth",
        "data.dataset",
        "data.labels",
        "data.lines",
        "data.rows",
        "data.signatures",
        "evaluation.significance",
        "evaluation.calibration",
        "parallel.data_parallel",
        "data.prefetch",
        "parallel.compilation",
        "models.backend",
        "models.dropout",
        "models.matmul",
        "interop.state_dict",
        "interop.torch_pickle",
        "interop.safetensors_file",
    ],
    ["data.json_rows", "data.parquet", "data.suspect_labels", "data.tables"],
    [
        "data.files",
        "data.folds",
        "data.texts",
        "parallel.stop_vote",
        "data.tokenization",
        "models.layers",
        "interop.torch_checkpoint",
        "training.losses",
        "training.optimizer",
    ],
    [
        "data.prepare",
        "data.batches",
        "data.token_cache",
        "models.attention",
        "models.fusion",
        "models.recurrent",
        "interop.tensor_files",
    ],
    ["data.sources", "models.encoder", "models.multi_scale", "models.pooling", "interop.encoder_files", "interop.hub"],
    ["models.pretrained", "interop.weights_file"],
    [
        "models.data_dependent_init",
        "models.baselines",
        "training.step",
        "training.initialization",
        "interop.dimensions",
        "interop.optimizer_state",
    ],
    ["models.amsdff"],
    ["models.catalogue"],
    ["interop.model_folder", "evaluation.inference", "evaluation.environment", "evaluation.drawing"],
    ["evaluation.evaluator", "interop.torch_model", "export.formats", "export.stablehlo", "export.torch_safetensors"],
    ["evaluation.metrics", "evaluation.plots", "evaluation.card_text", "export.verification"],
    ["evaluation.model_card", "export.onnx_graph", "export.readme"],
    ["export.exporter"],
    [
        "evaluation.report",
        "training.checkpoint",
        "training.inputs",
        "training.progress",
        "training.run_log",
        "training.display",
    ],
    ["training.workdir", "training.recorder", "training.checks"],
    ["training.torch_state"],
    ["training.trainer"],
    ["interop.convert", "interop.verify"],
    [
        "explanation.style",
        "explanation.html",
        "explanation.reading",
        "explanation.attributions",
        "explanation.ablation",
    ],
    ["explanation.explain"],
    ["classifier", "explanation.sections"],
    ["prediction.inputs"],
    ["prediction.calibrate_model", "prediction.lines", "prediction.progress"],
    ["prediction.outputs"],
    ["prediction.run"],
    ["explanation.page"],
    ["explanation.write"],
    ["inspection.min_hash", "inspection.normalization", "inspection.style"],
    ["inspection.corpus"],
    ["inspection.class_balance", "inspection.distinct_texts", "inspection.encodings", "inspection.writing_systems"],
    ["inspection.lengths", "inspection.similar_texts"],
    ["inspection.charts", "inspection.duplicates"],
    ["inspection.findings"],
    ["inspection.results"],
    ["inspection.tables"],
    ["inspection.page", "inspection.terminal"],
    ["inspection.inspect"],
    ["runs", "command_line", "experiments.settings", "experiments.features"],
    ["experiments.record"],
    [
        "reproducibility",
        "scaling",
        "benchmark.workload",
        "experiments.tfidf",
        "experiments.finetuned",
        "experiments.frozen",
        "experiments.analysis",
    ],
    ["experiments.experiment", "experiments.tables"],
    ["experiments.charts"],
    ["experiments.report"],
    ["benchmark.jax_side", "benchmark.torch_side", "benchmark.compare"],
    ["__init__"],
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}
FILES = {
    ".".join(file.relative_to(ROOT / "amsdff_jax").with_suffix("").parts): file
    for file in sorted((ROOT / "amsdff_jax").rglob("*.py"))
    if file.name != "__init__.py" or file.parent.name == "amsdff_jax"
}


def imported_modules(file: Path) -> set[str]:
    """The modules of the package that a file imports, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("amsdff_jax"):
            found.add(node.module.removeprefix("amsdff_jax").removeprefix(".") or "__init__")
        elif isinstance(node, ast.Import):
            found |= {name.name.removeprefix("amsdff_jax.") for name in node.names if "amsdff_jax" in name.name}
    return found


def test_every_file_has_a_floor():
    assert set(FILES) == set(FLOOR_OF)


@pytest.mark.parametrize("name", FILES)
def test_imports_only_from_below(name):
    for module in imported_modules(FILES[name]):
        assert FLOOR_OF[module] < FLOOR_OF[name], f"{name} imports {module}"


# Nothing else imports these but where PyTorch is asked for; an export's loader is copied, never imported.
USERS_OF_PYTORCH = {
    "interop.torch_architecture", "interop.torch_model", "benchmark.torch_side", "export.onnx_graph",
    "export.loaders.safetensors",
}  # fmt: skip


def test_only_the_twin_and_its_users_import_pytorch_and_nothing_tensorflow():
    for name, file in FILES.items():
        if name in USERS_OF_PYTORCH:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {module.split(".")[0] for module in names} & {"torch", "tensorflow"}, name


def test_one_function_expands_the_tilde():
    alone = {"paths", "interop.torch_architecture"}  # the second is a file for others to take away
    assert not [name for name, file in FILES.items() if "expanduser" in file.read_text("utf-8") and name not in alone]


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.py")), ids=lambda file: file.name)
def test_scripts_are_flags_and_one_call(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60
