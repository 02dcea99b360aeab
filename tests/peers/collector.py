"""A collector of spans and logs, by grpcio and OpenTelemetry's own messages, and over HTTP: collector.py GRPC HTTP FILE

What comes is written to FILE, an object per line.
"""

import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

lock = threading.Lock()
file = open(sys.argv[3], "a", encoding="utf-8")


def write(what):
    with lock:
        file.write(json.dumps(what) + "\n")
        file.flush()


def pairs(attributes):
    return {it.key: it.value.string_value for it in attributes}


def spans(request, via, context=None):
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                write({
                    "via": via, "resource": pairs(resource.resource.attributes), "name": span.name,
                    "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "kind": span.kind, "start": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "tags": pairs(span.attributes), "status": span.status.code,
                    "metadata": dict(context.invocation_metadata()) if context else {},
                })


def traces(request, context):
    spans(request, "grpc", context)
    return ExportTraceServiceResponse()


def logs(request, context):
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                write({
                    "via": "logs", "resource": pairs(resource.resource.attributes), "body": record.body.string_value,
                    "tags": pairs(record.attributes), "trace": record.trace_id.hex(), "id": record.span_id.hex(),
                })
    return ExportLogsServiceResponse()


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        return {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export": grpc.unary_unary_rpc_method_handler(
                traces, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
            ),
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export": grpc.unary_unary_rpc_method_handler(
                logs, ExportLogsServiceRequest.FromString, ExportLogsServiceResponse.SerializeToString
            ),
        }.get(call.method)


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf":
            spans(ExportTraceServiceRequest.FromString(body), "http")
            self.answer(200, ExportTraceServiceResponse().SerializeToString())
        elif self.path == "/api/v2/spans":
            for span in json.loads(body):
                write({"via": "zipkin", "span": span, "key": self.headers.get("x-key", "")})
            self.answer(202, b"")
        else:
            self.answer(404, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(sys.argv[1])
server.start()
host, port = sys.argv[2].rsplit(":", 1)
ThreadingHTTPServer((host, int(port)), Http).serve_forever()
