"""The train step that is lowered without weights and texts."""

import jax
import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config, EncoderConfig
from amsdff_jax.models.registry import MODELS
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.parallel import data_parallel
from amsdff_jax.parallel.data_parallel import DataParallel
from amsdff_jax.training import lowering
from amsdff_jax.training.lowering import lower_train_step

ENCODER = EncoderConfig(vocab_size=31, max_position_embeddings=16, dim=24, n_layers=1, n_heads=3, hidden_dim=20)


def abstract_linear(config):
    return abstract_model(lambda rngs: MODELS["linear"](config.model, ENCODER, rngs=rngs, platform="cpu"))


@pytest.mark.parametrize("mode", ["sharded", "fsdp"])
def test_it_is_the_step_of_a_run(mode, tiny_trainer, monkeypatch):
    monkeypatch.setattr(data_parallel, "SMALLEST_SPLIT", 500)
    trainer = tiny_trainer(devices=jax.devices()[:2], parallel__mode=mode)
    monkeypatch.setattr(lowering, "STEPS", trainer.total_steps)
    kind, batch = type(trainer.model), next(iter(trainer.stream.batches(0, 1)))
    model = abstract_model(
        lambda rngs: kind(trainer.config.model, trainer.model.encoder_config, rngs=rngs, platform="cpu")
    )
    lowered, state = lower_train_step(
        model, trainer.config, DataParallel(mode, jax.devices()[:2]), batch.input_ids.shape[1]
    )
    of_run = trainer.train_step._function.lower(trainer.state, batch, trainer.key)
    assert lowered.as_text() == of_run.as_text()
    described = [
        jax.tree.map(lambda array: (array.shape, array.dtype, array.sharding), one) for one in (trainer.state, state)
    ]
    assert described[0] == described[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parallel__mode": "pmap"}, "pmap compiles only for devices that are here; expected sharded or fsdp"),
        ({"train__batch_size": 9}, "train.batch_size: 9 texts do not divide evenly over 8 devices"),
    ],
)
def test_what_cannot_be_lowered_is_refused(changes, message):
    config = Config().replace(model={"name": "linear", "num_classes": 3}, **changes)
    with pytest.raises(UserError, match=message):
        lower_train_step(abstract_linear(config), config, DataParallel(config.parallel.mode), 8)
