"""What the operating system says of the processor."""

import functools
from pathlib import Path


@functools.cache
def processor_info() -> dict[str, str]:
    """What Linux says of the first core, such as its "model name" and "flags"; elsewhere nothing."""
    try:
        first, *_ = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
