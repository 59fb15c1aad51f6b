"""The few parts of git's protocol the servers need: pkt-lines, what a request asks for, and
taking a response's pack out of the sideband and putting it back. No I/O.
"""

import gzip

FLUSH, DELIM = b"0000", b"0001"


def pkt(data):
    return b"%04x" % (len(data) + 4) + data


def packets(body):
    """Yields bytes for data, None for flush, 1 for delim, 2 for response-end."""
    at = 0
    while at + 4 <= len(body):
        try:
            length = int(body[at:at + 4], 16)
        except ValueError:
            return
        if length < 4:
            yield (None, 1, 2, None)[length]
            at += 4
        else:
            yield body[at + 4:at + length]
            at += length


def parse_request(method, path, query, body, encoding=""):
    """What one request asks for, as a dict ready for a log.

    kind: caps, ls-refs, fetch, object-info, v0-fetch, other
    wants: ids (fetch) or ids asked about (object-info); filter, deepen, done: as sent
    """
    record = {"kind": "other", "wants": [], "filter": None, "deepen": False}
    if method == "GET" and path.endswith("/info/refs"):
        record["kind"] = "caps" if "git-upload-pack" in query else "other"
        return record
    if method != "POST" or not path.endswith("/git-upload-pack"):
        return record
    if encoding in ("gzip", "x-gzip"):
        record["gzip"] = True
        body = gzip.decompress(body)
    record["kind"] = "v0-fetch"
    arguments = []
    for packet in packets(body):
        if not isinstance(packet, bytes):
            continue
        line = packet.rstrip(b"\n").decode("latin-1")
        if line.startswith("command="):
            record["kind"] = line[8:]
        arguments.append(line)
    for line in arguments:
        word, _, rest = line.partition(" ")
        if word in ("want", "oid"):
            record["wants"].append(rest.split(" ")[0])
        elif word == "filter":
            record["filter"] = rest
        elif word == "deepen":
            record["deepen"] = True
    return record


def takes_content(record):
    """Whether a fetch may bring file content: anything that a filter does not keep out."""
    if record["kind"] == "v0-fetch":
        return True
    if record["kind"] != "fetch":
        return False
    types = record.get("types")
    if types is not None and types.get("blob"):
        return True
    filtered = record["filter"] or ""
    keeps_out = "blob:none" in filtered or "blob:limit=0" in filtered or "tree:0" in filtered
    return not keeps_out


def hide_object_info(advertisement):
    """A capability advertisement without object-info."""
    return advertisement.replace(pkt(b"object-info\n"), b"").replace(pkt(b"object-info"), b"")


def refuse_object_info(body):
    """The body of a POST, or None when it asks for object-info (git answers nothing then)."""
    plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    return None if b"command=object-info" in plain[:4000] else body


class PackResponse:
    """A v2 fetch response taken apart: what comes before the pack, and the pack."""

    def __init__(self, body):
        self.head = []                   # packets before the pack, as packets() gives them
        self.pack = b""
        self.has_pack = False
        for packet in packets(body):
            if not self.has_pack:
                self.head.append(packet)
                self.has_pack = packet == b"packfile\n"
            elif isinstance(packet, bytes) and packet[:1] == b"\x01":
                self.pack += packet[1:]

    def rebuild(self, pack, end=FLUSH):
        out = b""
        for packet in self.head:
            out += {None: FLUSH, 1: DELIM, 2: b"0002"}[packet] if not isinstance(packet, bytes) \
                else pkt(packet)
        for at in range(0, len(pack), 8000):
            out += pkt(b"\x01" + pack[at:at + 8000])
        return out + end
