"""Buckets on this machine: S3 by moto, Google's by gcp-storage-emulator, and what goes wrong.

The emulator of Google's storage knows generations, but lacks what `obstore` asks for: the listing
of the XML API, ETags, and the condition of a write. A server in front of it adds these.
"""

import collections
import contextlib
import functools
import http.client
import http.server
import json
import logging
import random
import socket
import threading
import time
import urllib.parse
import warnings
from email.utils import formatdate
from xml.sax.saxutils import escape

QUIET = {"transfer-encoding", "connection", "keep-alive", "server", "date", "content-length"}
"""Headers that concern one connection."""


def is_passed_on(header):
    return header.lower() not in QUIET


class Server(http.server.ThreadingHTTPServer):
    """A server on a free port of loopback, on a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    @property
    def url(self):
        return "http://{}:{}".format(*self.server_address)

    def handle_error(self, request, client_address):
        """A client that hangs up is what the tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *words):
        pass

    def handle_any(self):
        size = int(self.headers.get("Content-Length") or 0)
        self.answer(self.rfile.read(size))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def reply(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            if is_passed_on(name):
                self.send_header(name, value)
        length = headers.get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def forwarded(address, method, path, body, headers):
    """The status, headers and body that another server answers with."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(method, path, body or None, headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------- Google


def google(address):
    """A server that speaks as Google's XML API does, for an emulator at an address."""
    writing = threading.Lock()

    class Google(Handler):
        def answer(self, body):
            parts = urllib.parse.urlsplit(self.path)
            bucket, _, name = urllib.parse.unquote(parts.path[1:]).partition("/")
            query = dict(urllib.parse.parse_qsl(parts.query))
            if not name:
                return self.list(bucket, query.get("prefix", ""))
            with writing:
                return getattr(self, self.command.lower())(bucket, name, body)

        def ask(self, method, path, body=b"", headers=()):
            return forwarded(address, method, path, body, dict(headers))

        def meta(self, bucket, name):
            status, _, body = self.ask("GET", path_of(bucket, name))
            return json.loads(body) if status == 200 else None

        def put(self, bucket, name, body):
            there = self.meta(bucket, name)
            wanted = self.headers.get("x-goog-if-generation-match")
            if wanted is not None and wanted != (there["generation"] if there else "0"):
                return self.reply(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
            kind, how, body = _as_upload(body)
            query = urllib.parse.urlencode({"uploadType": how, "name": name})
            headers = {"Content-Type": kind, "Content-Length": str(len(body))}
            where = f"/upload/storage/v1/b/{bucket}/o?{query}"
            status, _, answer = self.ask("POST", where, body, headers)
            if status != 200:
                return self.reply(404, {}, b"<Error><Code>NoSuchBucket</Code></Error>")
            return self.reply(200, headers_of(json.loads(answer)))

        def get(self, bucket, name, _):
            meta = self.meta(bucket, name)
            if meta is None:
                known = self.ask("GET", f"/storage/v1/b/{bucket}")[0] == 200
                code = "NoSuchKey" if known else "NoSuchBucket"
                return self.reply(404, {}, f"<Error><Code>{code}</Code></Error>".encode())
            if self.headers.get("If-Match") not in (None, headers_of(meta)["ETag"]):
                return self.reply(412, {})
            asked = {key: value for key in ("Range",) if (value := self.headers.get(key))}
            status, headers, body = self.ask(
                "GET", f"{path_of(bucket, name)}?alt=media", b"", asked
            )
            kept = {"Content-Range": headers["Content-Range"]} if status == 206 else {}
            size = {"Content-Length": meta["size"]} if self.command == "HEAD" else {}
            return self.reply(status, headers_of(meta) | kept | size, body)

        head = get

        def delete(self, bucket, name, _):
            status, _, _ = self.ask("DELETE", path_of(bucket, name))
            return self.reply(status, {})

        def list(self, bucket, prefix):
            query = urllib.parse.urlencode({"prefix": prefix})
            status, _, body = self.ask("GET", f"/storage/v1/b/{bucket}/o?{query}")
            if status != 200:
                return self.reply(404, {}, b"<Error><Code>NoSuchBucket</Code></Error>")
            found = "".join(
                f"<Contents><Key>{escape(each['name'])}</Key><Size>{each['size']}</Size>"
                f"<LastModified>{each['updated']}</LastModified>"
                f"<ETag>{escape(headers_of(each)['ETag'])}</ETag></Contents>"
                for each in json.loads(body).get("items", [])
            )
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
            return self.reply(200, {"Content-Type": "application/xml"}, text.encode())

    return Server(Google)


def _as_upload(body):
    """The type, the kind of upload and the body of a request to the emulator.

    It takes nothing for no upload at all, but for one of several parts.
    """
    if body:
        return "application/octet-stream", "media", body
    parts = ("--x", "Content-Type: application/json", "", "{}", "--x",
             "Content-Type: application/octet-stream", "", "", "--x--", "")  # fmt: skip
    return "multipart/related; boundary=x", "multipart", "\r\n".join(parts).encode()


def path_of(bucket, name):
    return f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"


def headers_of(meta):
    seconds = int(meta["generation"]) / 1e9
    return {
        "ETag": f'"{meta["generation"]}"',
        "x-goog-generation": meta["generation"],
        "Last-Modified": formatdate(seconds, usegmt=True),
    }


# ------------------------------------------------------------------------------------------- faults


class Faults:
    """What happens to requests, which pass through a server in front of that of a bucket.

    Attributes:
      latency: seconds that every request takes longer.
      rates: {fault: share of the requests}, of `KINDS`.
      writes: fault of all requests that write or delete; None for none.
      next: faults of the next requests, the first for the first; None for none.
      down: whether no request is answered.
      seen: requests, as (method, path), in their order.
    """

    KINDS = ("drop", "lose", "delay", "503", "429", "cut", "expired")

    def __init__(self, seed=0):
        self.draw = random.Random(seed)
        self.reset()

    def reset(self):
        self.latency, self.rates, self.down, self.writes = 0.0, {}, False, None
        self.next = collections.deque()
        self.seen = []

    def fault(self, method, path):
        self.seen.append((method, path))
        if self.down:
            return "drop"
        if self.next:
            return self.next.popleft()
        if self.writes and method in ("PUT", "POST", "DELETE"):
            return self.writes
        number = self.draw.random()
        for kind, rate in self.rates.items():
            number -= rate
            if number < 0:
                return kind
        return None


REFUSALS = {
    "503": (503, b"<Error><Code>SlowDown</Code></Error>"),
    "429": (429, b""),
    "expired": (400, b"<Error><Code>ExpiredToken</Code></Error>"),
    "denied": (403, b"<Error><Code>AccessDenied</Code></Error>"),
    "full": (403, b"<Error><Code>QuotaExceeded</Code></Error>"),
    "locked": (400, b"<Error><Code>KMS.DisabledException</Code></Error>"),
    "elsewhere": (301, b"<Error><Code>PermanentRedirect</Code></Error>"),
    "unconditional": (501, b"<Error><Code>NotImplemented</Code></Error>"),
}


def faulty(address, faults, delay=1.0):
    """A server that hands requests on, but for what `faults` says.

    drop closes the connection before the request is handed on, lose after it, cut in the middle
    of the answer; delay waits first.
    """

    class Faulty(Handler):
        def answer(self, body):
            fault = faults.fault(self.command, self.path)
            time.sleep(faults.latency + (delay if fault == "delay" else 0.0))
            if fault in REFUSALS:
                status, text = REFUSALS[fault]
                return self.reply(status, {}, text)
            if fault == "drop":
                return self.hang_up()
            headers = {
                key: value for key, value in self.headers.items() if key.lower() not in QUIET
            }
            if body:
                headers["Content-Length"] = str(len(body))
            status, told, answer = forwarded(address, self.command, self.path, body, headers)
            if fault == "lose":
                return self.hang_up()
            if fault == "cut" and answer and self.command == "GET":
                self.send_response(status)
                for name, value in told.items():
                    if is_passed_on(name):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer[: len(answer) // 2])
                return self.hang_up()
            return self.reply(status, told, answer)

        def hang_up(self):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

    return Server(Faulty)


# ------------------------------------------------------------------------------------- to work with


class Simulated:
    """A bucket of one kind, named `lab`, with faults in front of it.

    Attributes:
      kind: s3 or gs.
      faults: what happens to requests.
      environment: variables by which `obstore` finds it.
    """

    def __init__(self, kind, seed=0):
        self.kind, self.faults = kind, Faults(seed)
        behind = {"s3": _moto, "gs": _emulator}[kind]()
        self.url = faulty(behind, self.faults).url
        self.environment = {
            "s3": {
                "AWS_ENDPOINT_URL": self.url,
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
            },
            "gs": {"GOOGLE_BASE_URL": self.url, "GOOGLE_BEARER_TOKEN": "token"},
        }[kind]

    def address(self, path):
        return f"{self.kind}://lab/{path}"


def _moto():
    """The address of moto's server, which has the bucket `lab`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
    address = server.get_host_and_port()
    assert forwarded(address, "PUT", "/lab", b"", {})[0] == 200
    return address


def _emulator():
    """The address of a server that speaks as Google's does, which has the bucket `lab`."""
    from gcp_storage_emulator.handlers import buckets
    from gcp_storage_emulator.server import RequestHandler
    from gcp_storage_emulator.storage import Storage

    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    storage = Storage(use_memory_fs=True)
    buckets.create_bucket("lab", storage)
    inner = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(RequestHandler, storage)
    )
    threading.Thread(target=inner.serve_forever, daemon=True).start()
    return google(inner.server_address).server_address
