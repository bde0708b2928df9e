"""A very small MQTT client on a bare socket: sends what it is told, and lets a script look at the time and the bytes of
every answer. Only what the scripts need; paho is used where a real client is the point."""
import socket
import struct
import time


def s(text):
    b = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">H", len(b)) + b


def varint(n):
    out = b""
    while True:
        n, d = divmod(n, 128)
        out += bytes([d | (0x80 if n else 0)])
        if not n:
            return out


def packet(first, body):
    return bytes([first]) + varint(len(body)) + body


def props(b=b""):
    return varint(len(b)) + b


class Closed(Exception):
    pass


class Client:
    """version 3, 4 or 5. Reads time out after `wait` seconds."""

    def __init__(self, port, client, version=4, clean=True, keepalive=60, user=None, password=None, will=None,
                 expiry=None, receive_max=None, wait=20, connect=True, rcvbuf=None):
        self.version = version
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(wait)
        self.sock.connect(("127.0.0.1", int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""
        if connect:
            self.connack = self.connect(client, clean, keepalive, user, password, will, expiry, receive_max)

    def connect(self, client, clean, keepalive, user, password, will, expiry, receive_max):
        flags = 2 if clean else 0
        tail = s(client)
        if will:
            topic, payload, qos, retain = will
            flags |= 4 | qos << 3 | (0x20 if retain else 0)
            tail += (props() if self.version == 5 else b"") + s(topic) + s(payload)
        if user is not None:
            flags |= 0x80
            tail += s(user)
        if password is not None:
            flags |= 0x40
            tail += s(password)
        name = s("MQIsdp") if self.version == 3 else s("MQTT")
        body = name + bytes([self.version, flags]) + struct.pack(">H", keepalive)
        if self.version == 5:
            p = b""
            if expiry is not None:
                p += b"\x11" + struct.pack(">I", expiry)
            if receive_max is not None:
                p += b"\x21" + struct.pack(">H", receive_max)
            body += props(p)
        self.send(packet(0x10, body + tail))
        kind, body = self.read()
        assert kind >> 4 == 2, "want CONNACK, got 0x%02x" % kind
        return body[0], body[1]  # session present, code

    def send(self, b):
        self.sock.sendall(b)

    def publish(self, topic, payload, qos=0, mid=0, retain=False, dup=False):
        body = s(topic) + (struct.pack(">H", mid) if qos else b"") + (props() if self.version == 5 else b"")
        body += payload if isinstance(payload, bytes) else payload.encode()
        self.send(packet(0x30 | (8 if dup else 0) | qos << 1 | retain, body))

    def subscribe(self, topic, qos=0, mid=1):
        self.send(packet(0x82, struct.pack(">H", mid) + (props() if self.version == 5 else b"") + s(topic) + bytes([qos])))
        kind, body = self.expect(9)
        return body[-1]

    def ack(self, kind, mid, first=None):
        """kind 4 PUBACK, 5 PUBREC, 6 PUBREL, 7 PUBCOMP"""
        self.send(packet(kind << 4 | (2 if kind == 6 else 0), struct.pack(">H", mid)))

    def ping(self):
        self.send(b"\xc0\x00")

    def disconnect(self):
        self.send(b"\xe0\x00")
        self.sock.close()

    def more(self):
        got = self.sock.recv(65536)
        if not got:
            raise Closed()
        self.buf += got

    def read(self):
        """One packet: (first byte, body)."""
        while True:
            n, shift, i = 0, 0, 1
            while i < len(self.buf) and i < 5:
                d = self.buf[i]
                n |= (d & 127) << shift
                shift += 7
                i += 1
                if d < 128:
                    if len(self.buf) < i + n:
                        break
                    first, body = self.buf[0], self.buf[i:i + n]
                    self.buf = self.buf[i + n:]
                    return first, body
            self.more()

    def expect(self, kind):
        """The next packet of that kind; others before it are an error."""
        first, body = self.read()
        assert first >> 4 == kind, "want packet type %d, got 0x%02x %s" % (kind, first, body.hex())
        return first, body

    def silent(self, seconds):
        """Asserts that nothing comes for that long."""
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            got = self.read()
            raise AssertionError("want silence, got 0x%02x %s" % (got[0], got[1].hex()))
        except socket.timeout:
            pass
        finally:
            self.sock.settimeout(before)

    def closed(self):
        """Asserts that the server closes. Returns the packets that came before."""
        out = []
        try:
            while True:
                out.append(self.read())
        except (Closed, ConnectionResetError):
            return out


def message(first, body, version):
    """(topic, payload, qos, packet id) of a PUBLISH"""
    n = struct.unpack(">H", body[:2])[0]
    topic, rest, mid = body[2:2 + n].decode(), body[2 + n:], 0
    qos = first >> 1 & 3
    if qos:
        mid, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
    if version == 5:
        assert rest[0] < 128
        rest = rest[1 + rest[0]:]
    return topic, rest, qos, mid


def mid(body):
    return struct.unpack(">H", body[:2])[0]


def reason(body):
    """The reason code of a version 5 acknowledgement; 0 where it is left out."""
    return body[2] if len(body) > 2 else 0


def since(t0):
    return time.monotonic() - t0
