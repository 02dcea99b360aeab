"""A CA that speaks Istio's istio.v1.auth over TLS, by grpcio and openssl: istio_ca.py ADDRESS:PORT FOLDER.

FOLDER holds server.pem and server.key (its own certificate), tokens.json (token: "namespace/account", what a TokenReview would
say), and orders.json, which is read anew for each request:
  {"ca": NAME of NAME.pem and NAME.key, "roots": file, "lifetime": seconds,      who signs, what is given as roots
   "mode": "sign" | "refuse" | "hang" | "nonsense" | "lonely", "uris": [...]}    what else it may do
What it issued is in issued/N.pem.
"""

import concurrent.futures
import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading

import grpc

address, folder = sys.argv[1:]
count, lock = 0, threading.Lock()


def at(name):
    return os.path.join(folder, name)


def read(name):
    with open(at(name), "rb") as file:
        return file.read()


def varint(data, position):
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def fields(data):
    """Number and value of each field of a message."""
    position = 0
    while position < len(data):
        key, position = varint(data, position)
        if key & 7 == 0:
            value, position = varint(data, position)
        elif key & 7 == 2:
            length, position = varint(data, position)
            value, position = data[position : position + length], position + length
        else:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, value


def text(number, value):
    """A field of text."""
    length, written = len(value), b""
    while length >= 0x80:
        written += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + written + bytes([length]) + value


CONFIG = """
[ca]
default_ca = own
[own]
database = {work}/index
new_certs_dir = {work}
default_md = sha256
policy = any
unique_subject = no
rand_serial = yes
[any]
commonName = optional
[leaf]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = critical,{names}
"""


def sign(csr, names, orders):
    """Signs the request's key for these names, whatever else is in the request."""
    now = datetime.datetime.now(datetime.timezone.utc)
    skew = datetime.timedelta(seconds=orders.get("skew", 0))
    begin, end = now - datetime.timedelta(seconds=120) + skew, now + datetime.timedelta(seconds=orders["lifetime"]) + skew
    with tempfile.TemporaryDirectory() as work:
        for name, content in [("index", b""), ("csr", csr), ("config", CONFIG.format(work=work, names=names).encode())]:
            with open(os.path.join(work, name), "wb") as file:
                file.write(content)
        command = ["openssl", "ca", "-batch", "-notext", "-config", f"{work}/config", "-in", f"{work}/csr", "-extensions", "leaf"]
        command += ["-cert", at(orders["ca"] + ".pem"), "-keyfile", at(orders["ca"] + ".key"), "-subj", "/", "-out", f"{work}/out"]
        command += ["-startdate", begin.strftime("%Y%m%d%H%M%SZ"), "-enddate", end.strftime("%Y%m%d%H%M%SZ")]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            raise ValueError(done.stderr.decode())
        with open(f"{work}/out", "rb") as file:
            return file.read()


def create(request, context):
    global count
    metadata, orders = dict(context.invocation_metadata()), json.loads(read("orders.json"))
    token = metadata.get("authorization", "").removeprefix("Bearer ")
    account = json.loads(read("tokens.json")).get(token)
    asked = dict(fields(request))
    print(account, metadata.get("clusterid"), asked.get(3), orders["mode"], flush=True)
    if account is None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
    if orders["mode"] == "refuse":
        context.abort(grpc.StatusCode.INTERNAL, "CSR signing error (the CA is on strike)")
    if orders["mode"] == "hang":
        threading.Event().wait(60)
    if orders["mode"] == "nonsense":
        return text(1, b"hello") + text(1, b"world")
    namespace, name = account.split("/")
    uris = orders.get("uris") or [f"spiffe://cluster.local/ns/{namespace}/sa/{name}"]
    leaf = sign(asked[1], ",".join("URI:" + uri for uri in uris), orders)
    if orders["mode"] == "lonely":
        return text(1, leaf)
    with lock:
        count += 1
        with open(at(f"issued/{count}.pem.draft"), "wb") as file:
            file.write(leaf)
        os.rename(at(f"issued/{count}.pem.draft"), at(f"issued/{count}.pem"))
    return text(1, leaf) + text(1, read(orders["roots"]))


handler = grpc.unary_unary_rpc_method_handler(create)
server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16))
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler("istio.v1.auth.IstioCertificateService", {"CreateCertificate": handler})]
)
server.add_secure_port(address, grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))]))
server.start()
server.wait_for_termination()
