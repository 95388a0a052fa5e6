"""A tiny encoder of every family, as transformers' `config.json` would say."""

import pytest

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT_SIZES = {
    "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 28,
    "max_position_embeddings": 21, "layer_norm_eps": 1e-5, "pad_token_id": 1, **NO_DROPOUT,
}  # fmt: skip

TINY = {
    "distilbert": {
        "model_type": "distilbert", "vocab_size": 37, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 28,
        "max_position_embeddings": 21, "dropout": 0.0, "attention_dropout": 0.0,
    },
    "roberta": {"model_type": "roberta", "type_vocab_size": 2, **BERT_SIZES},
    "electra": {"model_type": "electra", "type_vocab_size": 2, **BERT_SIZES, "embedding_size": 11},
    "mpnet": {"model_type": "mpnet", **BERT_SIZES},
    "modernbert": {
        "model_type": "modernbert", "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 28, "max_position_embeddings": 21, "pad_token_id": 1,
        "local_attention": 5, "global_attn_every_n_layers": 2, "bos_token_id": 2, "eos_token_id": 2,
        "cls_token_id": 2, "sep_token_id": 2,
    },
    "deberta-v2": {
        "model_type": "deberta-v2", **BERT_SIZES, "relative_attention": True, "share_att_key": True,
        "pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
        "position_buckets": 8,
    },
}  # fmt: skip
BERT = {"model_type": "bert", "type_vocab_size": 2, **BERT_SIZES, "layer_norm_eps": 1e-12, "pad_token_id": 0}
every_family = pytest.mark.parametrize("family", TINY)
new_families = pytest.mark.parametrize("family", [family for family in TINY if family != "distilbert"])


def same_on_padding(family: str) -> bool:
    """Whether transformers encodes padding as we do. Its ModernBERT did not before it made masks like other models.

    What differs are tokens of padding with nothing but padding in reach, which say nothing in either form.
    """
    from transformers.models.modernbert import modeling_modernbert

    return family != "modernbert" or hasattr(modeling_modernbert, "create_bidirectional_sliding_window_mask")
