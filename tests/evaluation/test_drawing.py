"""Pictures show names as they are, and one that fails is a line in the log."""

import logging
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from amsdff_jax.evaluation.drawing import FONT, draw
from amsdff_jax.evaluation.plots import plot_confusion_matrix

STRANGE = {
    "mathematics": ("A$$AP", "$10 to $50_", "$\\frac{$"),
    "scripts": ("体育新闻", "مرحبا بالعالم", "😀"),
    "long": ("word " * 40, "W" * 200, "新" * 200),
    "controls": ("\x1b[31m\u202e", "a\nb", "\ud800"),
    "many": tuple(f"a class with a rather long name, number {number}" for number in range(40)),
}


@pytest.fixture
def drawn(tmp_path, caplog):
    """Draws a confusion matrix; returns its figure and the lines of the log."""

    def run(names):
        figures = []

        def plot(*arguments):
            figures.append(plot_confusion_matrix(*arguments))
            return figures[0]

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw(tmp_path / "matrix.png", names, plot, np.eye(len(names), dtype=int), names)
        assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
        return figures[0], caplog.messages

    return run


@pytest.mark.parametrize("names", STRANGE.values(), ids=STRANGE)
def test_any_name_is_drawn_and_leaves_room(names, drawn):
    figure, log = drawn(names)
    assert len(log) <= 1 and all("no installed font has" in line for line in log)
    size = figure.axes[0].get_position().size * figure.get_size_inches()
    assert min(size) > 1.5
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert len(labels) == len(names)
        for label, name in zip(labels, names, strict=True):
            assert label == name or len(name) > 30 or not name.isprintable()
            assert label.isprintable() and len(label) <= 40


def test_settings_of_this_machine_change_nothing(drawn, tmp_path):
    drawn(STRANGE["mathematics"])
    picture = (tmp_path / "matrix.png").read_bytes()
    with matplotlib.rc_context({"text.usetex": True, "font.family": "monospace", "figure.facecolor": "red"}):
        figure, _ = drawn(STRANGE["mathematics"])
    assert (tmp_path / "matrix.png").read_bytes() == picture
    assert not any(text.get_usetex() or text.get_parse_math() for text in figure.findobj(Text))


def test_a_font_that_has_the_letters_is_found(drawn, monkeypatch):
    other = font_manager.findfont("STIXGeneral")
    letters = FT2Font(other).get_charmap().keys() - FT2Font(font_manager.findfont(FONT)).get_charmap().keys()
    letter = next(letter for letter in map(chr, sorted(letters)) if letter.isprintable())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["gone.ttf", other])
    figure, log = drawn((letter, "b"))
    assert not log
    assert "STIXGeneral" in figure.axes[0].get_xticklabels()[0].get_fontfamily()
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    _, log = drawn((f"{letter}{letter}", "b", letter, "another"))
    assert log == [f"no installed font has the letters {letter}, which pictures show as boxes"]


def test_a_picture_that_fails_is_one_line_and_no_file(tmp_path, caplog):
    file = tmp_path / "learning_curves.png"
    file.write_text("an older one")
    with caplog.at_level(logging.WARNING):
        draw(file, (), lambda: np.linalg.inv(np.zeros((2, 2))))
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith(f"{file}: this picture cannot be drawn")
    assert not file.exists()
