import asyncio

import pytest

from gream_ext.plugins.verl.server import RolloutServer, Tokens


def serve(batches, requests, most=1024):
    """Send requests at once; the lists of prompts that were generated together are left in ``batches``."""

    async def generate(batch):
        batches.append([request.prompt_ids for request in batch])
        await asyncio.sleep(0.01)
        if any(request.prompt_ids == [0] for request in batch):
            raise RuntimeError("out of luck")
        return [Tokens(token_ids=[*request.prompt_ids, 7]) for request in batch]

    async def send():
        server = RolloutServer(generate, quiet=0.01, most=most)
        calls = [
            server.generate(f"r{number}", prompt_ids=prompt, sampling_params={"temperature": 1.0}, image_data=None)
            for number, prompt in enumerate(requests)
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(send())


def test_requests_of_one_moment_form_a_batch():
    batches = []
    responses = serve(batches, [[1], [2], [3]])
    assert [response.token_ids for response in responses] == [[1, 7], [2, 7], [3, 7]]
    assert batches == [[[1], [2], [3]]]


def test_a_batch_has_a_largest_size():
    batches = []
    assert len(serve(batches, [[n] for n in range(1, 6)], most=2)) == 5
    assert [len(batch) for batch in batches] == [2, 2, 1]


def test_an_error_reaches_every_request_of_the_batch_and_the_server_goes_on():
    batches = []
    responses = serve(batches, [[1], [0], [2]], most=2)
    assert [type(response) for response in responses] == [RuntimeError, RuntimeError, Tokens]
    with pytest.raises(RuntimeError, match="luck"):
        raise responses[0]
