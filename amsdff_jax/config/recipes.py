"""What the recipes in `configs/` share beside the settings themselves."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_collections import ConfigDict

LAST_LAYER = r"^classifier\.(8\.)?(weight|bias)$"  # of AMSDFF or a baseline, for `train.learning_rate_table`


def leave_out_new_dropout(model: "ConfigDict") -> None:
    """Sets the dropout rates of `config.model` to 0, but for that of attention weights; the encoder's are its own."""
    model.dropout_rate = model.expert_dropout_rate = model.pooling_dropout_rate = 0.0
    model.classifier_dropout_rates = (0.0, 0.0)
