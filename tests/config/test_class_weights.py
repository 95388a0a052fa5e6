"""The forms of `loss.class_weights`."""

import dataclasses
import json

import numpy as np
import pytest

from amsdff_jax import Config, UserError
from amsdff_jax.config import LossConfig


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""), ("balanced", "balanced"), ("(1, 2.5)", (1.0, 2.5)), ([1, 2.5], (1.0, 2.5)),
        (np.array([1, 2.5], np.float32), (1.0, 2.5)),
        ("{pos:2, neg:1}", (("neg", 1.0), ("pos", 2.0))),
        ({"pos": 2, "neg": 1.0}, (("neg", 1.0), ("pos", 2.0))),
        ([["neg", 1], ["pos", 2]], (("neg", 1.0), ("pos", 2.0))),
        ({0: 1, 1: 2}, (("0", 1.0), ("1", 2.0))),
        ("{1_1: 1, 11: 2, 011: 3}", (("011", 3.0), ("11", 2.0), ("1_1", 1.0))),
        ("{no: 1, Sci/Tech: 2e-1, a b: 3, 'c, d': 4, \"e: f\": 5, g:h: 6}",
         (("Sci/Tech", 0.2), ("a b", 3.0), ("c, d", 4.0), ("e: f", 5.0), ("g:h", 6.0), ("no", 1.0))),
    ],
)  # fmt: skip
def test_every_form_is_the_same_after_json_and_from_the_command_line(given, expected):
    config = Config.from_dict({"loss": {"class_weights": given}})
    assert config.loss.class_weights == LossConfig(class_weights=given).class_weights == expected
    assert Config().replace(loss__class_weights=given) == config
    again = Config.from_dict(json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert hash(again) == hash(config)


@pytest.mark.parametrize(
    "given",
    ["1.0,2.0", "pos:2", "{neg:1", "{}", "{neg}", "{neg:x}", "{neg:-1}", "{neg: nan}", "(1, 'x')",
     "(1, inf)", "((", "[" * 500, [1, "x"], [["neg", 1], 2], [1, True], [float("inf")], 5, None, {"neg": "heavy"}],
)  # fmt: skip
def test_what_is_no_form_is_told_with_the_forms(given):
    with pytest.raises(
        UserError, match=r"loss\.class_weights: expected 'balanced', .*'\(1\.0, 2\.0\)'.*'{neg: 1\.0, pos"
    ):
        Config.from_dict({"loss": {"class_weights": given}})


def test_a_class_has_one_weight():
    with pytest.raises(UserError, match=r"loss\.class_weights: expected every class once, got '{a:1, a:2}'"):
        LossConfig(class_weights="{a:1, a:2}")
