#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets anew: corpus/TARGET/*.seed, mostly from the tables of tests/stories/hostile."""

import pathlib
import re
import ssl

HERE = pathlib.Path(__file__).parent
HOSTILE = HERE.parent / "stories" / "hostile"
LONGEST = 800


def unescape(text):
    """The escapes of the tables (tests/stories/hostile/table.rs)."""
    out, rest = b"", text
    while "\\" in rest:
        plain, rest = rest.split("\\", 1)
        out += plain.encode()
        kind, rest = rest[0], rest[1:]
        if kind == "x":
            out, rest = out + bytes([int(rest[:2], 16)]), rest[2:]
        elif kind == "{":
            what, rest = rest.split("}", 1)
            count, what = what.split("*", 1)
            # A few stand for many.
            out += b"".join(unescape(what.replace("#", str(number))) for number in range(min(int(count), 20)))
        else:
            out += {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}[kind]
    return out + rest.encode()


def cases(table):
    """Name, and lines as word and rest."""
    found = []
    for line in (HOSTILE / table).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "case:":
            found.append((rest, []))
        else:
            found[-1][1].append((word, rest))
    return found


def octets(lines):
    out = b""
    for word, rest in lines:
        if word == "|":
            out += unescape(rest) + b"\r\n"
        elif word == ">":
            out += unescape(rest)
        elif word in ("get", "post"):
            out += f"{word.upper()} {rest or '/'} HTTP/1.1\r\nHost: shop.example.com\r\n".encode()
    return out


def write(target, seeds, most):
    """Every so many of them, so that all tables have their share."""
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.seed"):
        old.unlink()
    seeds = [(name, data) for name, data in seeds if 0 < len(data) <= LONGEST]
    step = max(1, len(seeds) / most)
    for number in range(min(most, len(seeds))):
        name, data = seeds[int(number * step)]
        (folder / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] + ".seed")).write_bytes(data)


def heads_and_chunks():
    heads, chunks = [], []
    for table, answers in (("framing.txt", 0), ("target.txt", 0), ("fields.txt", 0), ("answers.txt", 1)):
        for number, (name, lines) in enumerate(cases(table)):
            # How it is read and cut: the lowest bit says request or answer.
            how = bytes([(number * 4 + answers) % 256])
            head, _, rest = octets(lines).partition(b"\r\n\r\n")
            heads.append((f"{table[:-4]} {name}", how + head + b"\r\n\r\n"))
            if b"hunked" in head and rest:
                chunks.append((f"{table[:-4]} {name}", how + rest))
    return heads, chunks


def integer(number, bits, first=0):
    """RFC 7541 section 5.1."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    out, number = [first | most], number - most
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes(out + [number])


def literal(name, value, first=0):
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def request(method, path):
    fields = ((b":method", method), (b":scheme", b"http"), (b":authority", b"shop.example.com"), (b":path", path))
    return b"".join(literal(name, value) for name, value in fields)


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(lines, at):
    """The fields of a line of frames.txt, and of those below it."""
    words = lines[at][1].split(" ")[1:]
    start = [word for word in words if word not in ("end", "more")]
    out = request(start[0].encode(), start[1].encode()) if start else b""
    for word, field in lines[at + 1 :]:
        if word != ".":
            break
        name, value = field.split(": ", 1)
        out += literal(unescape(name), unescape(value))
    return out, (1 if "end" in words else 0) | (0 if "more" in words else 4)


def frames():
    found = []
    for number, (name, lines) in enumerate(cases("frames.txt")):
        out = b"" if ("first", "") in lines else frame(4, 0, 0, bytes([0, 1, 0, 0, 0, 0]))
        for at, (word, rest) in enumerate(lines):
            # The first round of a loop.
            rest = " ".join("1" if part == "*" else part for part in rest.split(" "))
            if word in ("headers", "continue"):
                fields, flags = block(lines, at)
                out += frame(1 if word == "headers" else 9, flags, int(rest.split(" ")[0]), fields)
            elif word == "data":
                stream, _, content = rest.partition(" ")
                ends = content.startswith("end")
                out += frame(0, int(ends), int(stream), unescape(content[3:].lstrip() if ends else content))
            elif word == "frame":
                kind, flags, stream, *payload = rest.split(" ", 3)
                out += frame(int(kind), int(flags), int(stream), unescape(payload[0] if payload else ""))
        # An even first byte is a server.
        found.append((name, bytes([number * 2 % 256]) + out))
    # To a client: answers, their content, trailers, resets, windows.
    answer = frame(4, 0, 0, b"") + frame(1, 4, 1, b"\x88\x5c\x015") + frame(0, 1, 1, b"hello")
    trailers = frame(1, 4, 3, b"\x88") + frame(0, 0, 3, b"x") + frame(1, 5, 3, literal(b"grpc-status", b"0"))
    others = frame(8, 0, 0, bytes([0, 0, 1, 0])) + frame(6, 0, 0, b"12345678") + frame(3, 0, 5, bytes(4))
    interim = frame(1, 4, 1, literal(b":status", b"103")) + frame(1, 5, 1, b"\x88")
    away = frame(7, 0, 0, bytes(8))
    for name, data in (("answer", answer), ("trailers", trailers), ("others", others), ("interim", interim), ("away", away)):
        for how in (1, 3, 5):
            found.append((f"client {name} {how}", bytes([how]) + data))
    padded = frame(1, 4 | 8 | 0x20, 1, b"\x02" + bytes(5) + request(b"GET", b"/") + b"\0\0") + frame(0, 9, 1, b"\x01x\0")
    found.append(("padded", b"\0" + padded))
    return found


def hpack():
    """RFC 7541 appendix C, and what an encoder rarely does; a length before each block."""
    plain = {
        "c-2-1 literal with indexing": "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
        "c-2-2 literal without indexing": "040c2f73616d706c652f70617468",
        "c-2-3 never indexed": "100870617373776f726406736563726574",
        "c-2-4 indexed": "82",
        "c-3 requests": "828684410f7777772e6578616d706c652e636f6d 828684be58086e6f2d6361636865"
        " 828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        "c-4 requests in the code": "828684418cf1e3c2e5f23a6ba0ab90f4ff 828684be5886a8eb10649cbf"
        " 828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        "c-5 answers": "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
        "6e1768747470733a2f2f7777772e6578616d706c652e636f6d 4803333037c1c0bf",
        "c-6 answers in the code": "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
        "6e919d29ad171863c78f0b97c8e9ae82ae43d3 4883640effc1c0bf",
        "no table": "20 82",
        "two sizes": "203f e11f 82",
        "a size that is too large": "3fe2ff03",
        "a size behind a field": "8220",
        "index 0": "80",
        "an index behind the table": "be",
        "an index without end": "ffffffffffffffffffff",
        "a length without end": "00ffffffffffffffffff",
        "a value that is cut": "0001780561",
        "padding of the code that is too long": "000178 82ffff",
        "the end of the code within": "00017884fffffffc",
        "padding of zeros": "0001788100",
        "an empty name": "0000 0161",
        "empty": "",
    }
    found = []
    for name, text in plain.items():
        blocks = [bytes.fromhex(part) for part in text.split(" ")]
        found.append((name, b"".join(bytes([len(one)]) + one for one in blocks)))
        if len(blocks) > 1:
            whole = b"".join(blocks)
            found.append((name + " as one", bytes([len(whole)]) + whole))
    fill = b"".join(literal(b"x-%d" % number, b"y" * 90, 0x40) for number in range(2))
    found.append(("a table that is full", (bytes([len(fill)]) + fill) * 2 + b"\x02\xbe\xbf"))
    for name, lines in cases("frames.txt"):
        for at, (word, _) in enumerate(lines):
            fields = block(lines, at)[0] if word == "headers" else b""
            if 60 < len(fields) < 256:
                found.append((f"frames {name}", bytes([len(fields)]) + fields))
    return found


def hello(sni, alpn, highest):
    """The ClientHello of a real client."""
    context = ssl.create_default_context()
    context.maximum_version = highest
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def proxy_headers():
    """Both versions of the PROXY protocol, whole and spoiled."""
    sign = b"\r\n\r\n\0\r\nQUIT\n"
    second = lambda command, family, payload: sign + bytes([command, family]) + len(payload).to_bytes(2, "big") + payload
    four = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + b"\xc3\x50\x01\xbb"
    six = bytes(15) + b"\1" + bytes(15) + b"\2" + b"\xc3\x50\x01\xbb"
    value = lambda kind, content: bytes([kind]) + len(content).to_bytes(2, "big") + content
    return [
        ("one of four", b"PROXY TCP4 192.0.2.1 198.51.100.1 50000 443\r\nGET / HTTP/1.1\r\n"),
        ("one of six", b"PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n"),
        ("one unknown", b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n"),
        ("one with a port that is too large", b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n"),
        ("one with two spaces", b"PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n"),
        ("one without end", b"PROXY TCP4 " + b"1" * 100),
        ("two of four", second(0x21, 0x11, four) + b"GET"),
        ("two of six", second(0x21, 0x21, six)),
        ("two of a unix socket", second(0x21, 0x31, b"/a" + bytes(106) + b"/b" + bytes(106))),
        ("two local", second(0x20, 0, b"")),
        ("two with values", second(0x21, 0x11, four + value(1, b"h2") + value(2, b"a.example") + value(4, bytes(8)))),
        ("two with a checksum", second(0x21, 0x11, four + value(3, bytes(4)))),
        ("two with a value that is too long", second(0x21, 0x11, four + b"\x02\xff\xff")),
        ("two that is too short", second(0x21, 0x11, four[:6])),
        ("two of another version", second(0x31, 0x11, four)),
        ("two of datagrams", second(0x21, 0x12, four)),
    ]


def tls_stream():
    record = lambda kind, payload: bytes([kind, 3, 3]) + len(payload).to_bytes(2, "big") + payload
    message = lambda kind, payload: bytes([kind]) + len(payload).to_bytes(3, "big") + payload
    new, old = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    retry = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    versions = b"\0\x2b\0\x02\x03\x04"
    server_hello = lambda random, extensions: message(
        2, b"\3\3" + random + b"\x20" + bytes(32) + b"\x13\x01\0" + len(extensions).to_bytes(2, "big") + extensions
    )
    share = b"\0\x33\0\x24\0\x1d\0\x20" + bytes(range(32))
    first = {
        "hello": hello("a.example", [], new),
        "hello of 1-2": hello("a.example", ["h2"], old),
        "hello with protocols": hello("a.example", ["h2", "http/1.1"], new),
        "hello of a validator": hello("a.example", ["acme-tls/1"], new),
    }
    others = {
        "alert": record(21, b"\x02\x28"),
        "close": record(21, b"\x01\x00"),
        "empty record": record(22, b""),
        "record that is too long": b"\x16\x03\x03\x48\x01" + bytes(50),
        "half a head": b"\x16\x03",
        "plain text": b"GET / HTTP/1.1\r\n\r\n",
        "old hello": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
        "change cipher spec": record(20, b"\x01") * 3,
        "application data": record(23, bytes(40)),
        "message that is too long": record(22, b"\x01\xff\xff\xff" + bytes(40)),
    }
    answers = {
        "server hello": record(22, server_hello(bytes(32), versions + share)) + record(20, b"\1") + record(23, bytes(60)),
        "retry": record(22, server_hello(retry, versions + b"\0\x33\0\x02\0\x17")),
        "server hello of 1-2": record(22, server_hello(b"DOWNGRD" + bytes(25), b"\xff\x01\0\x01\0")),
        "hello request": record(22, message(0, b"")),
    }
    found = []
    for name, data in first.items():
        parts = b"".join(record(22, data[5 + at : 5 + at + 40]) for at in range(0, len(data) - 5, 40))
        found += [
            (f"client {name}", b"\0\xff\xff\xff\xff" + data),
            (f"client {name} twice", b"\0\xff\0\xff\x03" + data + data),
            (f"client {name} byte by byte", b"\0\1\1\1\1" + data),
            (f"client {name} in small records", b"\0\xff\0\xff\0" + parts),
            (f"client {name} and then a record", b"\0\xff\xff\xff\xff" + data + record(20, b"\1") + record(23, bytes(50))),
        ]
    for side, name in ((0, "client"), (1, "server")):
        for what, data in (others | (answers if side else {})).items():
            found.append((f"{name} {what}", bytes([side]) + b"\xff\0\x05\x01" + data))
    for name, cuts in (("whole", b"\xff" * 4), ("bytes", b"\1" * 4), ("waits", b"\0\5\0\xff"), ("records", b"\x80\x20\xc0\3")):
        found.append((f"honest {name}", b"\2" + cuts + b"\x07" + b"hello " * 20))
        found.append((f"honest {name} long", b"\2" + cuts + b"\xff" + b"hello " * 90))
        # Steps of four bytes: direction and what, where (two), by what.
        for step, where in ((0, 3), (0, 90), (1, 60), (1, 700), (2, 100), (3, 300), (4, 40), (5, 900), (6, 700), (7, 800)):
            steps = bytes([step]) + where.to_bytes(2, "big") + b"\x01"
            found.append((f"meddled {name} {step} at {where}", b"\3" + cuts + b"\1" + steps + b"hello " * 9))
    return found


heads, chunks = heads_and_chunks()
heads.append(("a hundred fields", b"\0POST / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 99 + b"\r\n"))
write("heads", heads[-1:] + heads[:-1], 60)
write("chunks", chunks, 60)
write("frames", frames(), 60)
write("hpack", hpack(), 60)
write("proxy_headers", proxy_headers(), 60)
# A ClientHello is longer than what the tables hold.
LONGEST = 4000
write("tls_stream", tls_stream(), 150)
