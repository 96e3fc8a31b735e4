"""Valid requests and a function that garbles them, for a server that must survive both."""

import random

BODY = b'{"url":"https://youtu.be/dQw4w9WgXcQ","quality":"192k"}'
BATCH = b'{"urls":["https://youtu.be/dQw4w9WgXcQ","x"],"quality":"192k"}'
REQUESTS = [
    b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(BODY), BODY),
    b"POST /extract HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    b"GET /status/%s HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    b'GET /download/%s.mp3 HTTP/1.1\r\nHost: x\r\nRange: bytes=0-99\r\nIf-Range: "x"\r\n\r\n',
    b'HEAD /download/%s.mp3 HTTP/1.1\r\nHost: x\r\nIf-None-Match: "x", W/"y"\r\n\r\n',
    b"DELETE /jobs/%s HTTP/1.1\r\nHost: x\r\nX-API-Key: abc\r\n\r\n",
    b"POST /batches HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BATCH), BATCH),
    b"GET /batches/%s/items?cursor=100 HTTP/1.1\r\nHost: x\r\n\r\n",
    b'GET /batches/%s/archive.zip?revision=%s HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\nIf-Range: "x"\r\n\r\n',
    b"POST /jobs/%s/deliveries/0/redeliver HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"GET /jobs?limit=50&cursor=1795640400.125-%s HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS /extract HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nAccess-Control-Request-Method: POST\r\n\r\n",
]
STREAM = b"GET /events?jobs=%s,%s HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %s\r\n\r\n"
"""Not one of REQUESTS, because its response is chunked: a test that splits a connection into responses by their lengths
cannot use it."""
TOKENS = [
    b"\r\n",
    b"\n",
    b"\x00",
    b"%00",
    b"%2f..",
    b": ",
    b"\xff\xfe",
    b"chunked",
    b"Content-Length: 9",
    b"0x",
    b"-1",
    b" " * 50,
]
FOLLOW_UP = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def garbled(request: bytes, chance: random.Random) -> bytes:
    """Return the request with one to four random changes."""
    data = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at:at] = chance.choice(TOKENS)
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 30)]
            case _:
                data[at:at] = bytes([chance.randrange(256)]) * chance.choice([1, 10, 1000, 9000])
        data = data or bytearray(b"\r\n")
    return bytes(data)
