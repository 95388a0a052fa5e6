import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.inspection.findings import share
from amsdff_jax.inspection.inspect import inspect_data, inspect_splits
from amsdff_jax.inspection.show import mark_differences, print_inspection, render_page
from tests.conftest import make_texts, write_csv
from tests.inspection.test_duplicates import LONG, ONE_CHANGED, OTHERS
from tests.processes import ROOT, run_script

HOSTILE = 'w1 <script src="http://example.org/x.js">alert(1)</script> [bold]w2[/bold] & \x1b[31m\u202e\ud800 "w3"'


def dataset(texts, labels=None, names=("A", "B"), pairs=None, name="data"):
    labels = [index % 2 for index in range(len(texts))] if labels is None else labels
    return TextDataset(texts, labels, names, text_pairs=pairs, name=name)


@pytest.fixture
def inspect(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)

    def run(train, validation=None, test=None, **changes):
        config = Config().replace(data__max_length=24, model__encoder=str(tiny_encoder), **changes)
        validation = validation or dataset(make_texts(22, 8)[0], names=train.class_names)
        return inspect_splits(DataSplits(train, validation, test), tokenizer, config)

    return run


def messages(inspection, kind=None):
    return [finding.message for finding in inspection.findings if kind in (None, finding.kind)]


def printed(inspection):
    console = Console(file=io.StringIO(), width=80)
    print_inspection(inspection, console)
    return console.file.getvalue()


@pytest.fixture
def clean():
    # All words differ, so that nothing is like anything.
    def texts(start):
        return [" ".join(f"{word}{start + index}" for word in ("wa", "kob", "zim")) for index in range(24)]

    return dataset(texts(100)), dataset(texts(200)), dataset(texts(300))


def test_texts_in_order_need_no_attention_but_for_the_vocabulary(inspect, clean):
    inspection = inspect(*clean)
    assert all("vocabulary" in message for message in messages(inspection))
    healthy = dataclasses.replace(inspection, findings=())
    assert printed(healthy).startswith("Nothing needs attention")
    assert "Nothing needs attention" in render_page(healthy)


def test_leaks_come_first_with_number_share_and_examples(inspect):
    train = dataset([*OTHERS, LONG, "", ""], labels=[0, 1, 0, 1, 0, 0, 1])
    test = dataset([LONG, OTHERS[1], OTHERS[0].replace("which", "that"), "w1 w2 w3", "w9"], labels=[0, 1, 0, 1, 0])
    inspection = inspect(train, test=test)
    assert messages(inspection)[:2] == [
        "2 texts of the test split are also in the training split (40.0 %)",
        "1 text of the test split is nearly the same as one of the training split (20.0 %)",
    ]
    lines = printed(inspection).splitlines()
    assert lines[0] == "warning: 2 texts of the test split are also in the training split (40.0 %)"
    assert lines[1].startswith("  - test 0 [A] the committee decided")
    assert lines[2].startswith("    train 4 [A] the committee decided")
    assert "2 texts are empty (training 2)" in messages(inspection, "warning")


def test_conflicts_classes_and_cuts_are_told(inspect):
    names = ("A", "B", "C", "D")
    train = dataset(
        [LONG, LONG, ONE_CHANGED, *make_texts(30, 3)[0], " ".join(["w1"] * 500)], [0, 1, 1, *[0, 1] * 15, 2], names
    )
    inspection = inspect(train, dataset(make_texts(20, 4)[0], [0] * 17 + [1, 2, 3], names))
    warnings = messages(inspection, "warning")
    assert "1 text is under more than one label (2 times in all)" in warnings
    assert "1 class has no text in the training split: D" in warnings
    assert "1 class has fewer than 10 training texts: C" in warnings
    assert any(message.startswith("classes are mixed otherwise in the validation split") for message in warnings)
    assert "2 texts of the training split" not in " ".join(warnings)
    notes = messages(inspection, "note")
    assert "1 text of the training split is the same as an earlier one of it (2.9 %)" in notes
    (note,) = (note for note in notes if re.match(r"max_length=24 truncates 1\d\.\d % of the training texts", note))
    assert "of their tokens at the end (data.long_texts=head_tail: in the middle; windows: none); " in note
    (note,) = (note for note in messages(inspect(train, data__long_texts="head_tail"), "note") if "truncates" in note)
    assert "of their tokens in the middle; " in note


def test_classes_that_look_like_slips_are_told(inspect):
    names = ("A", "a", "NULL", "label")
    train = dataset([*make_texts(7, 3)[0], "text"], [0, 1, 2, 3] * 2, names)
    warnings = messages(inspect(train, test=dataset(["text", "other"], [3, 0], names)), "warning")
    assert "1 class reads like a missing value: 'NULL' (2 texts); leave such rows out" in warnings
    assert any(message.endswith("how a number is written: 'A' (2 texts) and 'a' (2 texts)") for message in warnings)
    assert "in the training split 1 row is the header again (7); remove it" in warnings
    assert "in the test split 1 row is the header again (0); remove it" in warnings


def test_texts_in_another_script_are_told(inspect):
    inspection = inspect(dataset([*make_texts(10, 3)[0], "Привет, мир", "Добрый день"]))
    assert "2 texts are mostly in another script than the other 10 of the training split (Cyrillic 2)" in messages(
        inspection
    )


@pytest.mark.parametrize(
    ("number", "total", "expected"),
    [(0, 7, "0 %"), (7, 7, "100 %"), (1, 10**6, "below 0.01 %"), (999_999, 10**6, "above 99.99 %"), (1, 3, "33.3 %"),
     (3, 1000, "0.30 %"), (0, 0, "0 %")],
)  # fmt: skip
def test_a_share_tells_some_from_none_and_all(number, total, expected):
    assert share(number, total) == expected


class Reader(HTMLParser):
    """Tags with their attributes, and whether they are closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_the_page_needs_nothing_else_and_texts_cannot_change_it(inspect):
    names = ("<b>A</b>", "B&B")
    train = dataset([HOSTILE, HOSTILE, "w1", "w2"], [0, 1, 0, 1], names, name='<i>file</i>"x')
    test = dataset([HOSTILE, HOSTILE + " w4"], [0, 1], names)
    inspection = inspect(train, test=test)
    page = render_page(inspection)
    page.encode("utf-8")  # no half of a character
    reader = read(page)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "b", "i"}
    assert not re.search(r"@import|url\(", page)
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        if "href" in attributes:
            assert attributes["href"].startswith("#") and f'id="{attributes["href"][1:]}"' in page, tag
    assert '<script src="http://example.org/x.js">alert(1)</script>' in reader.text
    assert "<b>A</b>" in reader.text and '<i>file</i>"x' in reader.text
    assert r"\x1b[31m\u202e\ud800" in reader.text
    assert "\x1b" not in page and "\u202e" not in page


def test_the_terminal_shows_texts_as_they_are_and_is_not_harmed(inspect):
    output = printed(inspect(dataset([HOSTILE, HOSTILE, "w1", "w2"], [0, 1, 0, 1])))
    assert "[bold]w2[/bold]" in output
    assert "\x1b" not in output and "\u202e" not in output


def test_page_and_terminal_hold_the_same_numbers(inspect):
    inspection = inspect(dataset(make_texts(61, 1)[0]), test=dataset(make_texts(33, 2)[0]))
    page, output = read(render_page(inspection)).text, printed(inspection)
    numbers = {f"{one.tokens:,}" for one in inspection.lengths} | {", ".join(map(str, inspection.buckets[0].lengths))}
    for number in numbers:
        assert number in page and number in output
    histograms = [
        attributes for tag, attributes in read(render_page(inspection)).tags if attributes.get("role") == "img"
    ]
    assert len(histograms) == 3
    assert all(attributes["aria-label"] for attributes in histograms)


def test_differences_are_marked_but_for_where_an_excerpt_is_truncated():
    def marked(*texts):
        versions = mark_differences(*texts)
        return ["".join(f"[{text}]" if differs else text for text, differs in version) for version in versions]

    assert marked("the <old> house", "the new house") == ["the [<old>] house", "the [new] house"]
    assert marked("a b c d", "a b c d") == ["a b c d", "a b c d"]
    assert marked("a b c de…", "a x c def g…") == ["a [b] c de…", "a [x] c def g…"]


def test_pairs_with_and_without_everything(inspect):
    texts, others = make_texts(20, 5)[0], make_texts(20, 6)[0]
    pairs = dataset(texts, pairs=others)
    inspection = inspect(pairs, dataset(texts[:4], pairs=others[:4]), dataset([texts[0]], pairs=[others[1]]))
    assert "4 texts of the validation split are also in the training split (100 %)" in messages(inspection)
    assert not any("of the test split" in message for message in messages(inspection))
    assert others[0] in read(render_page(inspection)).text
    assert f"| {others[0][:20]}" in printed(inspection)


@pytest.fixture
def arguments(tiny_encoder, tmp_path):
    texts, labels = make_texts(60, 0)
    write_csv(tmp_path / "train.csv", texts, labels)
    write_csv(
        tmp_path / "test.csv", [*make_texts(30, 1)[0], texts[0] + " w1 w2 w3"], [*make_texts(30, 1)[1], labels[0]]
    )
    return [
        f"--config={ROOT}/configs/files.py", f"--config.data.train_file={tmp_path}/train.csv",
        f"--config.data.test_file={tmp_path}/test.csv", f"--config.model.encoder={tiny_encoder}",
        "--config.data.max_length=16",
    ]  # fmt: skip


def test_the_script_writes_page_and_json_without_weights(arguments, tiny_encoder, tmp_path):
    folder = tmp_path / "tokenizer only"
    folder.mkdir()
    for file in tiny_encoder.iterdir():
        if file.name != "model.safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    page, numbers = tmp_path / "new" / "page.html", tmp_path / "numbers.json"
    code, output = run_script(
        tmp_path / "log", "inspect_data.py", *arguments, f"--config.model.encoder={folder}", f"--output={page}",
        f"--json={numbers}",
    )  # fmt: skip
    assert code == 0, output
    read(page.read_text(encoding="utf-8"))
    content = json.loads(numbers.read_text(encoding="utf-8"))
    assert content["lengths"][2]["texts"] == 31
    assert content["findings"] and {"kind", "message", "examples"} <= content["findings"][0].keys()
    assert f"{page}" in output
    assert "test split" in output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.model.encoder=nowhere/at/all"], "model.encoder: nowhere/at/all is not a folder"),
        (["--similarity=0.2"], "--similarity: expected from 0.6 to 1, got 0.2"),
        (["--json={folder}/runs/name/page.html"], "page.html is written for another of the flags --output, --json"),
        (["--json={folder}/train.csv"], "train.csv holds the data; name another file"),
        (["--labels", "--apply={folder}/new.csv", "--json={folder}/new.removed.csv"], "is written for another of the"),
        (["--apply=clean.csv"], "--apply: decides nothing without --labels"),
        (["--labels", "--fraction=0.1"], "--fraction: decides nothing without --apply"),
        (["--labels", "--apply={folder}/train.csv"], "train.csv is there already"),
        (["--labels", "--apply={folder}/train.csv/x.csv"], "/train.csv/x.csv: cannot be written"),
        (["--labels", "--apply={folder}/new/x.csv", "--config.data.train_file=gone.csv"], "gone.csv: cannot be read"),
        (["--json={folder}"], "cannot be written (Is a directory)"),
        (["--json={folder}/train.csv/x.json"], "cannot be written"),
        (["--config.data.test_file=gone.csv"], "gone.csv: cannot be read"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, tmp_path, more, message):
    more = [argument.format(folder=tmp_path) for argument in more]
    page = tmp_path / "runs" / "name" / "page.html"
    code, output = run_script(tmp_path / "log", "inspect_data.py", *arguments, f"--output={page}", *more)
    assert code == 2
    assert message in output
    assert len(output.strip().splitlines()) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "test.csv", "train.csv"]


def test_a_full_disk_is_one_line(tiny_config, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("amsdff_jax.inspection.inspect.write_text", refuse)
    with pytest.raises(UserError, match=r"page.html: cannot be written \(No space left on device\)"):
        inspect_data(tiny_config, "name", tmp_path / "page.html")
