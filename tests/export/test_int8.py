"""Exports in int8: kept where labels say that they lose little, and refused where they do not."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import DataConfig
from amsdff_jax.export import int8
from amsdff_jax.export.exporter import describe_quantization, describe_verification, export_model
from amsdff_jax.export.formats import FORMATS
from amsdff_jax.export.int8 import Quality, dense_layers, quantize
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from amsdff_jax.prediction.classifier import Classifier
from tests.conftest import make_texts, write_csv, write_json_lines
from tests.export.test_export import CLASSES, make_folder

for module in FORMATS["onnx"].needs:
    pytest.importorskip(module, reason=f"onnx needs {module}")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model_folder(tiny_encoder, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("int8") / "model", tiny_encoder)


@pytest.fixture(scope="module")
def float_graph(model_folder, tmp_path_factory):
    from amsdff_jax.export.onnx_graph import GRAPH, write_onnx

    folder = tmp_path_factory.mktemp("float32")
    write_onnx(read_model_folder(model_folder, compute_dtype="float32", attention="xla"), folder)
    return folder / GRAPH


@pytest.fixture(scope="module")
def labelled(model_folder, tmp_path_factory):
    """60 texts with what the model says of them, so that float32 is right everywhere."""
    texts, _ = make_texts(60, 3)
    predictions = Classifier.from_pretrained(model_folder, compute_dtype="float32").predict(texts)
    file = tmp_path_factory.mktemp("int8") / "texts.csv"
    return str(write_csv(file, texts, [prediction.label for prediction in predictions]))


def test_dense_layers_are_quantized_and_the_rest_stays(model_folder, labelled, tmp_path):
    import onnx

    with open(labelled, newline="") as stream:  # the same as probabilities, of which the likeliest class counts
        texts, labels = zip(*((row["text"], row["label"]) for row in csv.DictReader(stream)), strict=True)
    probabilities = np.where(np.array(labels)[:, None] == np.array(CLASSES), 0.8, 0.1)
    rows = [dict(zip(("text", *CLASSES), row, strict=True)) for row in zip(texts, *probabilities.T, strict=True)]
    soft = tmp_path / "soft.jsonl"
    soft.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(label_columns=",".join(CLASSES))
    verification = export_model(model_folder, tmp_path / "int8", "onnx", str(soft), data, max_loss=0.2)
    found = verification.quantization
    assert verification.accepted and found.before.accuracy == 1.0
    assert found.before.loss(found.after) <= 0.2
    graph = onnx.load(tmp_path / "int8/model.onnx")
    kinds = [node.op_type for node in graph.graph.node]
    assert "MatMulInteger" in kinds
    assert any(node.op_type == "MatMul" for node in graph.graph.node)  # those of attention have no weights
    assert {path.name for path in (tmp_path / "int8").glob("*.onnx")} == {"model.onnx"}
    assert (tmp_path / "int8/README.md").read_text().count("int8") >= 2
    assert "accuracy 1.0000 to" in describe_verification(verification)


def test_a_broken_quantization_is_refused(float_graph, labelled, tmp_path, monkeypatch):
    import onnx
    import onnxruntime

    write = int8.write_int8

    def with_zeros(graph, output, in_float):
        write(graph, output, in_float)
        model = onnx.load(output)
        for tensor in model.graph.initializer:
            if tensor.name.endswith("_scale"):
                zeros = np.zeros(tuple(tensor.dims), np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
        onnx.save(model, output)

    def run(graph, rows):
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        return session.run(["logits"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][
            slice(None) if rows is None else rows
        ]

    monkeypatch.setattr(int8, "write_int8", with_zeros)
    graph = shutil.copy(float_graph, tmp_path)
    ids = np.random.default_rng(0).integers(5, 40, (90, 7))
    logits = run(graph, None)
    found = quantize(Path(graph), logits.argmax(axis=-1), logits, 1.0, 0.005, 7, run)
    assert not found.accepted and found.before.accuracy == 1.0 and len(found.in_float) == found.layers // 2
    assert "more than 0.005 lost, so nothing was exported" in describe_quantization(found)
    assert Path(graph).read_bytes() == float_graph.read_bytes()
    assert [path.name for path in tmp_path.glob("*.onnx")] == [float_graph.name]


def is_in_float(graph, layer):
    """Whether all nodes of a layer still multiply what they are given: a Gemm is a MatMul and an Add then."""
    import onnx

    nodes = {node.name for node in onnx.load(graph).graph.node if node.op_type in ("MatMul", "Gemm")}
    return all(name in nodes or f"{name}_MatMul" in nodes for name in layer)


def test_layers_that_do_not_bear_it_stay_in_float(float_graph, tmp_path):
    graph = tmp_path / float_graph.name
    layers = dense_layers(float_graph)
    assert {"classifier", "dynamic_fusion", "transformer.transformer.layer.0"} <= layers.keys()
    labels = np.arange(90, dtype=np.int32) % len(CLASSES)
    right = np.eye(len(CLASSES), dtype=np.float32)[labels] * 9
    for number, stay in enumerate([0, 1, 2, 3]):
        fragile = list(layers)[-number:] if number else []
        shutil.copy(float_graph, graph)

        def run(file, rows, fragile=fragile):
            """Right answers, but wrong ones for ten texts more with every fragile layer that is quantized."""
            quantized = sum(not is_in_float(file, layers[name]) for name in fragile)
            wrong = np.arange(90)[:, None] < 10 * quantized
            logits = np.where(wrong, np.roll(right, 1, axis=1), right)
            return logits if rows is None else logits[rows]

        found = quantize(graph, labels, right, 1.0, 0.005, 7, run)
        assert found.accepted and set(fragile) <= set(found.in_float) and len(found.in_float) == stay
        assert all(is_in_float(graph, layers[name]) == (name in found.in_float) for name in layers)
        assert [path.name for path in tmp_path.glob("*.onnx")] == [graph.name]


def test_the_largest_loss_counts():
    before = Quality(0.9, 0.8, 0.05)
    assert before.loss(Quality(0.91, 0.81, 0.04)) < 0
    assert before.loss(Quality(0.9, 0.7, 0.05)) == pytest.approx(0.1)
    assert before.loss(Quality(0.9, 0.8, 0.25)) == pytest.approx(0.2)


def test_mistakes_are_one_line(model_folder, labelled, tmp_path):
    def told(*arguments, folder=model_folder, max_loss=0.1):
        with pytest.raises(UserError) as raised:
            export_model(folder, tmp_path / "out", *arguments, max_loss=max_loss)
        assert not (tmp_path / "out").exists()
        return str(raised.value)

    assert told("stablehlo", labelled) == "--int8: is for --format=onnx, got stablehlo"
    assert told("onnx").startswith("--int8: needs --file=FILE of labelled texts")
    assert "--max_loss: expected a share from 0 to below 1, got 1.5" in told("onnx", labelled, max_loss=1.5)
    lists = write_json_lines(tmp_path / "lists.jsonl", [("w1 w2", ["low"]), ("w3", ["high", "low"])])
    assert "lists.jsonl: has " in told("onnx", lists)
    saved = read_model_folder(model_folder)
    save_model(tmp_path / "several", SavedModel(saved.model, saved.tokenizer, CLASSES, 24, task="multi_label"))
    assert "one class, and this is multi_label" in told("onnx", labelled, folder=tmp_path / "several")
