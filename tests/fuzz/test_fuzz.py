"""Whatever is wrong with a file, reading it gives a right value or one line, soon and in little memory."""

import pytest

from tests.fuzz.attack import attack
from tests.fuzz.readers import READERS


@pytest.mark.parametrize("number", [90, pytest.param(20_000, marks=pytest.mark.fuzz)])
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_give_a_value_or_one_line(reader, number):
    harms = attack(reader, seed=0, first=0, number=number)
    assert not harms, "\n\n".join(map(str, harms))
