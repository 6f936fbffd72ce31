#!/usr/bin/env python3
"""Requests that mean harm, on `s2s serve-local` over loopback; prints the tables of benches/README.md, section Hostile clients.

    python3 benches/hostile.py single BUNDLE                      what each kind of request costs alone
    python3 benches/hostile.py crowd BUNDLE [--seconds 20]        a good client beside 100 honest and 100 hostile ones
    python3 benches/hostile.py mixed BUNDLE [--minutes 10]        both at once: every good answer is compared

`single` gives the server one processor, hence one thread of the event loop, and asks it for /health without a pause while
the request runs: the slowest of these answers bounds how long the request held the loop. Memory is the growth of the
highest resident size. Clients of `crowd` and `mixed` have addresses of their own (127.0.1.N), as strangers have. Needs
Linux, Python 3.10 and nothing else.
"""

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from serving import ROOT, Server, texts

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def request(path, body=b"", content_type=JSON, method="POST", host="localhost", extra=""):
    body = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{extra}"
    if method == "POST":
        head += f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def translate(q, **fields):
    return request("/translate", {"q": q, "source": "auto", "target": "en", **fields})


def binary_tensor(name):
    """Texts in the binary extension of the Open Inference Protocol."""
    data = b"".join(struct.pack("<I", 1) + b"x" for _ in range(380_000))
    tensor = {"name": "text_input", "shape": [380_000], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    extra = f"inference-header-content-length: {len(head)}\r\n"
    return request(f"/v2/models/{name}/infer", head + data, "application/octet-stream", extra=extra)


def kinds(name):
    """What is sent, by kind; each is one request that a server may get from anybody."""
    generate = lambda text, **parameters: request(
        f"/v2/models/{name}/generate", {"text_input": text, "parameters": parameters}
    )
    distinct = "".join(map(chr, range(0x1_0000, 0x1_0000 + 480_000)))
    rows = {"name": "encoder_input", "shape": [32, 512], "datatype": "INT64", "data": [[5] * 512] * 32}
    zipped = gzip.compress(b" " * 200_000_000)
    return {
        "1.9 MB of distinct unknown characters": translate(distinct),
        "the same in 32 texts": translate([distinct[at::32] for at in range(32)]),
        "1.9 MB of U+FDFA, 18 characters each under NFKC": translate("\ufdfa" * 650_000),
        "2 MB of combining marks": translate("a" + "\u0301\u0316" * 480_000),
        "2 MB of white space": translate(" " * 1_990_000 + "x"),
        "190,000 stop strings": generate("x", stop_strings=["a%d" % i for i in range(190_000)]),
        "650,000 suppressed tokens": generate("x", suppress_tokens=[7] * 650_000),
        "a prefix of 1.99 MB": generate("x", target_prefix="1" * 1_990_000),
        "a repetition penalty of 1e-38": generate("x", repetition_penalty=1e-38),
        "32 beams, 32 answers, 1,024 tokens, attention": generate(
            "3 May 1999 " * 40, num_beams=32, num_return_sequences=32, max_new_tokens=1024, output={"attention": True}
        ),
        "the most beams that are taken": generate(
            "3 May 1999", num_beams=32, num_return_sequences=32, max_new_tokens=300, min_new_tokens=300, patience=1,
            output={"token_scores": True},
        ),
        "512 tokens, 1,024 tokens out": generate("3 May 1999 " * 46, max_new_tokens=1024, min_new_tokens=1024),
        "32 long texts": translate(["3 May 1999 " * 46] * 32),
        "2 MB of [": request("/translate", b"[" * 1_990_000),
        "2 MB of nested lists": request("/translate", b'{"q":[' + b"[]," * 660_000 + b"[]]}"),
        "190,000 keys": request("/translate", b"{" + b",".join(b'"%d":1' % i for i in range(190_000)) + b"}"),
        "660,000 form fields of one name": request("/translate", b"&".join([b"a="] * 660_000), FORM),
        "250,000 form fields": request("/translate", b"&".join(b"%d=" % i for i in range(250_000)), FORM),
        "a JSON number of 2 MB": request("/translate", b'{"q":' + b"1" * 1_990_000 + b"}"),
        "380,000 texts as a binary tensor": binary_tensor(name),
        "the largest encoder batch": request(f"/v2/models/{name}.encoder/infer", {"inputs": [rows]}),
        "the encoder's graph as SVG": request(f"/v2/models/{name}.encoder/graph.svg", method="GET"),
        "a body of 10 MB": request("/translate", b" " * 10_000_000),
        "200 MB in 200 kB of gzip": request("/translate", zipped, extra="content-encoding: gzip\r\n"),
        "a head of 1 MB": request("/health", method="GET", extra=f"x: {'y' * 1_000_000}\r\n"),
        "a stranger's Host": request("/health", method="GET", host="evil.example"),
        "two Hosts": request("/health", method="GET", extra="host: localhost\r\n"),
        "nothing there, with a body": request("/nothing", b"x" * 1000),
        "a type that is not read": request("/translate", b"x" * 100_000, "text/plain"),
    }


def model_name(server):
    with socket.create_connection((server.host, server.port)) as connection:
        status, body = exchange(connection, request("/v2/repository/index", b"{}"))
    return json.loads(body)[0]["name"]


def exchange(connection, sent):
    """One request and its answer: status and body; 0 where the connection ends without one."""
    try:
        connection.sendall(sent)
    except OSError:
        pass  # The answer may be there all the same: it was given before everything was sent.
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            part = connection.recv(1 << 16)
            if not part:
                return 0, received
            received += part
        head, body = received.split(b"\r\n\r\n", 1)
        fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
        if b"content-length" not in fields:
            return int(head[9:12]), body
        while len(body) < int(fields[b"content-length"]):
            part = connection.recv(1 << 20)
            if not part:
                break
            body += part
        return int(head[9:12]), body
    except OSError:
        return 0, b""


def memory(server, key):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc has no {key}")


def single(args):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with Server(args.s2s, args.bundle, "--workers", "1") as server:
        os.sched_setaffinity(0, {cores[-1]})
        name = model_name(server)
        slowest, probing = [0.0], threading.Event()

        def probe():
            with socket.create_connection((server.host, server.port)) as connection:
                while not probing.is_set():
                    began = time.perf_counter()
                    status, _ = exchange(connection, request("/health", method="GET"))
                    assert status == 200, status
                    slowest[0] = max(slowest[0], time.perf_counter() - began)

        thread = threading.Thread(target=probe)
        thread.start()
        print("| request | bytes | status | ms | loop held, ms | memory, MiB |\n|---|---|---|---|---|---|")
        worst = [0.0, 0.0]
        for kind, sent in kinds(name).items():
            held, grown, took = [], [], []
            for _ in range(args.rounds):
                Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
                before, slowest[0] = memory(server, "VmRSS"), 0.0
                began = time.perf_counter()
                with socket.create_connection((server.host, server.port), timeout=70) as connection:
                    status, _ = exchange(connection, sent)
                took.append(1e3 * (time.perf_counter() - began))
                time.sleep(0.05)
                held.append(1e3 * slowest[0])
                grown.append(memory(server, "VmHWM") - before)
            middle = lambda values: sorted(values)[len(values) // 2]
            worst = [max(worst[0], middle(held)), max(worst[1], max(grown))]
            figures = f"{len(sent)} | {status} | {middle(took):.0f} | {middle(held):.1f} | {max(grown):.1f}"
            print(f"| {kind} | {figures} |", flush=True)
        probing.set()
        thread.join()
        print(f"\nat most {worst[0]:.1f} ms of the event loop, {worst[1]:.1f} MiB")


async def ask(server, local, sent, timeout=70.0):
    """One request on a connection of its own, from the address `local`."""
    reader, writer = await asyncio.open_connection(server[0], server[1], local_addr=(local, 0), limit=1 << 26)
    try:
        writer.write(sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
        return int(head[9:12]), body
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, asyncio.LimitOverrunError):
        return 0, b""
    finally:
        writer.transport.abort()


async def dribble(server, local, sent, draw):
    """A connection that sends some bytes and then one now and then, or leaves in the middle."""
    try:
        _, writer = await asyncio.open_connection(server[0], server[1], local_addr=(local, 0))
        writer.write(sent[: draw.randrange(1, min(len(sent), 200_000))])
        for _ in range(draw.randrange(30)):
            await asyncio.sleep(0.1)
            writer.write(b"x")
        writer.transport.abort()
    except OSError:
        pass


async def hostile(server, number, until, every):
    draw, local = random.Random(number), f"127.0.1.{number + 1}"
    while time.time() < until:
        sent = draw.choice(every)
        try:
            if draw.random() < 0.3:
                await dribble(server, local, sent, draw)
            else:
                await ask(server, local, sent, 5.0)
        except OSError:
            await asyncio.sleep(0.05)


async def honest(server, number, until, sources):
    local = f"127.0.2.{number + 1}"
    reader = writer = None
    at = number
    while time.time() < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(server[0], server[1], local_addr=(local, 0))
            writer.write(translate(sources[at % len(sources)]))
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length[0].split(b":")[1]))
            at += 100
        except (OSError, asyncio.IncompleteReadError):
            writer = None
            await asyncio.sleep(0.05)


def crowd_of(server, kind, count, until, name):
    """A process of `count` clients."""
    os.nice(5)
    every = list(kinds(name).values()) if kind == "hostile" else None

    async def everybody():
        if kind == "hostile":
            await asyncio.gather(*(hostile(server, n, until, every) for n in range(count)))
        else:
            await asyncio.gather(*(honest(server, n, until, texts(500)) for n in range(count)))

    asyncio.run(everybody())


def good(server, seconds, sources, expected, pause=0.02):
    """A client that keeps its connection and asks for a text every `pause` seconds: latencies, statuses, wrong answers."""
    latencies, statuses, wrong, at = [], {}, 0, 0
    connection, until = None, time.time() + seconds
    while time.time() < until:
        text = sources[at % len(sources)]
        at += 1
        began = time.perf_counter()
        try:
            if connection is None:
                connection = socket.create_connection(server, timeout=60)
            status, body = exchange(connection, translate(text))
        except OSError:
            status, body = 0, b""
        latencies.append(time.perf_counter() - began)
        statuses[status] = statuses.get(status, 0) + 1
        if status == 200 and json.loads(body)["translatedText"] != expected[text]:
            wrong += 1
            print(f"wrong: {text!r}: {body!r}", file=sys.stderr)
        if status == 0:
            connection = None
        time.sleep(pause)
    return sorted(latencies), statuses, wrong


def expected_of(args, sources):
    command = [args.s2s, "translate", args.bundle, "-q"]
    lines = subprocess.run(command, input="\n".join(sources) + "\n", capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(sources), "a line a text"
    return dict(zip(sources, lines))


def with_crowd(args, kind, seconds):
    sources = texts(200, seed=7)
    expected = expected_of(args, sources)
    with Server(args.s2s, args.bundle, *args.flags) as server:
        address, name = (server.host, server.port), model_name(server)
        good(address, 2, sources, expected)
        start, until, crowd = memory(server, "VmRSS"), time.time() + seconds + 3, []
        for each in {"hostile": ["hostile"], "honest": ["honest"], "both": ["honest", "hostile"], "nobody": []}[kind]:
            crowd.append(multiprocessing.Process(target=crowd_of, args=(address, each, 100, until, name)))
            crowd[-1].start()
        time.sleep(2)
        latencies, statuses, wrong = good(address, seconds, sources, expected)
        for process in crowd:
            process.join()
        most, after, rest = memory(server, "VmHWM"), memory(server, "VmRSS"), None
        if args.rest:
            time.sleep(args.rest)
            rest = memory(server, "VmRSS")
    quantile = lambda q: 1e3 * latencies[min(len(latencies) - 1, int(q * len(latencies)))]
    return {
        "clients": kind, "answers": sum(statuses.values()), "statuses": statuses, "wrong": wrong,
        "p50": quantile(0.5), "p99": quantile(0.99), "worst": quantile(1.0),
        "rss": [start, most, after, rest],
    }


def row(found):
    start, most, after, rest = found["rss"]
    rest = "" if rest is None else f"{rest:.0f}"
    print(
        f"| {found['clients']} | {found['answers']} | {found['statuses']} | {found['wrong']} | {found['p50']:.1f} | {found['p99']:.1f} |"
        f" {found['worst']:.1f} | {start:.0f} | {most:.0f} | {after:.0f} | {rest} |", flush=True
    )


HEAD = (
    "| beside | answers | statuses | wrong | p50 ms | p99 ms | worst ms | RSS at the start, MiB | highest | at the end | a minute later |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def crowd(args):
    print(HEAD)
    ratios = []
    for _ in range(args.rounds):
        found = {kind: with_crowd(args, kind, args.seconds) for kind in ("nobody", "honest", "hostile")}
        for each in found.values():
            row(each)
        ratios.append(found["hostile"]["p99"] / found["honest"]["p99"])
    print(f"\np99 beside hostile clients, over p99 beside honest ones: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def mixed(args):
    print(HEAD)
    found = with_crowd(args, "both", 60 * args.minutes)
    row(found)
    print(f"\n{found['wrong']} wrong answers among {found['answers']}")
    sys.exit(found["wrong"] != 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s2s", default=str(ROOT / "target/release/s2s"))
    modes = parser.add_subparsers(required=True)
    for mode, rounds in ((single, 3), (crowd, 3), (mixed, 1)):
        sub = modes.add_parser(mode.__name__)
        sub.add_argument("bundle")
        sub.add_argument("--rounds", type=int, default=rounds)
        sub.add_argument("--seconds", type=float, default=20)
        sub.add_argument("--minutes", type=float, default=10)
        sub.add_argument("--rest", type=float, default=60, help="seconds after which memory is looked at again")
        sub.add_argument("flags", nargs="*", help="for s2s serve-local, after --")
        sub.set_defaults(run=mode)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
