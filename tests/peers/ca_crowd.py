"""Many workloads that live by Istio's CA, by grpcio: ca_crowd.py ADDRESS ROOT SECONDS < workloads.

Each line of the input is a workload as JSON, {"token", "csr", "key", "by"}. For each line behind them, which is a word, all of
them get a certificate of SECONDS at once: by the token, or where `by` is "certificate" by the one that they hold, while that
lasts. ROOT is a file, read anew for every connection. Output, a line of JSON for each word: {"word", "issued", "by_certificate",
"failed": [...], "held": [[chain, begin], ...] of some, "per_second", "p50", "p99"}.
"""

import asyncio
import json
import random
import sys
import time

import grpc

address, root_file, life = sys.argv[1], sys.argv[2], float(sys.argv[3])
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
# Each has 16 calls at once, and the CA takes 200 of one address.
CONNECTIONS = 8
turns = asyncio.Semaphore(150)


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def request(csr):
    text = csr.encode()
    return varint(1 << 3 | 2) + varint(len(text)) + text + varint(3 << 3) + varint(int(life))


def answer(data):
    at, chain = 0, []
    while at < len(data):
        at += 1
        length = shift = 0
        while True:
            byte = data[at]
            length |= (byte & 127) << shift
            shift += 7
            at += 1
            if byte < 128:
                break
        chain.append(data[at : at + length].decode())
        at += length
    return chain


def root():
    with open(root_file, "rb") as file:
        return file.read()


failed, times, counts = [], [], {}
shared = {}


def of_all(number):
    """A connection for tokens; it is made anew when the roots have changed."""
    roots = root()
    known = shared.get(number)
    if known is None or known[0] != roots:
        known = shared[number] = (roots, grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots)))
    return known[1]


async def ask(number, workload):
    async with turns:
        begin = time.monotonic()
        metadata, own = [("clusterid", "Kubernetes")], None
        if workload["by"] == "certificate" and "held" in workload and time.time() < workload["held"][1] + life - 2:
            chain = "".join(workload["held"][0][:-1]).encode()
            own = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root(), workload["key"].encode(), chain))
        else:
            metadata.append(("authorization", "Bearer " + workload["token"]))
        try:
            call = (own or of_all(number % CONNECTIONS)).unary_unary(METHOD)
            at = time.time()
            chain = answer(await call(request(workload["csr"]), metadata=metadata, timeout=20))
            workload["held"] = (chain, at)
            counts["issued"] += 1
            counts["by_certificate"] += own is not None
            times.append(time.monotonic() - begin)
        except grpc.RpcError as error:
            failed.append(f"{number} {error.code().name} {error.details()}")
        finally:
            if own:
                await own.close()


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    workloads = []
    while line := (await lines.readline()).decode().strip():
        if line.startswith("{"):
            workloads.append(json.loads(line))
            continue
        for counted in (failed, times):
            counted.clear()
        counts.update(issued=0, by_certificate=0)
        begin = time.monotonic()
        await asyncio.gather(*(ask(*it) for it in enumerate(workloads)))
        took, ordered = time.monotonic() - begin, sorted(times) or [0]
        sample = [it["held"] for it in random.sample(workloads, 6) if "held" in it]
        told = {"word": line, "failed": failed[:5], "held": sample, "per_second": counts["issued"] / took, **counts}
        told["p50"], told["p99"] = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        print(json.dumps(told), flush=True)


asyncio.run(main())
