"""A server of websockets: websocket_server.py ADDRESS PORT"""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        if message == "close":
            await socket.close(4002, "as agreed")
            return
        await socket.send(message)


def refuse(connection, request):
    if request.path.endswith("/refused"):
        return connection.respond(403, "not for you\n")


async def main():
    async with serve(echo, sys.argv[1], int(sys.argv[2]), process_request=refuse, max_size=None) as server:
        await server.serve_forever()


asyncio.run(main())
