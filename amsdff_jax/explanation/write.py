"""From a model folder and texts to a page and a file of numbers."""

import logging
from collections.abc import Sequence
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import model_name, to_json, user_errors, user_path, write_text
from amsdff_jax.explanation.explain import Explainer, Explanation
from amsdff_jax.explanation.facts import answer, comparison_facts, text_facts
from amsdff_jax.models.model_folder import read_model_folder
from amsdff_jax.reporting.render import render

logger = logging.getLogger(__name__)


def write_explanations(
    folder: str | Path,
    texts: Sequence[str],
    page: str | Path,
    *,
    numbers: str | Path = "",
    class_name: str = "",
    compare: bool = False,
) -> None:
    """Explains texts and writes the page.

    Args:
      folder: a model folder.
      texts: at least one, exactly two to be compared.
      page: the HTML file.
      numbers: a JSON file of the same, an object for every text; "": none.
      class_name: the class to explain; "": the one that wins for each text, or for the first one of two that are
        compared. Of a model of several labels a text all labels of each text, unless texts are compared.
      compare: put the two texts side by side, explained for the same class.

    Raises:
      UserError: anything wrong with texts, model, class or files.
    """
    if not texts:
        raise UserError('no text to explain; give one or more, in quotes: "a text" "another text"')
    if compare and len(texts) != 2:
        raise UserError(f"--compare: takes two texts, got {len(texts)}")
    files = {kind: user_path(file) for kind, file in (("page", page), ("numbers", numbers)) if str(file)}
    if not files:
        raise UserError("expected a file for the page, or for the numbers")
    for file in files.values():
        _check_writable(file)
    if len({file.resolve() for file in files.values()}) < len(files):
        raise UserError(f"{files['page']}: the same file for the page and the numbers; name another for either")
    explainer = Explainer(read_model_folder(folder))
    explanations = []
    for number, text in enumerate(texts, start=1):
        one = compare or class_name
        for explanation in [explainer.explain(text, class_name)] if one else explainer.explain_labels(text):
            if compare:
                class_name = explanation.class_names[explanation.target]
            attributions = explanation.attributions
            index = explanation.winner if explanation.task == "single" else explanation.target
            said, probability = explanation.class_names[index], explanation.probabilities[index]
            logger.info(
                f"text {number} of {len(texts)}: {said} {100 * probability:.1f} %; completeness error "
                f"{100 * attributions.relative_error:.2f} % with gradients at {attributions.gradients} points"
            )
            explanations.append(explanation)
    contents = {
        "page": make_page(explanations, model_name(folder), compare),
        "numbers": to_json([explanation.to_dict() for explanation in explanations], indent=2) + "\n",
    }
    for kind, file in files.items():
        with user_errors(file, "written", "choose another file"):
            write_text(file, contents[kind])
        logger.info("written: %s", file)


def make_page(explanations: Sequence[Explanation], model: str, compare: bool = False) -> str:
    """One or more texts as an HTML page that needs nothing else: no script, no font, no picture from elsewhere.

    Args:
      explanations: of texts by the same model.
      model: what the page calls the model.
      compare: put two texts side by side, below a table of what differs. Both must explain the same class.
    """
    first = explanations[0]
    several = first.task == "multi_label"
    names = ", ".join(first.class_names)
    return render(
        "explanation.html.j2",
        model=model,
        labels=list(dict.fromkeys(map(answer, explanations[:3]))) if several else list(map(answer, explanations[:3])),
        several=several,
        classes=f"a classifier of the kind “{first.model_name}” with {len(first.class_names)} classes: {names}",
        texts=[text_facts(explanation) for explanation in explanations],
        comparison=comparison_facts(*explanations) if compare else None,
    )


def make_cell(explanation: Explanation) -> str:
    """The probabilities and the shaded words of one text, as HTML for a notebook."""
    facts = text_facts(explanation)
    return render("notebook.html.j2", classes=facts["classes"], words=facts["words"], target=facts["target"], notes=[])


def _check_writable(file: Path) -> None:
    """Raises `UserError` before anything is computed in vain."""
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name a file in it")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}; make it, or choose another")
