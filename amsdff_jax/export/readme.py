"""The `README.md` of an export: what is in the folder and how to run it."""

from pathlib import Path

import jax

from amsdff_jax.base.escaping import escape_markdown
from amsdff_jax.base.files import write_text
from amsdff_jax.export.verification import TOLERANCE, Verification
from amsdff_jax.models.model_folder import SavedModel

INSTALL = {
    "stablehlo": "pip install jax flatbuffers tokenizers",
    "safetensors": "pip install torch transformers safetensors tokenizers",
    "onnx": "pip install onnxruntime tokenizers",
}

FILES = {
    "stablehlo": {
        "model.stablehlo": "the program, for CPUs, CUDA GPUs and TPUs, as `jax.export` serializes it",
        "weights.npz": "its first argument, float32, BatchNorm folded into the convolutions",
    },
    "safetensors": {
        "model.safetensors": "the state dict, in PyTorch's names",
        "model.py": "the module that it belongs to",
    },
    "onnx": {"model.onnx": "graph and weights, float32, BatchNorm folded into the convolutions"},
}

INPUTS = {
    "stablehlo": "`model(weights, input_ids, attention_mask)` takes int32 arrays and returns the logits",
    "safetensors": "`model(input_ids, attention_mask)` takes int64 tensors and returns a tuple with `.logits` and "
    "every intermediate. The model is in eval mode; `model.train()` fine-tunes it further",
    "onnx": "The graph takes `input_ids` and `attention_mask`, int64, and returns `logits`",
}


def write_readme(
    folder: Path, format: str, saved: SavedModel, temperature: float | None, verification: Verification
) -> None:
    """Writes it, for a folder that is otherwise complete."""
    model = saved.model
    positions = model.encoder_config.max_position_embeddings
    if model.config.mask_padding:
        lengths = f"any number of texts (B) of up to {positions} tokens (S); padding changes nothing"
    else:
        lengths = f"any number of texts (B) of exactly {saved.max_length} tokens (S), padding included"
    names = ", ".join(map(escape_markdown, saved.class_names))
    files = FILES[format] | {
        "load.py": "runs it",
        "tokenizer.json": f"for the `tokenizers` library; cuts to {saved.max_length} tokens and pads",
        "config.json": "names of the classes in the order of the logits, sizes, temperature",
    }
    calibration = "Probabilities are the softmax of the logits. The model was not calibrated."
    if temperature is not None:
        files["calibration.json"] = "the model's calibration, as it was"
        calibration = (
            f"Logits are as the model gives them. `probabilities` divides them by the temperature of the model's "
            f"calibration, {temperature:.4g}; what else `calibration.json` holds is for you to apply."
        )
    compiled = (
        "\nA program is compiled once for every shape of a batch; `tokenizer.json` rounds lengths up to keep these "
        f"few. It was written by jax {jax.__version__}, and `jax.export` promises that the versions of the next six "
        "months run it. On GPUs and TPUs matrix products have JAX's default precision there.\n"
        if format == "stablehlo"
        else ""
    )
    table = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in files.items())
    write_text(
        folder / "README.md",
        f"""# Text classifier, exported as {format}

Tells {len(saved.class_names)} classes apart: {names}.

```
{INSTALL[format]}
python load.py "A first text." "A second text."     # class, probability, text
```

```python
import load                                         # from within this folder

load.logits(["A first text.", "A second text."])    # [B,{len(saved.class_names)}]
load.probabilities(["A first text."])
```

{INPUTS[format]}: {lengths}.
{compiled}
{calibration}

| file | |
|---|---|
{table}

Verified on a CPU with `load.py` before it was written, on {verification.texts} texts of {verification.shortest} to \
{verification.longest} tokens: logits differ from
the model's, in float32, by at most {verification.logits:.1e}, probabilities (at temperature 1) by \
{verification.probabilities:.1e}; {TOLERANCE:g} is allowed.
""",
    )
