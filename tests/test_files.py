"""What a stranger's file of arrays may claim, and that nothing of it is believed."""

import io
import os
import zipfile

import numpy as np
import pytest

from creditlab.files import Unreadable, printable, read_arrays, read_bytes, write_arrays


def array(claim: str, content: bytes = b"\0" * 8) -> bytes:
    """A file of one array whose header is `claim`."""
    head = claim.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


def archive(path, *entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in entries:
            file.writestr(name, content)


HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
CLAIMS = {
    "10^13 numbers": array(HEADER.format("'<f8'", "(10000000000000,)")),
    "more than an integer holds": array(HEADER.format("'<f8'", f"({10**30},)")),
    "none of 10^13": array(HEADER.format("'<f8'", "(0, 10000000000000)"), b"12345678"),
    "a negative length": array(HEADER.format("'<f8'", "(-1, -1)")),
    "objects": array(HEADER.format("'|O'", "(1,)")),
    "fewer than there are": array(HEADER.format("'<f8'", "(0,)")),
    "no header": b"\x93NUMPY\x01\x00",
    "another format": b"\x93NUMPY\x09\x00" + b"\0" * 20,
    "nothing": b"",
    "deep": array("(" * 110),
    "a call": array("__import__('os')"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_an_array_that_is_not_what_it_claims_is_refused(tmp_path, claim):
    archive(tmp_path / "a.npz", ("x.npy", CLAIMS[claim]))
    with pytest.raises(Unreadable) as refusal:
        read_arrays(tmp_path / "a.npz")
    assert "\n" not in str(refusal.value)


def test_archives_that_creditlab_does_not_write_are_refused(tmp_path):
    good = io.BytesIO()
    np.save(good, np.arange(3))
    archive(tmp_path / "lzma.npz", ("x.npy", good.getvalue()), compression=zipfile.ZIP_LZMA)
    archive(tmp_path / "name.npz", ("\x1b[2J.npy", good.getvalue()))
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(tmp_path / "twice.npz", ("x.npy", good.getvalue()), ("x.npy", good.getvalue()))
    (tmp_path / "text.npz").write_text("PK")
    for path in tmp_path.iterdir():
        with pytest.raises(Unreadable):
            read_arrays(path)


def test_a_small_file_that_holds_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("creditlab.files.ARRAYS", 10**6)
    write_arrays(tmp_path / "a.npz", {"x": np.zeros(10**6)})
    assert (tmp_path / "a.npz").stat().st_size < 10**4
    with pytest.raises(Unreadable, match="at most 1000000 are read"):
        read_arrays(tmp_path / "a.npz")


def test_arrays_of_every_kind_come_back(tmp_path):
    arrays = {"a/b": np.arange(6.0).reshape(2, 3).T, "e": np.zeros((0, 4)), "s": np.float32(2), "w": np.array(["x"])}
    write_arrays(tmp_path / "a.npz", arrays)
    loaded = read_arrays(tmp_path / "a.npz")
    assert loaded.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(loaded[name], values)
        assert loaded[name].dtype == np.asarray(values).dtype


def test_only_regular_files_up_to_the_limit_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "file", 3) == b"123"
    for name, reason in {"pipe": "not a regular", "link": "is a link", ".": "directory", "file": "3 bytes"}.items():
        with pytest.raises(Unreadable, match=reason):
            read_bytes(tmp_path / name, 2)


def test_printable_text_is_left_alone_and_the_rest_made_visible():
    assert printable("σ=0.1 naïve 学") == "σ=0.1 naïve 学"
    assert printable("a\x1b[31m\n\u202e\ud800") == "a\\x1b[31m\\n\\u202e\\ud800"
