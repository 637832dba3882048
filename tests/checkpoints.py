"""Checkpoints taken apart and put together again, with whatever is to be wrong in them."""

import json
from hashlib import sha256


def signed(header, data):
    """A file whose header, whatever it is, has the right length and checksum."""
    start = len(b'{"__metadata__":{"sha256":"')
    header = header[:start] + sha256(header[start + 64 :]).hexdigest().encode() + header[start + 64 :]
    return len(header).to_bytes(8, "little") + header + data


def taken_apart(content):
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def rewritten(content, change):
    """A file of which everything is right, offsets and checksums included, for what `change` made of its parts."""
    header, data = taken_apart(content)
    entries = json.loads(header)
    metadata = entries.pop("__metadata__")
    parsed = ("step_count", "skipped_steps", "finite_steps", "options", "groups", "storage", "step_counts")
    metadata |= {name: json.loads(metadata[name]) for name in parsed}
    arrays = {name: [e["dtype"], e["shape"], data[slice(*e["data_offsets"])]] for name, e in entries.items()}
    change(metadata, arrays)

    metadata["checksums"] = {name: sha256(content).hexdigest() for name, (_, _, content) in arrays.items()}
    metadata |= {name: to_json(metadata[name]) for name in (*parsed, "checksums")}
    entries = {"__metadata__": metadata}
    end = 0
    for name, (dtype, shape, content) in arrays.items():
        start, end = end, end + len(content)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = to_json(entries).encode()
    return signed(text + b" " * (-len(text) % 8), b"".join(content for _, _, content in arrays.values()))


def to_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
