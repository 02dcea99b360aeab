"""A client of Istio's CA by grpcio: ask_ca.py < requests. Each line is a request as JSON, each line of the output its answer.

A request: {"address", "root" (PEM; none = plain text), "csr", "token", "ttl", "metadata": {key: text}, "chain", "key",
"authority", "method", "header": [name, value], "until": code}; an answer: {"code", "details", "chain": [PEM, ...]}. Messages are written with
the field numbers of istio.io/api security/v1alpha1/ca.proto. All requests are sent at once, each channel is used again; one with
"until" is sent again and again on its channel, once it was answered well, until the answer has that code.
"""

import json
import sys
import time

import grpc

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def varint(number):
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def request(asked):
    message = field(1, asked["csr"].encode())
    if "ttl" in asked:
        message += varint(3 << 3) + varint(asked["ttl"] & (1 << 64) - 1)
    entries = b"".join(
        field(1, field(1, key.encode()) + field(2, field(3, text.encode())))
        for key, text in asked.get("metadata", {}).items()
    )
    return message + field(4, entries) if entries else message


def number(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def answer(data):
    at, chain = 0, []
    while at < len(data):
        key, at = number(data, at)
        assert key == 1 << 3 | 2, f"there is field {key >> 3} in an IstioCertificateResponse"
        length, at = number(data, at)
        chain.append(data[at : at + length].decode())
        at += length
    return chain


channels = {}


def channel(asked):
    parts = tuple(asked.get(part) for part in ("address", "root", "chain", "key", "authority"))
    if parts not in channels:
        address, root, chain, key, authority = parts
        if root is None:
            channels[parts] = grpc.insecure_channel(address)
        else:
            encoded = [text and text.encode() for text in (root, key, chain)]
            options = [("grpc.ssl_target_name_override", authority)] if authority else []
            channels[parts] = grpc.secure_channel(address, grpc.ssl_channel_credentials(*encoded), options)
    return channels[parts]


def send(asked):
    metadata = [("authorization", f"Bearer {asked['token']}")] if "token" in asked else []
    metadata += [tuple(asked["header"])] if "header" in asked else []
    metadata.append(("clusterid", "Kubernetes"))
    call = channel(asked).unary_unary(asked.get("method", METHOD))
    return call.future(request(asked), metadata=metadata, timeout=20)


def receive(call):
    try:
        return {"code": "OK", "details": "", "chain": answer(call.result())}
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details(), "chain": []}


calls = []
for line in sys.stdin:
    asked = json.loads(line)
    calls.append((asked, send(asked)))
for asked, call in calls:
    received = receive(call)
    deadline = time.monotonic() + 60
    while "until" in asked and received["code"] == "OK" and time.monotonic() < deadline:
        time.sleep(0.1)
        received = receive(send(asked))
    print(json.dumps(received))
