import asyncio
import os
import subprocess
import sys

import pytest

from gream_ext.plugins.verl.cpu.server import RolloutServer, Tokens


def serve(batches, requests, most=1024, worker=None):
    """Send requests at once; the prompts that were taken together are left in ``batches``."""

    async def work(server):
        while True:
            batch = await server.take(worker or os.getpid())
            batches.append([request.prompt_ids for request in batch])
            if worker is not None:
                return
            failed = any(request.prompt_ids == [0] for request in batch)
            responses = [Tokens(token_ids=[*request.prompt_ids, 7]) for request in batch]
            await server.give([] if failed else responses, "out of luck" if failed else None)

    async def send():
        server = RolloutServer(quiet=0.01, most=most)
        working = asyncio.create_task(work(server))
        calls = [
            server.generate(f"r{number}", prompt_ids=prompt, sampling_params={"temperature": 1.0}, image_data=None)
            for number, prompt in enumerate(requests)
        ]
        responses = await asyncio.gather(*calls, return_exceptions=True)
        working.cancel()
        return responses

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


def test_what_is_given_before_anything_was_taken_reaches_nobody():
    async def give_first():
        server = RolloutServer(quiet=0.01)
        await server.give([])
        await server.give([], "out of luck")
        with pytest.raises(ValueError, match="longer"):
            await server.give([Tokens(token_ids=[7])])
        asked = asyncio.create_task(server.generate("r", prompt_ids=[1], sampling_params={}))
        assert [request.prompt_ids for request in await server.take(os.getpid())] == [[1]]
        await server.give([Tokens(token_ids=[1, 7])])
        return await asked

    assert asyncio.run(give_first()).token_ids == [1, 7]


def test_requests_fail_when_the_worker_dies():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (response,) = serve([], [[1]], worker=gone.pid)
    assert "died while it was generating" in str(response)


def test_its_process_loads_neither_torch_nor_verl():
    code = "import sys, gream_ext.plugins.verl.cpu.server; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers", "verl", "ray"} & set(loaded)
