"""A socket that gives workload identities, by grpcio: workload_api.py SOCKET FOLDER spiffe|sds.

FOLDER holds a folder for each identity, with spiffe-id, cert-chain.pem, key.pem and root-cert.pem, and perhaps ca-crl.pem with
one revocation list. Whenever the file `version`
changes, whoever listens is given all of it anew: by SPIFFE's Workload API, or by Envoy's secret discovery, of the first one.
"""

import base64
import concurrent.futures
import os
import re
import sys
import time

import grpc

socket, folder, protocol = sys.argv[1:]


def read(*names):
    with open(os.path.join(folder, *names), "rb") as file:
        return file.read()


def der(pem):
    """All blocks of a PEM text, one behind the other."""
    blocks = re.findall(rb"-----BEGIN [^-]+-----(.*?)-----END", pem, re.S)
    return b"".join(base64.b64decode(block) for block in blocks)


def field(number, value):
    length, written = len(value), b""
    while length >= 0x80:
        written += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + written + bytes([length]) + value


def lists():
    """One, as PEM, or none."""
    return read("ca-crl.pem") if os.path.exists(os.path.join(folder, "ca-crl.pem")) else b""


def identities():
    return sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))


def versions(context):
    """Each version of the folder, as long as somebody listens."""
    known = None
    while context.is_active():
        version = read("version")
        if version != known:
            known = version
            yield version
        time.sleep(0.05)


def fetch(request, context):
    if dict(context.invocation_metadata()).get("workload.spiffe.io") != "true":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
    for _ in versions(context):
        message = b""
        for name in identities():
            parts = [(1, read(name, "spiffe-id")), (2, der(read(name, "cert-chain.pem")))]
            parts += [(3, der(read(name, "key.pem"))), (4, der(read(name, "root-cert.pem")))]
            message += field(1, b"".join(field(*part) for part in parts))
        message += field(2, der(lists())) if lists() else b""
        print("told", flush=True)
        yield message
        # Some agents end the call, and whoever wants more asks again.
        if os.path.exists(os.path.join(folder, "once")):
            return


TYPE = b"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def stream(requests, context):
    first = next(requests)
    if b"default" not in first or b"ROOTCA" not in first or TYPE not in first:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "neither default nor ROOTCA is asked for")
    for version in versions(context):
        name = identities()[0]
        inline = lambda text: field(2, text)
        chain, key = inline(read(name, "cert-chain.pem")), inline(read(name, "key.pem"))
        certificate = field(1, b"default") + field(2, field(1, chain) + field(2, key))
        context = field(1, inline(read(name, "root-cert.pem")))
        context += field(7, inline(lists())) if lists() else b""
        roots = field(1, b"ROOTCA") + field(4, context)
        # As Istio's agent does: one after the other, each to be acknowledged.
        for number, secret in enumerate([certificate, roots]):
            nonce = b"%s-%d" % (version, number)
            resource = field(1, TYPE) + field(2, secret)
            yield field(1, version) + field(2, resource) + field(4, TYPE) + field(5, nonce)
            if nonce not in next(requests):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an answer is not acknowledged")
            print("acknowledged", nonce.decode(), flush=True)


server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8))
if protocol == "spiffe":
    handlers = {"FetchX509SVID": grpc.unary_stream_rpc_method_handler(fetch)}
    service = "SpiffeWorkloadAPI"
else:
    handlers = {"StreamSecrets": grpc.stream_stream_rpc_method_handler(stream)}
    service = "envoy.service.secret.v3.SecretDiscoveryService"
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
server.add_insecure_port(f"unix:{socket}")
server.start()
print("listening", flush=True)
server.wait_for_termination()
