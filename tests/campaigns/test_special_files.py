"""Files that are hostile by design, where a mutation would hardly come by chance."""

import io
import struct
import tarfile
import zipfile
import zlib

import pytest
from PIL import Image

from data import storage
from data.class_list import ClassList
from data.mask_files import read_annotation
from data.numbers import load_rows
from data.pixels import decode_image
from data.samples import open_samples
from data.shards import ShardReader
from data.storage import open_storage
from dnnlib.files import parse_json_lines, read_json
from tests.campaigns.targets import OCULAR
from tests.helpers.images import random_pixels, write_image

SIDE = 31_623  # squared: 10^9 pixels


def png(width, height, body):
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *body]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )


@pytest.mark.parametrize(
    "content",
    [
        png(SIDE, SIDE, [(b"IDAT", zlib.compress(bytes(1000)))]),
        b"P6 31623 31623 255\n" + bytes(100),
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, SIDE, SIDE, 1, 24, *[0] * 6),
    ],
    ids=["png", "ppm", "bmp"],
)
def test_a_billion_pixels_are_not_decoded(content):
    with pytest.raises(ValueError, match="^x.img: "):
        decode_image(content, 3, "x.img")


@pytest.mark.skipif(not OCULAR.is_dir(), reason="needs the annotations in ../shared")
def test_a_gimp_file_of_a_billion_pixels(tmp_path):
    pytest.importorskip("gimpformats", reason="needs requirements-extras.txt")
    content = next((OCULAR / "experiment").rglob("*.xcf")).read_bytes()
    changed = content[:14] + struct.pack(">II", SIDE, SIDE) + content[22:]
    (tmp_path / "image_0.xcf").write_bytes(changed)
    with pytest.raises(ValueError, match="image_0.xcf: .*pixels are read"):
        read_annotation(tmp_path / "image_0.xcf", ClassList())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_json_100_000_deep(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="x.json"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match="x.json"):
        list(parse_json_lines([text.encode()], "x.json"))


@pytest.mark.parametrize(
    "shape", [(10**12, 8), (2**62, 2), (-1, 8), (10**6, 10**6, 10**6)], ids=repr
)
def test_a_shape_that_lies(tmp_path, shape):
    header = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    (tmp_path / "x.npy").write_bytes(head + bytes(64))
    with pytest.raises(ValueError, match="--latents .*x.npy"):
        load_rows(tmp_path / "x.npy", "--latents")


def test_a_data_set_that_expands_is_refused(tmp_path, monkeypatch):
    """A zip of 10 KB that holds an "image" of 11 MB of zeros, where 10 MB are allowed."""
    monkeypatch.setattr(storage, "_MAX_IMAGE_BYTES", 10_000_000)
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("VIS", "NIR"):
            with archive.open(f"{folder}/1_0.png", "w", force_zip64=True) as member:
                for _ in range(11):
                    member.write(bytes(1_000_000))
    samples = open_samples(tmp_path / "set.zip")
    with pytest.raises(ValueError, match=r"set.zip:VIS/1_0.png: .*bytes"):
        samples.image("rgb", 0)


def test_a_large_image_of_one_colour_in_an_archive_is_read(tmp_path):
    """8192 x 8192 grey pixels as BMP, 64 MiB, of which compression leaves 64 KiB."""
    stream = io.BytesIO()
    Image.new("L", (8192, 8192), 7).save(stream, "BMP")
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("VIS/1_0.bmp", stream.getvalue())
        archive.writestr("labels.json", b" " * len(stream.getvalue()))
    archive = open_storage(tmp_path / "set.zip")
    assert archive.read("VIS/1_0.bmp") == stream.getvalue()
    with pytest.raises(ValueError, match=r"labels.json: .*bytes"):
        archive.read("labels.json")


def test_a_link_in_an_archive_is_no_way_out(tmp_path):
    write_image(tmp_path / "secret.png", random_pixels(0))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for folder in ("VIS", "NIR"):
            link = zipfile.ZipInfo(f"{folder}/1_0.png")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, str(tmp_path / "secret.png"))
    with pytest.raises(ValueError, match="set.zip:VIS/1_0.png"):
        open_samples(tmp_path / "set.zip").image("rgb", 0)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_members_of_a_shard_that_are_no_files_are_not_read(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("000.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    assert list(ShardReader([tmp_path / "x.tar"]).samples()) == []


@pytest.mark.parametrize("size", [1 << 40, 1 << 50])
def test_a_shard_whose_member_is_longer_than_the_file(tmp_path, size):
    member = tarfile.TarInfo("000.png")
    member.size = size
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ValueError, match="x.tar: not a whole tar file"):
        ShardReader([tmp_path / "x.tar"])


def test_a_sparse_member_that_expands_is_not_read(tmp_path):
    head = bytearray(tarfile.TarInfo("000.png").tobuf(tarfile.GNU_FORMAT))
    head[156:157], head[148:156] = tarfile.GNUTYPE_SPARSE, b" " * 8
    head[483:495] = tarfile.itn(1 << 50, 12, tarfile.GNU_FORMAT)
    head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "x.tar").write_bytes(head)
    reader = ShardReader([tmp_path / "x.tar"])
    with pytest.raises(ValueError, match="x.tar/000.png: the file ends in it"):
        reader.read("x.tar/000.png")
