"""A client of grpcio: grpc_client.py ADDRESS:PORT ROOT.pem; ends with 0 when everything was as it should be."""

import queue
import sys

import grpc

address, root = sys.argv[1:]
HOST = "shop.example.com"
with open(root, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
options = [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST), ("grpc.max_receive_message_length", -1)]
channel = grpc.secure_channel(address, credentials, options)


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


unary = channel.unary_unary("/shop.Echo/Unary")
answer, call = unary.with_call(b"a message", metadata=(("x-said", "this"),), timeout=15)
expect("unary", answer, b"a message")
expect("initial metadata", dict(call.initial_metadata()).get("x-begin"), "yes")
expect("trailing metadata", dict(call.trailing_metadata()).get("x-end"), "this")
expect("a large message", len(unary(b"x" * 2_000_000, timeout=15)), 2_000_000)

said = queue.Queue()
heard = channel.stream_stream("/shop.Echo/Bidi")(iter(said.get, None), timeout=15)
for number in range(20):
    said.put(b"%d" % number)
    expect("bidirectional", next(heard), b"echo %d" % number)
said.put(None)
expect("the end of a bidirectional call", list(heard), [])
expect("its status", heard.code(), grpc.StatusCode.OK)

expect("a stream of answers", sum(len(answer) for answer in channel.unary_stream("/shop.Echo/Many")(b"1000", timeout=15)), 2_890_000)

try:
    channel.unary_unary("/shop.Echo/Fail")(b"", timeout=15)
    sys.exit("a call that fails did not")
except grpc.RpcError as error:
    expect("a failed call", (error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "no such thing: \u00fc"))

try:
    channel.unary_unary("/shop.Echo/Stuck")(b"", timeout=0.3)
    sys.exit("a call beyond its deadline came back")
except grpc.RpcError as error:
    expect("a call beyond its deadline", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

expect("a call that is unavailable at first", channel.unary_unary("/shop.Echo/Flaky")(b"x", timeout=15), b"2")
expect("a call afterwards", unary(b"again", timeout=15), b"again")
print("all is well")
