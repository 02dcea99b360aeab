"""A server of grpcio: grpc_server.py ADDRESS:PORT"""

import sys
from concurrent import futures

import grpc


def unary(request, context):
    context.send_initial_metadata((("x-begin", "yes"),))
    context.set_trailing_metadata((("x-end", dict(context.invocation_metadata()).get("x-said", "")),))
    return request


def bidi(requests, context):
    for request in requests:
        yield b"echo " + request


def many(request, context):
    for number in range(int(request)):
        yield b"%d" % number * 1000


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00fc")


def flaky(request, context):
    attempt = dict(context.invocation_metadata()).get("x-envoy-attempt-count", "")
    if attempt == "1":
        context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
    return attempt.encode()


def stuck(request, context):
    while context.is_active():
        futures.wait([], timeout=0.01)
    return b""


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        method = call.method.rsplit("/", 1)[1]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
            "Many": grpc.unary_stream_rpc_method_handler(many),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "Flaky": grpc.unary_unary_rpc_method_handler(flaky),
            "Stuck": grpc.unary_unary_rpc_method_handler(stuck),
        }.get(method)


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
