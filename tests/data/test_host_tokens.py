"""Several processes that tokenize texts together know what one that tokenizes all of them knows, and end together."""

import pytest

from tests.processes import ROOT, Script, free_port

pytestmark = [pytest.mark.slow, pytest.mark.interruption]  # processes of their own


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_texts_and_the_errors(processes, tiny_encoder, tmp_path):
    address, script = f"127.0.0.1:{free_port()}", f"{ROOT}/tests/data/share_texts.py"
    scripts = [
        Script(tmp_path / f"{number}.txt", script, address, str(processes), str(number), str(tiny_encoder),
               JAX_NUM_CPU_DEVICES="1")
        for number in range(processes)
    ]  # fmt: skip
    for number, script in enumerate(scripts):
        assert script.wait() == 0, script.output
        way_out = "than process 0; give all processes the same files and flags"
        failure = f"process {processes - 1} had to stop, as its own message says"
        if number == processes - 1:
            failure = f"the tokenizer cannot read one of the texts {2 * processes - 1} to {2 * processes} ("
        others = [f"process 1 has other {what} {way_out}" for what in ("texts or labels in data", "tokenizer")]
        for line in (*others, failure):
            assert f"\n{line}" in f"\n{script.output}", script.output
