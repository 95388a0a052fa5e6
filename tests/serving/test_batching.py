"""What waits together is computed together, and what fails is of one request."""

import asyncio
import contextlib

from amsdff_jax.serving.batching import Batcher


def test_a_request_that_fails_takes_no_other_with_it():
    batches = []

    def double(items):
        batches.append(len(items))
        if 13 in items:
            raise ValueError(f"13 of {len(items)}")
        return [2 * item for item in items]

    async def ask(requests):
        batcher = Batcher("test", double, batch_size=9, max_delay_s=30, max_waiting=9)
        try:
            return await asyncio.gather(*map(batcher.submit, requests), return_exceptions=True)
        finally:
            with contextlib.suppress(TimeoutError):
                batcher.close(10)

    first, wrong, last = asyncio.run(ask([[1, 2, 3], [4, 13], [5, 6, 7, 8]]))
    assert batches == [9, 3, 2, 4]
    assert first == [2, 4, 6] and last == [10, 12, 14, 16]
    assert isinstance(wrong, ValueError) and str(wrong) == "13 of 2"
