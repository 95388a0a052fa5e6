"""What glibc's allocator keeps, in processes of their own: its settings hold for all that comes after."""

import ctypes
import re
import subprocess
import sys
import textwrap

import pytest

from amsdff_jax.base.memory import peak_memory
from tests.processes import ROOT

pytestmark = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="needs glibc"
)


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )


def test_free_memory_between_what_is_used_is_released():
    before, after = run("""
        import re
        from pathlib import Path
        from amsdff_jax.base.memory import release_free_memory

        def resident():
            return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

        blocks = [bytearray(2000) for _ in range(50_000)]
        last = bytearray(2000)  # keeps the heap from shrinking by itself
        del blocks
        print(resident())
        release_free_memory()
        print(resident())
    """).stdout.split()
    assert int(before) - int(after) > 50_000  # of the 100,000 KiB


def test_threads_share_as_many_heaps_as_there_are_cores():
    heaps = run("""
        import ctypes, os, threading
        from amsdff_jax.base.memory import limit_arenas

        os.cpu_count = lambda: 3
        limit_arenas()
        barrier = threading.Barrier(9)

        def work():
            barrier.wait()
            block = bytearray(5000)
            barrier.wait()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        barrier.wait()
        barrier.wait()
        ctypes.CDLL(None).malloc_stats()
    """).stderr
    assert 1 < len(re.findall(r"^Arena \d+:", heaps, re.MULTILINE)) <= 3


def test_the_peak_is_in_bytes():
    assert 50e6 < peak_memory() < 100e9
