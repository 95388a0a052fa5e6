"""What model cards of earlier versions import stays importable."""


def test_names_of_earlier_model_cards(torch):
    import amsdff_jax
    from amsdff_jax.data.tokenization import load_tokenizer
    from amsdff_jax.interop.torch_model import TorchClassifier, make_adamw

    assert TorchClassifier is amsdff_jax.TorchClassifier
    assert load_tokenizer is amsdff_jax.load_tokenizer
    assert callable(make_adamw)
