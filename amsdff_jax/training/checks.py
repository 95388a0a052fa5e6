"""What must hold between settings, model and data before a run begins."""

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import nearest
from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.evaluation.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER
from amsdff_jax.models.pretrained import PretrainedClassifier


def check_run(model: PretrainedClassifier, config: Config, train_data: TextDataset, val_data: TextDataset) -> None:
    """Raises `UserError` unless settings, model and data go together."""
    known = sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER)
    if config.train.best_metric not in known:
        raise UserError(
            f"train.best_metric: no metric {config.train.best_metric!r}{nearest(config.train.best_metric, known)}; "
            f"there are {', '.join(known)}"
        )
    val_data.require_classes(train_data.class_names, train_data.name)
    if (train_data.text_pairs is None) != (val_data.text_pairs is None):
        with_pairs, without = (train_data, val_data) if val_data.text_pairs is None else (val_data, train_data)
        raise UserError(f"{without.name}: holds single texts, but {with_pairs.name} pairs of texts; expected the same")
    classes, positions = model.config.num_classes, model.encoder_config.max_position_embeddings
    if classes != len(train_data.class_names):
        raise UserError(
            f"model.num_classes: the model has {classes}, but {train_data.name} has {len(train_data.class_names)}"
        )
    if config.data.max_length > positions:
        raise UserError(
            f"data.max_length: expected at most {positions}, the encoder's positions, got {config.data.max_length}"
        )
