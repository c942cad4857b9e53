"""Requests that two servers would cut at different places: no second request comes out of one behind a balancer."""

import socket

import pytest

# What must never arrive: a path that no balancer lets through, so that it can only come from inside another request.
SMUGGLED = "/flush-smuggled"
INNER = f"POST {SMUGGLED} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
CHUNK = f"{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n"

# Headers that frame the body, and the body.
FRAMES = {
    "length and chunks": (f"Content-Length: {len(CHUNK) + 5}\r\nTransfer-Encoding: chunked", f"0\r\n\r\n{INNER}"),
    "chunks and a short length": ("Transfer-Encoding: chunked\r\nContent-Length: 4", CHUNK),
    "two lengths": (f"Content-Length: 0\r\nContent-Length: {len(INNER)}", INNER),
    "a list of lengths": (f"Content-Length: 0, {len(INNER)}", INNER),
    "a signed length": ("Content-Length: +0", INNER),
    "a negative length": ("Content-Length: -1", INNER),
    "a length in hexadecimal": ("Content-Length: 0x0", INNER),
    "a length with a blank before the colon": (f"Content-Length : 0\r\nContent-Length: {len(INNER)}", INNER),
    "chunks with a blank before the colon": ("Transfer-Encoding : chunked\r\nContent-Length: 0", f"0\r\n\r\n{INNER}"),
    "chunks on a folded line": ("Transfer-Encoding:\r\n chunked\r\nContent-Length: 0", f"0\r\n\r\n{INNER}"),
    "chunks by another name": ("Transfer-Encoding: xchunked\r\nContent-Length: 0", f"0\r\n\r\n{INNER}"),
    "chunks twice": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", f"0\r\n\r\n{INNER}"),
    "chunks with a vertical tab": ("Transfer-Encoding: \x0bchunked\r\nContent-Length: 0", f"0\r\n\r\n{INNER}"),
    "a chunk with an odd end": ("Transfer-Encoding: chunked", f"0;\n\n\r\n{INNER}"),
    "a chunk longer than a number": ("Transfer-Encoding: chunked", f"ffffffffffffffff1\r\n{INNER}"),
    "a bare line feed in a header": (f"X: a\nContent-Length: 0\r\nContent-Length: {len(INNER)}", INNER),
    "a bare carriage return in a header": (f"X: a\rTransfer-Encoding: chunked\r\nContent-Length: {len(INNER)}", INNER),
    "a zero byte in a header": (f"Content-Length: {len(INNER)}\r\nX: a\0Transfer-Encoding: chunked", INNER),
    "an upgrade": (f"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(INNER)}", INNER),
    "hop-by-hop headers": (f"Connection: close, Content-Length\r\nContent-Length: {len(INNER)}", INNER),
}


# MinIO's console passes every path, so there is nothing to be smuggled past it.
CONSOLE = 19001


def doors(balancer):
    return [(port, method, path) for port, (method, path) in balancer.open.items() if port != CONSOLE]


@pytest.mark.parametrize(("headers", "body"), FRAMES.values(), ids=FRAMES)
def test_one_request_stays_one(either, headers, body):
    for port, method, path in doors(either):
        request = f"{method} {path} HTTP/1.1\r\nHost: a:{port}\r\n{headers}\r\n\r\n{body}"
        answers = raw((either.address, port), request.encode("latin-1"))
        arrived = either.take()
        assert not [request for request in arrived if SMUGGLED in request.path], f"{port}: {answers[:200]}"
        assert len(arrived) <= 1, f"{port}: {[(request.method, request.path) for request in arrived]}"


# Ends the connection, wherever the balancer believes that the requests before it end.
END = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def raw(address, request):
    """What comes back on one connection. A balancer that still waits for a body is left alone after a while."""
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(request + END)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, TimeoutError):
            pass
    return answer


def test_of_two_requests_on_one_connection_the_balancer_sees_both(either):
    """What the others are measured by: the first arrives, the second is seen for what it is and refused."""
    for port, method, path in doors(either):
        first = f"{method} {path} HTTP/1.1\r\nHost: a:{port}\r\nContent-Length: 4\r\n\r\nbody"
        answer = raw((either.address, port), (first + INNER).encode())
        assert [request.path for request in either.take()] == [path]
        assert answer.count(b"HTTP/1.1 ") == 3 and b"HTTP/1.1 403" in answer
