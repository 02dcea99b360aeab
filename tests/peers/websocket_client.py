"""A client of websockets: websocket_client.py ADDRESS PORT ROOT.pem; ends with 0 when everything was as it should be."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

address, port, root = sys.argv[1:]
trust = ssl.create_default_context(cafile=root)


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")


def open_at(path):
    return connect(f"wss://shop.example.com{path}", host=address, port=int(port), ssl=trust, max_size=None)


async def main():
    async with open_at("/live") as socket:
        for message in ["text", b"binary", "x" * 1_000_000, ""]:
            await socket.send(message)
            expect("an echo", await socket.recv(), message)
        await (await socket.ping())
        await socket.close(4001, "enough")
        expect("the client's close", socket.close_code, 4001)
    async with open_at("/live") as socket:
        await socket.send("close")
        try:
            await socket.recv()
            sys.exit("the server did not close")
        except ConnectionClosed as closed:
            expect("the server's close", (closed.rcvd.code, closed.rcvd.reason), (4002, "as agreed"))
    try:
        async with open_at("/refused"):
            sys.exit("an upgrade that is refused was not")
    except InvalidStatus as refused:
        expect("a refusal", (refused.response.status_code, refused.response.body), (403, b"not for you\n"))
    print("all is well")


asyncio.run(asyncio.wait_for(main(), 30))
