"""Both sides of HTTP/2 with Python's h2, which is strict: what it refuses is said in a line that begins with REFUSED.

    judge_h2.py serve HOST PORT SETTINGS            a server that answers as the path says
    judge_h2.py ask HOST PORT AUTHORITY SETTINGS    a client: a line for each path, `METHOD PATH STATUS BYTES`
    judge_h2.py frames                              lines of base64: the bytes of one connection, as hyperframe reads them
"""

import base64
import socket
import sys
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hpack
import hyperframe.exceptions
import hyperframe.frame

LARGE = b"0123456789" * 30_000
# Windows, tables and frames of these sizes.
SETTINGS = [
    {},
    {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100, h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0},
    {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1_000_000, h2.settings.SettingCodes.MAX_FRAME_SIZE: 65_536},
    {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0, h2.settings.SettingCodes.HEADER_TABLE_SIZE: 65_536},
]
say = threading.Lock()


def tell(line):
    with say:
        print(line, flush=True)


class Peer:
    """A connection that is read to its end. What is to be sent waits for the windows."""

    def __init__(self, sock, client, number):
        self.sock = sock
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client))
        self.waiting = {}
        self.bodies = {}
        self.number = number
        self.connection.initiate_connection()
        # In force once they are acknowledged.
        self.connection.update_settings(SETTINGS[number % len(SETTINGS)])
        self.flush()

    def flush(self):
        self.sock.sendall(self.connection.data_to_send())

    def send(self, stream, body, trailers=None):
        self.waiting[stream] = (body, trailers)
        self.push()

    def push(self):
        for stream, (body, trailers) in list(self.waiting.items()):
            try:
                self.push_one(stream, body, trailers)
            except h2.exceptions.StreamClosedError:
                # The other side wants no more of it; the event that says so comes next.
                self.waiting.pop(stream, None)

    def push_one(self, stream, body, trailers):
        while body:
            room = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if room <= 0:
                break
            self.connection.send_data(stream, body[:room])
            body = body[room:]
        self.waiting[stream] = (body, trailers)
        if not body:
            del self.waiting[stream]
            if trailers:
                self.connection.send_headers(stream, trailers, end_stream=True)
            else:
                self.connection.end_stream(stream)

    def run(self):
        """To its end; True when nothing was refused."""
        try:
            while data := self.sock.recv(20_000):
                for event in self.connection.receive_data(data):
                    self.take(event)
                self.push()
                self.flush()
                if self.done():
                    self.connection.close_connection()
                    self.flush()
                    return True
            return True
        except h2.exceptions.ProtocolError as error:
            tell(f"REFUSED {type(error).__name__} {error} of {self.bodies}")
            return False
        except OSError:
            return True

    def done(self):
        return False

    def take(self, event):
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, 0) + len(event.data)
            if event.flow_controlled_length:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            self.push()
        elif isinstance(event, h2.events.SettingsAcknowledged):
            window = event.changed_settings.get(h2.settings.SettingCodes.INITIAL_WINDOW_SIZE)
            if window is not None and window.new_value == 0:
                # Nothing could be sent; now something can.
                self.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 30_000})
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(event.stream_id, None)
            self.ended(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended(event.stream_id)

    def ended(self, stream):
        pass


class Server(Peer):
    def __init__(self, sock, number):
        self.asked = {}
        super().__init__(sock, False, number)

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            fields = dict(event.headers)
            self.asked[event.stream_id] = fields[b":method"], fields[b":path"]
            if fields[b":path"].endswith(b"/early"):
                self.answer(event.stream_id, 413, b"early")
                return
            if fields[b":path"].endswith(b"/reset"):
                self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
                self.asked.pop(event.stream_id)
                return
        super().take(event)

    def ended(self, stream):
        method, path = self.asked.pop(stream, (b"", b""))
        if not path or path.endswith(b"/early"):
            return
        if path.endswith(b"/hints"):
            for _ in range(2):
                self.connection.send_headers(stream, [(":status", "103"), ("link", "</a.css>; rel=preload")])
        if path.endswith(b"/204"):
            self.connection.send_headers(stream, [(":status", "204"), ("etag", '"a"')], end_stream=True)
        elif method == b"HEAD":
            self.connection.send_headers(stream, [(":status", "200"), ("content-length", "5")], end_stream=True)
        elif path.endswith(b"/large"):
            self.answer(stream, 200, LARGE)
        elif path.endswith(b"/trailers"):
            self.answer(stream, 200, b"x", [("x-sum", "1"), ("x-sum", "2")])
        else:
            self.answer(stream, 200, str(self.bodies.get(stream, 0)).encode())

    def answer(self, stream, status, body, trailers=None):
        long = [("x-long", "y" * 20_000)] if self.number % 2 else []
        self.connection.send_headers(stream, [(":status", str(status)), ("set-cookie", "a=b"), ("set-cookie", "c=d"), *long])
        self.send(stream, body, trailers)


PATHS = [
    ("GET", "/", 0),
    ("HEAD", "/", 0),
    ("GET", "/204", 0),
    ("POST", "/small", 10),
    ("POST", "/all", len(LARGE)),
    ("GET", "/large", 0),
    ("GET", "/hints", 0),
    ("POST", "/trailers", 100),
    ("GET", "/trailers", 0),
    ("POST", "/early", 40_000),
    ("GET", "/reset", 0),
    ("GET", "/%zz", 0),
]


class Client(Peer):
    def __init__(self, sock, authority, number):
        self.paths, self.statuses, self.left = {}, {}, set()
        super().__init__(sock, True, number)
        for below in ("/one", "/two", "/nowhere"):
            for method, path, length in PATHS:
                stream = self.connection.get_next_available_stream_id()
                fields = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", below + path)]
                fields += [("te", "trailers"), ("cookie", "a=b"), ("cookie", "c=d")]
                fields += [("x-long", "z" * 20_000)] if path == "/small" else []
                self.paths[stream] = f"{method} {below}{path}"
                self.left.add(stream)
                self.connection.send_headers(stream, fields, end_stream=length == 0)
                if length:
                    self.send(stream, LARGE[:length], [("x-sum", "3")] if path == "/trailers" else None)
        self.flush()

    def take(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.statuses[event.stream_id] = dict(event.headers)[b":status"].decode()
        super().take(event)

    def ended(self, stream):
        if stream in self.left:
            self.left.discard(stream)
            tell(f"{self.paths[stream]} {self.statuses.get(stream, 'reset')} {self.bodies.get(stream, 0)}")

    def done(self):
        return not self.left


def serve(host, port, settings):
    listener = socket.create_server((host, int(port)))
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        threading.Thread(target=run, args=(sock, int(settings)), daemon=True).start()


def run(sock, settings):
    try:
        Server(sock, settings).run()
    except ConnectionError:
        pass


def ask(host, port, authority, settings):
    sock = socket.create_connection((host, int(port)))
    sock.settimeout(15)
    client = Client(sock, authority, int(settings))
    if not client.run() or client.left:
        tell(f"REFUSED or not answered: {[client.paths[stream] for stream in client.left]}")


def frames():
    """Every frame by itself: its length, its flags, its stream, its fields."""
    for number, line in enumerate(sys.stdin):
        data, decoder, block = memoryview(base64.b64decode(line)), hpack.Decoder(), None
        try:
            while len(data) >= 9:
                frame, length = hyperframe.frame.Frame.parse_frame_header(data[:9], strict=True)
                if len(data) < 9 + length:
                    break
                frame.parse_body(data[9 : 9 + length])
                data = data[9 + length :]
                if isinstance(frame, (hyperframe.frame.HeadersFrame, hyperframe.frame.ContinuationFrame)):
                    block = (block or b"") + frame.data
                    if "END_HEADERS" in frame.flags:
                        decoder.decode(block)
                        block = None
                elif block is not None:
                    raise ValueError("a block that is not at its end")
            tell("ended")
        except (hyperframe.exceptions.HyperframeError, hpack.HPACKError, ValueError) as error:
            tell(f"REFUSED {number}: {type(error).__name__} {error}")


{"serve": serve, "ask": ask, "frames": frames}[sys.argv[1]](*sys.argv[2:])
