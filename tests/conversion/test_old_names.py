"""What model cards and scripts of earlier versions import stays importable."""


def test_names_of_earlier_model_cards(torch):
    import amsdff_jax
    from amsdff_jax.data.tokenization import load_tokenizer
    from amsdff_jax.interop.torch_model import TorchClassifier, make_adamw

    assert TorchClassifier is amsdff_jax.TorchClassifier
    assert load_tokenizer is amsdff_jax.load_tokenizer
    assert callable(make_adamw)


def test_names_of_earlier_scripts():
    import amsdff_jax
    from amsdff_jax.config import DataConfig, default_config
    from amsdff_jax.data.dataset import TextDataset, stratified_split
    from amsdff_jax.data.files import read_file
    from amsdff_jax.data.sources import load_data
    from amsdff_jax.errors import UserError
    from amsdff_jax.runs import evaluate_model, evaluate_run, make_trainer, train_run

    assert (UserError, read_file, load_data) == (amsdff_jax.UserError, amsdff_jax.read_file, amsdff_jax.load_data)
    assert (TextDataset, default_config) == (amsdff_jax.TextDataset, amsdff_jax.default_config)
    assert all(map(callable, (DataConfig, stratified_split, evaluate_model, evaluate_run, make_trainer, train_run)))
