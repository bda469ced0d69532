"""How long `resjax status` takes for the runs of a sweep in a bucket, and what it asks for.

    python -m tests.benchmarks.bucket_status [--runs=1000] [--latency=0.05]

Each run has the files of one that is done, a checkpoint of 13 files included, and every twentieth
is in training. The bucket is a server in a process of its own, which speaks as S3 does from memory
and answers every request after the latency; the emulators would take longer than that. The first
look has no copies, the second finds all of them, and before the third a tenth of the runs has
changed. Each is a new process, from its start to its end.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from xml.sax.saxutils import escape

from resjax.buckets.store import Store, at_once
from resjax.config.addresses import Address
from resjax.runs import disk, rundir
from tests.report.fabricate import begin_run, note, write_run

PAGE = 1000
"""Objects in a page of a listing, as S3 has them."""

LARGE = ["weights.safetensors", "events.out.tfevents.1"]
CHECKPOINT = [f"checkpoints/1000/state/{n}" for n in range(12)] + [
    "checkpoints/1000/checkpoint.json"
]


class Memory:
    """A bucket in memory: objects by their names, and how often each kind of request was made."""

    def __init__(self, latency):
        self.latency, self.objects, self.names = latency, {}, None
        self.requests = Counter()

    async def serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self.serve_one(reader, writer)

    async def serve_one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, *_ = head.split(b"\r\n")[0].decode().split(" ")
        lines = (line.decode().partition(": ") for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value for name, _, value in lines}
        body = await reader.readexactly(int(headers.get("content-length") or 0))
        if self.names is not None:
            await asyncio.sleep(self.latency)
        status, told, answer = self.answer(method, path, headers, body)
        told = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        writer.write(
            f"HTTP/1.1 {status} x\r\n{told}Content-Length: {len(answer)}\r\n\r\n".encode() + answer
        )
        await writer.drain()

    def answer(self, method, path, headers, body):
        parts = urllib.parse.urlsplit(path)
        name = urllib.parse.unquote(parts.path).removeprefix("/lab").lstrip("/")
        query = dict(urllib.parse.parse_qsl(parts.query))
        if name == ".requests":
            told, self.requests = dict(self.requests), Counter()
            self.names = sorted(self.objects)
            return 200, {}, json.dumps(told).encode()
        if method == "PUT":
            tag = hashlib.md5(body).hexdigest()
            self.objects[name] = body, f'"{tag}"', time.time()
            return 200, {"ETag": f'"{tag}"'}, b""
        self.requests["get" if name else "list"] += 1
        return self.get(name, headers) if name else self.list(query)

    def get(self, name, headers):
        body, tag, at = self.objects[name]
        first, _, last = headers["range"].removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
        told = {"ETag": tag, "Last-Modified": formatdate(at, usegmt=True), "Content-Range": span}
        return 206, told, part

    def list(self, query):
        start = int(query.get("continuation-token", 0))
        page = self.names[start : start + PAGE]
        more = start + PAGE < len(self.names)
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name][0])}</Size>"
            f"<ETag>{escape(self.objects[name][1])}</ETag><LastModified>"
            f"{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(self.objects[name][2]))}"
            "</LastModified></Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        text = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{found}"
            "</ListBucketResult>"
        )
        return 200, {"Content-Type": "application/xml"}, text.encode()


def run_server(latency, pipe):
    async def main():
        memory = Memory(latency)
        server = await asyncio.start_server(memory.serve, "127.0.0.1", 0, limit=1 << 20)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def fill(store, runs):
    contents = {}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(runs):
            workdir, name = Path(directory), f"none-20-seed{number}"
            if number % 20:
                run = write_run(workdir, name, 0.1, seed=number)
            else:
                run = begin_run(workdir, name, seed=number)
                rundir.write_progress(run, {"step": 1, "steps": 9, "phase": "training"})
                disk.write_json(run / "claim.json", {"host": "tpu", "pid": 1, "token": "x"})
            contents |= {f"{name}/{path.name}": path.read_bytes() for path in run.iterdir()}
            contents |= dict.fromkeys([f"{name}/{large}" for large in LARGE + CHECKPOINT], b"large")
    list(at_once(lambda file: store.put(file, contents[file]), contents))


def cpu():
    """Seconds of CPU that the commands have taken until now."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.05)
    options = parser.parse_args()
    pipe, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=run_server, args=(options.latency, theirs), daemon=True)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{pipe.recv()}", "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    store = Store(Address.of("s3://lab"))
    fill(store, options.runs)
    store.get(".requests")
    print("| look | seconds | of CPU | listings | reads |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for look in ("first", "nothing has changed", "a tenth has changed"):
            if look == "a tenth has changed":
                with tempfile.TemporaryDirectory() as directory:
                    for number in range(1, options.runs, 10):
                        run = begin_run(Path(directory), f"none-20-seed{number}", seed=number)
                        note(run, "stopped", 1.0)
                        path = run / "timing.jsonl"
                        store.put(f"{run.name}/{path.name}", path.read_bytes())
                store.get(".requests")
            start, before = time.perf_counter(), cpu()
            subprocess.run(
                [sys.executable, "-m", "resjax", "status", "s3://lab"], check=True,
                stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": cache},
            )  # fmt: skip
            seconds = time.perf_counter() - start
            asked = json.loads(store.get(".requests")[0])
            spent = f"{seconds:.1f} | {cpu() - before:.1f}"
            print(f"| {look} | {spent} | {asked['list']} | {asked.get('get', 0):,} |", flush=True)
    server.terminate()


if __name__ == "__main__":
    main()
