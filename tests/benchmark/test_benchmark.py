"""The benchmark runs, says what it measured, and notices when the two sides compute different things."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from amsdff_jax import EnhancedAMSDFF
from amsdff_jax.benchmark.compare import compare, print_comparison
from amsdff_jax.benchmark.jax_side import matrix_operations
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.conftest import TINY_HEAD

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.expensive]


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, **TINY_HEAD)
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), ("high", "low"), 24))
    return tmp_path / "model"


def test_both_sides_agree_and_every_number_is_there(folder, tiny_config, tmp_path):
    results = tmp_path / "numbers.json"
    command = [
        sys.executable, "scripts/benchmark.py", f"--model={folder}", "--shapes=3x8,2x16", "--rounds=1", "--steps=1",
        f"--json={results}", "--config=configs/files.py", "--epoch_texts=30", "--config.train.batch_size=10",
        f"--config.data.train_file={tiny_config.data.train_file}", "--config.data.max_length=24",
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    numbers = json.loads(results.read_text())
    assert numbers["agree"] and numbers["differences"]["float32 3x8"] < 1e-4
    assert set(numbers["results"]) == {
        f"{side} {dtype}" for side in ("jax", "torch") for dtype in ("float32", "bfloat16")
    }
    for measured in numbers["results"].values():
        assert all(measured[shape][what] > 0 for shape in ("3x8", "2x16") for what in ("train", "inference"))
    assert {epoch["texts"] for epoch in numbers["epochs"].values()} == {30}
    assert len(numbers["epochs"]) == 3 and numbers["epochs"]["jax"]["start_to_first_step"] > 0
    assert "torch, padded to max_length" in finished.stdout


def test_other_weights_on_one_side_are_noticed(folder, monkeypatch, capsys):
    from amsdff_jax.benchmark import compare as module

    run = module._run

    def with_other_weights_in_torch(side, workload, directory):
        file = folder / "model.safetensors"
        kept = file.read_bytes()
        if side == "torch":
            tensors = load_file(file)
            tensors["classifier.8.bias"] = tensors["classifier.8.bias"] + np.float32(0.3)
            save_file(tensors, file)
        try:
            return run(side, workload, directory)
        finally:
            file.write_bytes(kept)

    monkeypatch.setattr(module, "_run", with_other_weights_in_torch)
    comparison = compare(folder, [(2, 8)], rounds=1, steps=1, epoch_config=None, epoch_texts=0)
    assert not comparison["agree"]
    assert comparison["differences"]["float32 2x8"] == pytest.approx(0.3, abs=1e-3)
    print_comparison(comparison)
    assert "float32 2x8" in capsys.readouterr().out


def test_operations_are_counted_by_hand():
    sizes = EncoderConfig(vocab_size=9, max_position_embeddings=8, dim=12, n_layers=1, n_heads=3, hidden_dim=20)
    config = ModelConfig(num_classes=2, kernel_sizes=(1, 3), num_experts=2, num_attention_heads=2)
    model = EnhancedAMSDFF(config, sizes, rngs=nnx.Rngs(0))
    h = 12
    per_token = 4 * h * h + 2 * h * 20  # encoder
    per_token += h * h + h * h + 4 * h * h + h * h  # enhancer; pointwise; scale fusion; output projection
    per_token += 2 * 2 * h * h + h * 6 + 6 + 4 * h * h  # experts; attention pool; learned query
    per_text = 2 * h + 3 * h * h + h * h + h * 6 + 6 * 3 + 3 * 2  # gate; pooling fusion; classifier
    attention = 2 * 4 * 5 * 7**2 * h  # two self-attentions over five texts of seven tokens
    assert matrix_operations(model, (5, 7)) == 2 * 5 * (7 * per_token + per_text) + attention
