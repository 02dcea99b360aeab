"""A client of grpcio that calls without end over one channel: grpc_many.py ADDRESS:PORT ROOT.pem; ends with 1 when a call fails."""

import sys
import threading

import grpc

address, root = sys.argv[1:]
HOST = "shop.example.com"
with open(root, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
options = [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST)]
channel = grpc.secure_channel(address, credentials, options)
unary = channel.unary_unary("/shop.Echo/Unary")
failed = threading.Event()


def call():
    while not failed.is_set():
        try:
            unary(b"a message", timeout=15)
        except grpc.RpcError as error:
            print(error.code(), error.details(), flush=True)
            failed.set()


callers = [threading.Thread(target=call, daemon=True) for _ in range(8)]
for caller in callers:
    caller.start()
failed.wait()
sys.exit(1)
