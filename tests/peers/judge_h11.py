"""Reads messages of clients as h11 does, which is strict. A line of input is the bytes of one connection in base64; a line
of output says what h11 took them for: {"requests": [{method, target, fields, body, trailers}], "refused": why or null}."""

import base64
import json
import sys

import h11


def judge(data):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=256 * 1024)
    connection.receive_data(data)
    connection.receive_data(b"")
    requests, current = [], None
    try:
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                break
            if isinstance(event, h11.ConnectionClosed):
                break
            if isinstance(event, h11.Request):
                fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]
                current = {"method": event.method.decode("latin-1"), "target": event.target.decode("latin-1")}
                current |= {"fields": fields, "body": "", "trailers": []}
            elif isinstance(event, h11.Data):
                current["body"] += bytes(event.data).decode("latin-1")
            elif isinstance(event, h11.EndOfMessage):
                current["trailers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]
                requests.append(current)
                connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        return {"requests": requests, "refused": str(error)}
    return {"requests": requests, "refused": None}


for line in sys.stdin:
    print(json.dumps(judge(base64.b64decode(line))))
