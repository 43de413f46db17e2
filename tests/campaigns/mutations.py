"""Seeded mutations of files: bytes, and what a checksum or a grammar would else protect.

All take the file's bytes, another valid file's bytes and a random.Random, and return bytes.
"""

import io
import json
import re
import struct
import warnings
import zipfile
import zlib

_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_VALUES = (None, True, -1, 0, 1.5, 1e308, 10**400, "", "\0", "../../x", [], {}, [[]], ["x"] * 9)
_NAMES = ("../outside", "/outside", "C:/outside", "a/../../outside", "NUL", "", "x" * 300)
_NUMBERS = (b"-1", b"0", b"99999999999999999999", b"1e999", b"NaN", b"[", b'"')


def mutate(data, other, rng):
    """Return a file that is like `data` but for one to four changes of one kind."""
    kinds = [_flip, _set, _lie, _truncate, _cut, _repeat, _insert, _splice, _digits]
    if data[:2] == b"PK":
        kinds += [_inside_zip] * 9
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        kinds += [_inside_png] * 9
    if data[:1] in (b"{", b"["):
        kinds += [_inside_json] * 18
    kind = rng.choice(kinds)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = kind(data, other, rng)
    return data


def _place(data, rng):
    """Return a position, one in two near the start, where formats have their headers."""
    return rng.randrange(min(len(data), 200) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data, _, rng):
    changed = bytearray(data)
    if changed:
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set(data, _, rng):
    start = _place(data, rng)
    return data[:start] + rng.randbytes(rng.choice((1, 4, 16))) + data[start + 4 :]


def _lie(data, _, rng):
    """Replace an integer of 2, 4 or 8 bytes by one that is likely to be wrong as a size."""
    start, (width, code) = _place(data, rng), rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    value = rng.choice(_SIZES) & ((1 << 8 * width) - 1)
    return data[:start] + struct.pack(rng.choice("<>") + code, value) + data[start + width :]


def _truncate(data, _, rng):
    return data[: rng.randrange(len(data) + 1)]


def _cut(data, _, rng):
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 7, 64, 1000)) :]


def _repeat(data, _, rng):
    start = _place(data, rng)
    piece = data[start : start + rng.choice((1, 16, 300))]
    return data[:start] + piece * rng.choice((2, 3, 200)) + data[start:]


def _insert(data, _, rng):
    start = _place(data, rng)
    return data[:start] + rng.randbytes(rng.choice((1, 8, 100))) + data[start:]


def _splice(data, other, rng):
    return data[: _place(data, rng)] + other[_place(other, rng) :]


def _digits(data, _, rng):
    found = list(re.finditer(rb"\d+", data[:1_000_000]))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(_NUMBERS) + data[match.end() :]


def _inside_zip(data, other, rng):
    """Change a member, its name, or what is said of it; the archive's checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError):
        return _flip(data, other, rng)
    if not members:
        return data
    chosen = rng.randrange(len(members))
    if rng.random() < 0.5:  # the smallest ones say what the others are
        chosen = min(range(len(members)), key=lambda i: len(members[i][1]) + rng.randrange(300))
    info, content = members[chosen]
    what = rng.randrange(8)
    if what == 0:
        info.filename = rng.choice((*_NAMES, members[0][0].filename)) or "x"
    elif what == 1:
        info.external_attr = 0o120777 << 16  # a symbolic link
        content = b"/etc/passwd"
    elif what == 2:
        del members[chosen]
    elif what == 3:
        info.compress_type = zipfile.ZIP_DEFLATED
        content = bytes(rng.choice((10**6, 30 * 10**6)))
    else:
        content = mutate(content, members[0][1], rng)
    if what != 2:
        members[chosen] = info, content
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # of two members with one name
        for member, part in members:
            archive.writestr(member, part)
    return out.getvalue()


def _inside_png(data, other, rng):
    """Change a chunk, with the right checksum."""
    chunks, start = [], 8
    while start + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, start)
        chunks.append([data[start + 4 : start + 8], data[start + 8 : start + 8 + size]])
        start += 12 + size
    if not chunks:
        return data
    chunk = rng.choice((chunks[0], rng.choice(chunks)))
    chunk[1] = rng.choice((_flip, _set, _lie, _truncate, _repeat))(chunk[1], other, rng)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks) + 1), list(rng.choice(chunks)))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _inside_json(data, other, rng):
    """Replace, remove or rename one value, at any depth, in one line of the file."""
    lines = data.splitlines() or [b""]
    is_lines = len(lines) > 1 and all(line[:1] == b"{" for line in lines)
    number = rng.randrange(len(lines)) if is_lines else 0
    try:
        content = json.loads(lines[number] if is_lines else data)
    except (ValueError, RecursionError):
        return _digits(data, other, rng)
    top = {"": content}
    holder, key = top, ""
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    what = rng.randrange(5)
    if what == 0 and isinstance(holder, dict):
        holder[rng.choice(("", "x" * 300, "format", "\0"))] = holder.pop(key)
    elif what == 1:
        del holder[key]
    elif what == 2 and isinstance(holder[key], str):
        holder[key] = rng.choice((*_NAMES, holder[key] * 100, holder[key][:-1]))
    else:
        holder[key] = rng.choice(_VALUES)
    text = json.dumps(next(iter(top.values()), None)).encode()
    return b"\n".join([*lines[:number], text, *lines[number + 1 :]]) if is_lines else text
