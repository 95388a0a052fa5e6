"""How much a server takes on, and for how long."""

import dataclasses

from amsdff_jax.base.validation import require

LONGEST = 86_400  # of a time, in the unit that it is given in: infinity would never end


@dataclasses.dataclass(frozen=True)
class Limits:
    """The settings of a server.

    Attributes:
      batch_size: texts that are computed together at most.
      max_delay_ms: for so long a text waits for others to be computed with.
      max_waiting: texts of a model that wait; of more, a client is told to come again.
      max_texts: of one request.
      max_body_bytes: of one request.
      max_explained_characters: of a text to explain, if the model reads texts to their end (`data.long_texts=windows`).
      max_connections: that are answered at a time; with the bytes of a request they bound what clients make it hold.
      read_timeout_s: for so long a client may take to send a request.
      drain_s: for so long requests that wait are still answered after SIGTERM.
    """

    batch_size: int = 64
    max_delay_ms: float = 5.0
    max_waiting: int = 1024
    max_texts: int = 256
    max_body_bytes: int = 1_000_000
    max_explained_characters: int = 20_000
    max_connections: int = 512
    read_timeout_s: float = 10.0
    drain_s: float = 20.0

    def __post_init__(self):
        counts = ("batch_size", "max_texts", "max_body_bytes", "max_explained_characters", "max_connections")
        for name in counts:
            require(getattr(self, name) >= 1, f"--{name}", getattr(self, name), "at least 1")
        for name in ("max_delay_ms", "drain_s"):
            require(0 <= getattr(self, name) <= LONGEST, f"--{name}", getattr(self, name), f"from 0 to {LONGEST:,}")
        in_time = 0 < self.read_timeout_s <= LONGEST
        require(in_time, "--read_timeout_s", self.read_timeout_s, f"more than 0, and at most {LONGEST:,}")
        fits = self.max_waiting >= self.max_texts  # a larger request would be refused for ever
        require(fits, "--max_waiting", self.max_waiting, f"at least --max_texts, {self.max_texts}")
