#!/usr/bin/env python3
"""Load on `s2s serve-local`, over loopback; prints the tables of benches/README.md, section Serving.

    python3 benches/serving.py load BUNDLE [--seconds 5]        closed and open loop, the knee, overload and recovery
    python3 benches/serving.py batching BUNDLE [--rounds 3]     batches of 32 against batches of 1, and equal answers
    python3 benches/serving.py start BUNDLE [--rounds 10]       from the start of the process to its first answer
    python3 benches/serving.py memory BUNDLE [--minutes 10]     resident memory under a steady open loop

A closed loop has a fixed number of clients, each of which waits for its answer; an open loop sends at a fixed rate, and
latency counts from when a request was due, so that a server that falls behind is not measured kindly. Needs Python 3.10
and nothing else. The client takes processor time from the server where they share a machine: it is printed.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the open loop: fewer than the server allows one address, so that its queue refuses, not its listener; a request that
# waits for one of them is late already.
CONNECTIONS = 512
MONTHS = ["January", "March", "May", "July", "September", "December"]


def texts(count, seed=1):
    draw = random.Random(seed)
    return [f"{draw.randint(1, 28)} {draw.choice(MONTHS)} {draw.randint(1900, 2099)}" for _ in range(count)]


class Server:
    def __init__(self, binary, bundle, *flags):
        self.began = time.perf_counter()
        command = [binary, "serve-local", bundle, "--port", "0", "-q", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().strip()
        self.announced = time.perf_counter() - self.began
        assert line.startswith("http://"), f"the server did not start: {line!r}"
        self.host, port = line.removeprefix("http://").split(":")
        self.port = int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise SystemExit(f"the server ended with {self.process.returncode}")

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Connection:
    """HTTP/1.1 over one socket, just enough."""

    def __init__(self, server):
        self.server, self.reader, self.writer = server, None, None

    async def ask(self, request):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.server.host, self.server.port)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        body = await self.reader.readexactly(length)
        return int(head[9:12]), body

    def close(self):
        if self.writer is not None:
            self.writer.close()


def post(text):
    body = json.dumps({"q": text, "source": "auto", "target": "en"}).encode()
    return b"POST /translate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def metrics(server):
    connection = Connection(server)
    status, page = await connection.ask(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
    connection.close()
    assert status == 200
    values = {}
    for line in page.decode().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0] if "_bucket" not in name else name
            values[name] = values.get(name, 0.0) + float(value)
    return values


class Measured:
    def __init__(self):
        self.latencies, self.statuses, self.answers = [], {}, {}

    def add(self, latency, status, text=None, body=None):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.latencies.append(latency)
            if text is not None:
                self.answers[text] = json.loads(body)["translatedText"]

    def quantile(self, q):
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")

    def row(self):
        return f"{self.quantile(0.5):.1f} | {self.quantile(0.99):.1f} | {self.quantile(0.999):.1f}"

    def share(self, status):
        return self.statuses.get(status, 0) / max(1, sum(self.statuses.values()))


async def closed(server, clients, seconds, sources, keep=False):
    """`clients` at once, each sending when it has its answer."""
    measured, until = Measured(), time.perf_counter() + seconds
    before, cpu, own = await metrics(server), server.cpu(), time.process_time()

    async def client(n):
        connection, at = Connection(server), n
        while time.perf_counter() < until:
            text = sources[at % len(sources)]
            at += clients
            began = time.perf_counter()
            status, body = await connection.ask(post(text))
            measured.add(time.perf_counter() - began, status, text if keep else None, body)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(n) for n in range(clients)))
    return await account(measured, server, before, cpu, own, time.perf_counter() - began)


async def open_loop(server, rate, seconds, sources):
    """`rate` requests a second, whatever the server does."""
    measured, idle, places = Measured(), [], asyncio.Semaphore(CONNECTIONS)
    before, cpu, own = await metrics(server), server.cpu(), time.process_time()

    async def one(text, due):
        async with places:
            connection = idle.pop() if idle else Connection(server)
            try:
                status, _ = await connection.ask(post(text))
            except (OSError, asyncio.IncompleteReadError):
                status = 0
                connection = Connection(server)
            measured.add(time.perf_counter() - due, status)
            idle.append(connection)

    # A collection of the client's garbage would look like a pause of the server.
    gc.collect()
    gc.disable()
    began, tasks = time.perf_counter(), []
    for n in range(int(rate * seconds)):
        due = began + n / rate
        wait = due - time.perf_counter()
        if wait > 0.0005:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(sources[n % len(sources)], due)))
        if n % 32 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    took = time.perf_counter() - began
    gc.enable()
    for connection in idle:
        connection.close()
    return await account(measured, server, before, cpu, own, took)


async def account(measured, server, before, cpu, own, took):
    after = await metrics(server)
    delta = lambda name: after.get(name, 0.0) - before.get(name, 0.0)
    measured.rate = len(measured.latencies) / took
    measured.batch = delta("s2s_batch_size_sum") / max(1.0, delta("s2s_batch_size_count"))
    measured.server_cpu, measured.client_cpu = (server.cpu() - cpu) / took, (time.process_time() - own) / took
    return measured


HEAD = "answers/s | p50 ms | p99 ms | p99.9 ms | mean batch | 429 | cores: server, client | server, us an answer |"


def figures(m):
    return f"{m.rate:.0f} | {m.row()} | {m.batch:.1f} | {100 * m.share(429):.1f} % | {m.server_cpu:.2f}, {m.client_cpu:.2f} | {1e6 * m.server_cpu / max(1.0, m.rate):.0f} |"


async def load(args):
    sources = texts(500)
    with Server(args.s2s, args.bundle) as server:
        await closed(server, 4, 1, sources)
        print(f"| closed loop, clients | {HEAD}\n|---|---|---|---|---|---|---|---|---|")
        best = 0.0
        for clients in (1, 8, 32, 128):
            measured = await closed(server, clients, args.seconds, sources)
            best = max(best, measured.rate)
            print(f"| {clients} | {figures(measured)}", flush=True)
        print(f"\n| open loop, requests/s | {HEAD}\n|---|---|---|---|---|---|---|---|---|")
        base = None
        for part in (0.1, 0.25, 0.5, 0.8, 1.0, 2.0):
            measured = await open_loop(server, best * part, args.seconds, sources)
            base = base or measured
            others = {status: n for status, n in measured.statuses.items() if status not in (200, 429)}
            assert not others, f"answers other than 200 and 429: {others}"
            print(f"| {best * part:.0f} | {figures(measured)}", flush=True)
        ended, recovered = time.perf_counter(), None
        print("\nafter the overload of the last row, at a tenth of the throughput, p50 ms of each half second:", end=" ")
        for _ in range(10):
            measured = await open_loop(server, best * 0.1, 0.5, sources)
            print(f"{measured.quantile(0.5):.1f}", end=" ", flush=True)
            if recovered is None and measured.quantile(0.5) < 1.5 * base.quantile(0.5):
                recovered = time.perf_counter() - ended
        print(f"\nbaseline p50 {base.quantile(0.5):.1f} ms; back within half as much again after at most {recovered} s")


async def batching(args):
    sources = texts(200)
    kept, rates = {}, {1: [], 32: []}
    for round_ in range(args.rounds):
        for size in (32, 1) if round_ % 2 else (1, 32):
            with Server(args.s2s, args.bundle, "--max-batch-size", str(size), *args.flags) as server:
                await closed(server, 32, 1, sources)
                measured = await closed(server, 32, args.seconds, sources, keep=True)
                rates[size].append(measured.rate)
                for text, answer in measured.answers.items():
                    assert kept.setdefault(text, answer) == answer, f"{text!r}: {answer!r} and {kept[text]!r}"
                print(f"| {size} | {figures(measured)}", flush=True)
    medians = {size: sorted(values)[len(values) // 2] for size, values in rates.items()}
    print(f"{medians[32]:.1f} sentences/s against {medians[1]:.1f}: {medians[32] / medians[1]:.2f} times; {len(kept)} texts, all answers equal")


async def start(args):
    announced, answered = [], []
    for _ in range(args.rounds):
        with Server(args.s2s, args.bundle) as server:
            status, body = await Connection(server).ask(post("3 April 1999"))
            answered.append(time.perf_counter() - server.began)
            announced.append(server.announced)
            assert status == 200, body
    show = lambda values: f"median {1e3 * sorted(values)[len(values) // 2]:.0f} ms, worst {1e3 * max(values):.0f} ms"
    print(f"address printed: {show(announced)}; first answer: {show(answered)}; {args.rounds} starts")


async def memory(args):
    sources = texts(500)
    with Server(args.s2s, args.bundle) as server:
        began, total = time.perf_counter(), 0
        print("| minutes | answers | resident MiB |\n|---|---|---|")
        while time.perf_counter() - began < 60 * args.minutes:
            measured = await open_loop(server, args.rate, min(30.0, 60 * args.minutes), sources)
            total += len(measured.latencies)
            resident = (await metrics(server))["process_resident_memory_bytes"] / 2**20
            print(f"| {(time.perf_counter() - began) / 60:.1f} | {total} | {resident:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "batching", "start", "memory"])
    parser.add_argument("bundle")
    parser.add_argument("--s2s", default=str(ROOT / "target/release/s2s"))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=100, help="requests a second of `memory`")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="further flags of serve-local, last")
    args = parser.parse_args()
    asyncio.run({"load": load, "batching": batching, "start": start, "memory": memory}[args.what](args))


if __name__ == "__main__":
    sys.exit(main())
