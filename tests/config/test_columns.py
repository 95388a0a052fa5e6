"""Several columns in one setting."""

import pytest

from amsdff_jax import Config, UserError
from amsdff_jax.config.columns import split_columns, write_columns


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("", ()),
        ("text", ("text",)),
        ("title,body", ("title", "body")),
        ('"last, first",body', ("last, first", "body")),
        ('"a,b"', ("a,b",)),
        ('say "hi"', ('say "hi"',)),
        (" padded ", (" padded ",)),
    ],
)
def test_names_are_separated_as_in_csv(setting, names):
    assert split_columns(setting) == names


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a,b", 'c"d', '"e"'], ["two\nlines", "x"]])
def test_any_names_can_be_written(names):
    assert split_columns(write_columns(names)) == tuple(names)


@pytest.mark.parametrize("field", ["text_column", "text_pair_column"])
@pytest.mark.parametrize("setting", ["title,", ",", '"title', '"a"b,c'])
def test_a_setting_that_names_no_columns_is_one_line(field, setting):
    with pytest.raises(UserError, match=f"^data.{field}: expected a column, or several such as title,body") as caught:
        Config().replace(data={field: setting})
    assert "\n" not in str(caught.value)


def test_there_is_a_text_column():
    with pytest.raises(UserError, match=r"^data\.text_column: expected the name of a column, got ''"):
        Config().replace(data__text_column="")
