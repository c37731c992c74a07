#!/usr/bin/env python3
"""Servers that do what no good one does, for the tests of the checks.

hostile.py [NAME ...] plays the servers of these names, all of them unless named, each on a port of
127.0.0.1 that is free. It says "NAME=PORT NAME=PORT ..." first. Then it obeys, line by line, and
answers each line:

    listen    the ports accept connections; until then they refuse them
    refuse    they refuse them again, and every connection is cut
    count     how many connections there were, "NAME=NUMBER ..."

It ends when its standard input does. CASES at the end says what there is.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
import sys
from dataclasses import dataclass, field

CHUNK = 1 << 16
MEGABYTES_10 = 10 << 20


class Peer:
    """A connection, for a script that need not care when the other side goes."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def take(self, length=CHUNK):
        """What has come, b"" at the end."""
        return await self.reader.read(length)

    async def until(self, end):
        await self.reader.readuntil(end)

    async def say(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, data, most=None):
        """The same again and again, in large pieces; so many bytes of it, or for ever."""
        piece = data * max(1, CHUNK // len(data))
        sent = 0
        while most is None or sent < most:
            await self.say(piece)
            sent += len(piece)
            await asyncio.sleep(0)

    async def drip(self, data, pause=0.001):
        """Byte by byte, each in a packet of its own."""
        for byte in data:
            await self.say(bytes([byte]))
            await asyncio.sleep(pause)

    async def hang(self):
        """Reads whatever comes, until the other side has enough."""
        while await self.take():
            pass

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


# -- What several protocols have in common

async def silent(peer):
    await asyncio.sleep(3600)


async def deaf(peer):
    """Accepts, and never reads."""
    peer.writer.transport.pause_reading()
    await asyncio.sleep(3600)


async def closes(peer):
    pass


async def resets(peer):
    peer.reset()


async def closes_later(peer):
    await peer.take()


async def resets_later(peer):
    await peer.take()
    peer.reset()


async def garbage(peer):
    await peer.say(random.Random(1).randbytes(3000))
    await peer.hang()


async def endless_garbage(peer):
    await peer.flood(random.Random(2).randbytes(CHUNK))


async def zeros(peer):
    await peer.flood(bytes(CHUNK))


def after_request(data, then=Peer.hang):
    """Says this when something has come."""

    async def script(peer):
        await peer.take()
        await peer.say(data)
        await then(peer)

    return script


def at_once(data, then=Peer.hang):
    async def script(peer):
        await peer.say(data)
        await then(peer)

    return script


def flood_after_request(data, head=b"", most=None):
    async def script(peer):
        await peer.take()
        await peer.say(head)
        await peer.flood(data, most)
        await peer.hang()

    return script


def flood_at_once(data, head=b"", most=None):
    async def script(peer):
        await peer.say(head)
        await peer.flood(data, most)
        await peer.hang()

    return script


async def end(peer):
    """The end of the connection, behind what was said."""


# -- HTTP

def http(head, body=b"", status=b"200 OK"):
    lines = b"".join(line + b"\r\n" for line in head)
    return b"HTTP/1.1 " + status + b"\r\n" + lines + b"\r\n" + body


async def http_drips(peer):
    """A header line that never ends, one byte every 10 ms."""
    await peer.take()
    await peer.drip(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await peer.drip(b"x", 0.01)


async def http_slow(peer):
    """A good answer, byte by byte."""
    await peer.take()
    await peer.drip(b"HTTP/1.1 200 OK\r\n\r\n")


# -- TLS: https checks, with and without a handshake that could come to an end

def record(kind, content, version=b"\x03\x03"):
    return bytes([kind]) + version + struct.pack(">H", len(content)) + content


def handshake(kind, content):
    return bytes([kind]) + struct.pack(">I", len(content))[1:] + content


SERVER_HELLO = handshake(2, b"\x03\x03" + bytes(32) + b"\x00" + b"\xc0\x2f" + b"\x00" + b"\x00\x00")


# -- HTTP/2

def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


DATA, HEADERS, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
HELLO = frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)
STATUS_200 = b"\x88"


def literal(name, value):
    """A header without Huffman coding and without the table."""

    def string(text):
        if len(text) < 127:
            return bytes([len(text)]) + text
        rest, out = len(text) - 127, b"\x7f"
        while rest >= 128:
            out += bytes([rest % 128 + 128])
            rest //= 128
        return out + bytes([rest]) + text

    return b"\x00" + string(name) + string(value)


GRPC_HEAD = STATUS_200 + literal(b"content-type", b"application/grpc")
SERVING = b"\x00\x00\x00\x00\x02\x08\x01"


def http2(answer, then=Peer.hang, head=HELLO):
    """Says this once the request is there."""

    async def script(peer):
        await http2_request(peer)
        await peer.say(head + answer)
        await then(peer)

    return script


async def http2_request(peer):
    """Reads until a message has come, the end of a stream; not much else is looked at."""
    await peer.reader.readexactly(24)
    while True:
        start = await peer.reader.readexactly(9)
        length = int.from_bytes(start[:3], "big")
        await peer.reader.readexactly(length)
        if start[3] in (DATA, HEADERS) and start[4] & 1:
            return


def http2_flood(data, head=HELLO, most=None):
    async def script(peer):
        await http2_request(peer)
        await peer.say(head)
        # What comes back is read, or else the flood would stop by itself.
        reading = asyncio.ensure_future(peer.hang())
        try:
            await peer.flood(data, most)
            await peer.hang()
        finally:
            reading.cancel()

    return script


# Each reference to a header of 4 kB in the table is one byte: 64 kB of them are 256 MB.
BOMB = GRPC_HEAD + b"\x40" + literal(b"x", b"y" * 4000)[1:] + b"\xbe" * 12000


# -- Databases

def mysql_packet(number, content):
    return struct.pack("<I", len(content))[:3] + bytes([number]) + content


def mysql_greeting(plugin=b"mysql_native_password"):
    return mysql_packet(0, b"\x0a8.0.0\0" + struct.pack("<I", 1) + b"abcdefgh\0" + b"\xff\xf7" + b"\x21\x02\x00"
                        + b"\xff\x81" + b"\x15" + bytes(10) + b"ijklmnopqrst\0" + plugin + b"\0")


async def mysql_switches(peer):
    """Wants another way of authentication, again and again."""
    await peer.say(mysql_greeting())
    number = 2
    while await peer.take():
        await peer.say(mysql_packet(number % 256, b"\xfemysql_native_password\0abcdefghijklmnopqrst\0"))
        number += 2


async def mysql_drips(peer):
    await peer.drip(mysql_greeting(), 0.05)
    await peer.hang()


def postgres(kind, content):
    return kind + struct.pack(">I", len(content) + 4) + content


async def postgres_scram(peer, iterations):
    await peer.take()
    await peer.say(postgres(b"R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"))
    first = await peer.take()
    nonce = first.split(b"r=", 1)[1]
    await peer.say(postgres(b"R", struct.pack(">I", 11) + b"r=" + nonce + b"abc,s=c2FsdHNhbHQ=,i=" + iterations))
    await peer.hang()


async def postgres_many_iterations(peer):
    await postgres_scram(peer, b"2000000000")


async def postgres_most_iterations(peer):
    """As many as a check takes upon itself: what that costs at a stretch."""
    await postgres_scram(peer, b"16384")


async def postgres_proves_nothing(peer):
    """Accepts any password, without proof that it knows it."""
    await peer.take()
    await peer.say(postgres(b"R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"))
    nonce = (await peer.take()).split(b"r=", 1)[1]
    await peer.say(postgres(b"R", struct.pack(">I", 11) + b"r=" + nonce + b"abc,s=c2FsdHNhbHQ=,i=4096"))
    await peer.take()
    await peer.say(postgres(b"R", struct.pack(">I", 12) + b"v=" + b"A" * 43 + b"=") + postgres(b"R", bytes(4))
                   + postgres(b"Z", b"I"))
    await peer.hang()


OK_POSTGRES = postgres(b"R", bytes(4))
PARAMETER = postgres(b"S", b"name\0value\0")
NOTICE = postgres(b"N", b"SNOTICE\0Mhello\0\0")


CASES = {
    # http, without a pattern for the body: the head decides.
    "http_silent": silent,
    "http_deaf": deaf,
    "http_closes": closes,
    "http_resets": resets,
    "http_closes_later": closes_later,
    "http_resets_later": resets_later,
    "http_drips": http_drips,
    "http_garbage": garbage,
    "http_endless_garbage": endless_garbage,
    "http_zeros": zeros,
    "http_newlines": flood_at_once(b"\r\n"),
    "http_headers": flood_after_request(b"X-Header: " + b"x" * 100 + b"\r\n", b"HTTP/1.1 200 OK\r\n", MEGABYTES_10),
    "http_header": flood_after_request(b"x" * CHUNK, b"HTTP/1.1 200 OK\r\nX: ", MEGABYTES_10),
    "http_tiny_headers": flood_after_request(b"a:\r\n", b"HTTP/1.1 200 OK\r\n"),
    "http_reason": flood_after_request(b"x" * CHUNK, b"HTTP/1.1 200 "),
    "http_interim": flood_after_request(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "http_interim_headers": flood_after_request(http([b"Link: </a>; rel=preload"], status=b"103 Early Hints")),
    "http_status": after_request(http([], status=b"99999 OK")),
    "http_no_status": after_request(b"HTTP/1.1 OK\r\n\r\n"),
    "http_version": after_request(b"HTTP/7.7 200 OK\r\n\r\n"),
    "http_switches": after_request(http([b"Upgrade: x", b"Connection: upgrade"], status=b"101 Switching Protocols")),
    "http_early": at_once(b"HTTP/1.1 500 Sorry\r\n\r\n"),
    "http_nul": after_request(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
    "http_slow": http_slow,
    # http, with a pattern for the body that none of them has in its first 256 kB.
    "body_huge": flood_after_request(b"hay\n", http([b"Content-Length: 1000000000000"])),
    "body_endless": flood_after_request(b"hay\n", http([])),
    "body_chunks": flood_after_request(b"1\r\nx\r\n", http([b"Transfer-Encoding: chunked"])),
    "body_chunk": flood_after_request(b"hay\n", http([b"Transfer-Encoding: chunked"], b"7fffffffffffffff\r\n")),
    "body_chunk_size": flood_after_request(b"0", http([b"Transfer-Encoding: chunked"])),
    "body_chunk_extension": flood_after_request(b"x", http([b"Transfer-Encoding: chunked"], b"1;")),
    "body_chunk_overflow": after_request(http([b"Transfer-Encoding: chunked"], b"fffffffffffffffffffff\r\nneedle\r\n")),
    "body_trailers": flood_after_request(b"a:b\r\n", http([b"Transfer-Encoding: chunked"], b"0\r\n")),
    "body_short": after_request(http([b"Content-Length: 100"], b"hay"), end),
    "body_never": after_request(http([b"Content-Length: 100"])),
    "body_negative": after_request(http([b"Content-Length: -6"], b"needle")),
    "body_words": after_request(http([b"Content-Length: six"], b"needle")),
    "body_two_lengths": after_request(http([b"Content-Length: 3", b"Content-Length: 6"], b"needle")),
    "body_overflow": after_request(http([b"Content-Length: 99999999999999999999999"], b"needle")),
    "body_late": after_request(http([], b"h" * (256 << 10) + b"needle"), end),
    # https
    "tls_silent": silent,
    "tls_closes": closes,
    "tls_closes_later": closes_later,
    "tls_resets_later": resets_later,
    "tls_garbage": garbage,
    "tls_endless_garbage": endless_garbage,
    "tls_http": after_request(b"HTTP/1.1 400 Bad Request\r\n\r\n", end),
    "tls_alert": after_request(record(21, b"\x02\x28")),
    "tls_warnings": flood_after_request(record(21, b"\x01\x5a")),
    "tls_half": after_request(record(22, SERVER_HELLO)),
    "tls_half_closed": after_request(record(22, SERVER_HELLO), end),
    "tls_big_record": flood_after_request(b"x" * CHUNK, b"\x16\x03\x03\xff\xff"),
    "tls_empty_records": flood_after_request(record(22, b"")),
    "tls_big_certificate": flood_after_request(record(22, b"x" * 16384),
                                               record(22, SERVER_HELLO) + record(22, b"\x0b\xff\xff\xff")),
    "tls_hellos": flood_after_request(record(22, SERVER_HELLO)),
    # tcp with expect=needle
    "tcp_silent": silent,
    "tcp_closes": closes,
    "tcp_flood": flood_at_once(b"hay\n"),
    "tcp_garbage": garbage,
    # grpc
    "grpc_silent": silent,
    "grpc_closes": closes,
    "grpc_closes_later": closes_later,
    "grpc_resets_later": resets_later,
    "grpc_garbage": garbage,
    "grpc_endless_garbage": endless_garbage,
    "grpc_zeros": zeros,
    "grpc_http": after_request(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "grpc_no_settings": http2(frame(HEADERS, 4, 1, GRPC_HEAD) + frame(DATA, 0, 1, SERVING)
                              + frame(HEADERS, 5, 1, literal(b"grpc-status", b"0")), head=b""),
    "grpc_nothing": http2(b""),
    "grpc_settings": http2_flood(frame(SETTINGS, 0, 0)),
    "grpc_big_settings": http2_flood(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 2000)),
    "grpc_acks": http2_flood(frame(SETTINGS, 1, 0)),
    "grpc_pings": http2_flood(frame(PING, 0, 0, bytes(8))),
    "grpc_pongs": http2_flood(frame(PING, 1, 0, bytes(8))),
    "grpc_empty_data": http2_flood(frame(DATA, 0, 1), HELLO + frame(HEADERS, 4, 1, GRPC_HEAD)),
    "grpc_padding": http2_flood(frame(DATA, 8, 1, b"\xff" + bytes(255)), HELLO + frame(HEADERS, 4, 1, GRPC_HEAD)),
    "grpc_data": http2_flood(frame(DATA, 0, 1, b"x" * 16384), HELLO + frame(HEADERS, 4, 1, GRPC_HEAD)),
    "grpc_message": http2_flood(frame(DATA, 0, 1, b"x" * 8000),
                                HELLO + frame(HEADERS, 4, 1, GRPC_HEAD) + frame(DATA, 0, 1, b"\x00\xff\xff\xff\xff")),
    "grpc_continuation": http2_flood(frame(CONTINUATION, 0, 1), HELLO + frame(HEADERS, 0, 1, GRPC_HEAD)),
    "grpc_big_continuation": http2_flood(frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 16000)),
                                         HELLO + frame(HEADERS, 0, 1, GRPC_HEAD)),
    "grpc_bomb": http2(frame(HEADERS, 4, 1, BOMB)),
    "grpc_headers": http2_flood(frame(HEADERS, 4, 1, GRPC_HEAD)),
    "grpc_interim": http2_flood(frame(HEADERS, 4, 1, literal(b":status", b"100"))),
    "grpc_window": http2_flood(frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF))),
    "grpc_windows": http2_flood(frame(WINDOW, 0, 0, struct.pack(">I", 1))),
    "grpc_resets": http2_flood(frame(RST, 0, 1, struct.pack(">I", 8))),
    "grpc_unknown": http2_flood(frame(0xBE, 0, 0)),
    "grpc_pushes": http2_flood(frame(PUSH, 4, 1, struct.pack(">I", 2) + STATUS_200)),
    "grpc_goaway": http2(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 11))),
    "grpc_goaways": http2_flood(frame(GOAWAY, 0, 0, struct.pack(">II", 0x7FFFFFFF, 0))),
    "grpc_refused": http2(frame(RST, 0, 1, struct.pack(">I", 7))),
    "grpc_stream": http2(frame(HEADERS, 5, 3, GRPC_HEAD)),
    "grpc_even_stream": http2_flood(frame(HEADERS, 5, 2, GRPC_HEAD)),
    "grpc_big_frame": http2_flood(b"x" * CHUNK, HELLO + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
    "grpc_bad_table": http2(frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff")),
    "grpc_window_zero": http2(b"", head=frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0))),
    "grpc_without_trailers": http2(frame(HEADERS, 4, 1, GRPC_HEAD) + frame(DATA, 1, 1, SERVING)),
    "grpc_trailers_only": http2(frame(HEADERS, 5, 1, GRPC_HEAD + literal(b"grpc-status", b"0"))),
    "grpc_compressed": http2(frame(HEADERS, 4, 1, GRPC_HEAD) + frame(DATA, 0, 1, b"\x01" + SERVING[1:])
                             + frame(HEADERS, 5, 1, literal(b"grpc-status", b"0"))),
    "grpc_cut": http2(frame(HEADERS, 4, 1, GRPC_HEAD) + frame(DATA, 0, 1, SERVING[:-1])
                      + frame(HEADERS, 5, 1, literal(b"grpc-status", b"0"))),
    # redis
    "redis_silent": silent,
    "redis_closes": closes,
    "redis_resets_later": resets_later,
    "redis_garbage": garbage,
    "redis_endless_garbage": endless_garbage,
    "redis_zeros": zeros,
    "redis_bulk": flood_after_request(b"x" * CHUNK, b"$536870912\r\n"),
    "redis_line": flood_after_request(b"x" * CHUNK, b"+"),
    "redis_arrays": flood_after_request(b"*1\r\n"),
    "redis_array": flood_after_request(b"+x\r\n", b"*2147483647\r\n"),
    "redis_pushes": flood_after_request(b">1\r\n+x\r\n"),
    "redis_empty_pushes": flood_after_request(b">0\r\n"),
    "redis_maps": flood_after_request(b"%1\r\n+x\r\n"),
    "redis_numbers": flood_after_request(b"1" * CHUNK, b":"),
    "redis_minus": after_request(b"$-9223372036854775808\r\n"),
    "redis_error": flood_after_request(b"x" * CHUNK, b"-ERR "),
    "redis_streamed": flood_after_request(b";1\r\nx\r\n", b"$?\r\n"),
    # mysql, with a user
    "mysql_silent": silent,
    "mysql_closes": closes,
    "mysql_garbage": garbage,
    "mysql_endless_garbage": endless_garbage,
    "mysql_zeros": zeros,
    "mysql_16_megabytes": flood_at_once(b"x" * CHUNK, b"\xff\xff\xff\x00"),
    "mysql_cut": at_once(mysql_greeting()[:30], end),
    "mysql_long_greeting": flood_at_once(b"x" * CHUNK, b"\xff\xff\x00\x00\x0a"),
    "mysql_answer": flood_at_once(b"x" * CHUNK, mysql_greeting() + b"\xff\xff\xff\x02"),
    "mysql_empty_packets": flood_at_once(b"\x00\x00\x00\x02", mysql_greeting()),
    "mysql_more": flood_at_once(mysql_packet(2, b"\x01\x03"), mysql_greeting(b"caching_sha2_password")),
    "mysql_switches": mysql_switches,
    "mysql_drips": mysql_drips,
    "mysql_error": at_once(mysql_packet(0, b"\xff\x10\x04" + b"\x1b[2J\r\n" * 500)),
    # postgres, with a user and without TLS
    "postgres_silent": silent,
    "postgres_closes": closes,
    "postgres_garbage": garbage,
    "postgres_endless_garbage": endless_garbage,
    "postgres_zeros": zeros,
    "postgres_2_gigabytes": flood_after_request(b"x" * CHUNK, b"R\x7f\xff\xff\xff"),
    "postgres_negative": after_request(b"R\xff\xff\xff\xff" + bytes(100)),
    "postgres_short": after_request(b"R\x00\x00\x00\x00" + bytes(100)),
    "postgres_parameters": flood_after_request(PARAMETER, OK_POSTGRES),
    "postgres_notices": flood_after_request(NOTICE),
    "postgres_error": flood_after_request(b"x" * CHUNK, b"E"),
    "postgres_many_iterations": postgres_many_iterations,
    "postgres_most_iterations": postgres_most_iterations,
    "postgres_proves_nothing": postgres_proves_nothing,
    # postgres, with a user and TLS
    "postgres_tls_garbage": after_request(b"S", endless_garbage),
    "postgres_tls_early": after_request(b"S" + OK_POSTGRES + postgres(b"Z", b"I")),
    "postgres_tls_silent": after_request(b"S"),
}


@dataclass
class Server:
    """One of them: its script, its port, and how many connections there were."""

    name: str
    script: object
    listening: socket.socket = None
    server: object = None
    port: int = 0
    count: int = 0
    tasks: set = field(default_factory=set)

    def bind(self):
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind(("127.0.0.1", self.port))
        self.port = self.listening.getsockname()[1]

    async def accepted(self, reader, writer):
        self.count += 1
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError):
                await self.script(Peer(reader, writer))
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self.tasks.discard(task)
            writer.close()

    async def listen(self):
        self.server = await asyncio.start_server(self.accepted, sock=self.listening, backlog=512)

    async def refuse(self):
        if self.server is None:
            return
        self.server.close()
        self.server = None
        for task in list(self.tasks):
            task.cancel()
        self.bind()


async def obey(servers):
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(*(f"{server.name}={server.port}" for server in servers), flush=True)
    while line := await reader.readline():
        match line.strip():
            case b"listen":
                for server in servers:
                    await server.listen()
                print("ok", flush=True)
            case b"refuse":
                for server in servers:
                    await server.refuse()
                print("ok", flush=True)
            case b"count":
                print(*(f"{server.name}={server.count}" for server in servers), flush=True)
            case other:
                print(f"what is {other}?", flush=True)
    # Not by the end of the loop, which would wait for each of them.
    os._exit(0)


def main():
    names = sys.argv[1:] or list(CASES)
    servers = [Server(name, CASES[name]) for name in names]
    for server in servers:
        server.bind()
    asyncio.run(obey(servers))


if __name__ == "__main__":
    main()
