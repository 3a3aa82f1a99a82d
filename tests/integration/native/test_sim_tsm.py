# SPDX-License-Identifier: Apache-2.0
"""tdvol-sim's file system behaves like configfs in a TD, also in its unpleasant ways."""

import ctypes
import errno
import os
import threading
import time

import pytest
import sims

pytestmark = sims.needs_sim
QUOTE_MIN = 1226


def test_quote_of_the_mount_is_accepted(tmp_path, tsm, pki, facts):
    with tsm.request() as request:
        assert request.text("provider") == "tdx_guest\n"
        request.write(sims.ASKED)
        quote = request.outblob()
    (tmp_path / "quote.bin").write_bytes(quote)
    assert sims.report_data(quote) == sims.ASKED
    said = sims.explain(tmp_path / "quote.bin", pki / "root.der", "--collateral", facts)
    assert said["verdict"] == "accepted", said


def test_write_counts_when_the_file_is_closed(tsm):
    with tsm.request() as request:
        with request.open("inblob", os.O_WRONLY) as fd:
            os.write(fd, sims.ASKED)
            assert request.text("generation") == "0\n"
            with sims.fails_with(errno.EINVAL):
                request.outblob()
            os.close(os.dup(fd))  # another descriptor of the file is still open
            assert request.text("generation") == "0\n"
        assert request.text("generation") == "1\n"
        assert sims.report_data(request.outblob()) == sims.ASKED


def test_write_in_pieces_is_one_write(tsm):
    with tsm.request() as request:
        with request.open("inblob", os.O_WRONLY | os.O_TRUNC) as fd:
            os.write(fd, sims.ASKED[:10])
            os.write(fd, sims.ASKED[10:])
        assert request.text("generation") == "1\n"
        assert sims.report_data(request.outblob()) == sims.ASKED


def test_open_outblob_keeps_its_bytes_until_opened_anew(tsm):
    with tsm.request() as request:
        request.write(sims.ASKED)
        with request.open("outblob") as fd:
            first = sims.read_all(fd)
            request.write(sims.ASKED[::-1])
            assert sims.read_all(fd) == first
            assert sims.report_data(request.outblob()) == sims.ASKED[::-1]
            assert request.text("generation") == "2\n"


def test_outblob_is_filled_at_the_first_read_not_at_open(tsm):
    with tsm.request() as request:
        request.write(sims.ASKED)
        with request.open("outblob") as fd:
            request.write(sims.ASKED[::-1])
            assert sims.report_data(sims.read_all(fd)) == sims.ASKED[::-1]


def test_wrong_length_shows_only_when_the_quote_is_read(tsm):
    with tsm.request() as request:
        request.write(sims.ASKED[:63])
        assert request.text("generation") == "1\n"
        with sims.fails_with(errno.EINVAL):
            request.outblob()
        with sims.fails_with(errno.EFBIG):
            request.write(sims.ASKED + b"x")
        assert request.text("generation") == "1\n"


def test_files_open_only_as_their_modes_say_also_for_root(tsm):
    with tsm.request() as request:
        for name, flags in (("inblob", os.O_RDONLY), ("inblob", os.O_RDWR), ("outblob", os.O_WRONLY),
                            ("provider", os.O_RDWR), ("generation", os.O_WRONLY)):  # fmt: skip
            with sims.fails_with(errno.EACCES):
                os.close(os.open(request.dir / name, flags))
        assert sorted(os.listdir(request.dir)) == ["generation", "inblob", "outblob", "provider"]


def test_directory_goes_only_as_a_whole(tsm):
    folder = tsm.root / "request"
    folder.mkdir()
    with sims.fails_with(errno.EEXIST):
        folder.mkdir()
    with sims.fails_with(errno.EPERM):
        (folder / "inblob").unlink()
    with sims.fails_with(errno.EPERM):
        folder.rename(tsm.root / "other")
    with sims.fails_with(errno.EACCES):
        (folder / "new").write_text("")
    with sims.fails_with(errno.EPERM):
        (folder / "sub").mkdir()
    folder.rmdir()
    assert os.listdir(tsm.root) == [".control"]
    with sims.fails_with(errno.ENOENT):
        folder.rmdir()


def test_files_of_a_removed_directory_are_dead(tsm):
    folder = tsm.root / "request"
    folder.mkdir()
    request = sims.Request(folder)
    with request.open("generation") as reader, request.open("inblob", os.O_WRONLY) as writer:
        os.write(writer, sims.ASKED)
        folder.rmdir()
        with sims.fails_with(errno.ENOENT):
            sims.read_all(reader)
    folder.mkdir()
    assert request.text("generation") == "0\n"
    folder.rmdir()


def test_directories_do_not_share_requests(tsm):
    with tsm.request("one") as one, tsm.request("two") as two:
        one.write(sims.ASKED)
        two.write(sims.ASKED[::-1])
        assert sims.report_data(one.outblob()) == sims.ASKED
        assert sims.report_data(two.outblob()) == sims.ASKED[::-1]
        assert one.text("generation") == "1\n"


@pytest.mark.parametrize("fault,number", [
    ("busy", errno.EBUSY), ("timeout", errno.ETIMEDOUT), ("eintr", errno.EINTR), ("io", errno.EIO),
])  # fmt: skip
def test_reading_fails_as_often_as_asked(tsm, fault, number):
    with tsm.request() as request:
        tsm.fault(f"{fault}=2")
        request.write(sims.ASKED)
        with request.open("outblob") as fd:
            for says in (f"{fault}=1\n", "none\n"):
                assert pread_errno(fd) == number
                assert (tsm.root / ".control").read_text() == says
            assert sims.report_data(sims.read_all(fd)) == sims.ASKED


def pread_errno(fd: int) -> int:
    """Reads by the C library, because Python would try again after EINTR."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.pread(fd, ctypes.create_string_buffer(100), ctypes.c_size_t(100), ctypes.c_long(0)) == -1
    return ctypes.get_errno()


@pytest.mark.parametrize("fault,length", [("empty", 0), ("short", 100), ("huge", 16 << 20)])
def test_outblob_has_another_length(tsm, fault, length):
    with tsm.request() as request:
        tsm.fault(fault)
        request.write(sims.ASKED)
        assert len(request.outblob()) == length
        tsm.fault("none")
        request.write(sims.ASKED)
        assert QUOTE_MIN < len(request.outblob()) <= 16384


def test_stale_quote_is_of_the_request_before(make_tsm):
    tsm = make_tsm("--fault", "stale")
    with tsm.request() as request:
        request.write(sims.ASKED)
        assert sims.report_data(request.outblob()) == bytes(64)
        request.write(sims.ASKED[::-1])
        assert sims.report_data(request.outblob()) == sims.ASKED


def test_debug_td_and_garbage_are_no_good_quotes(tmp_path, tsm, pki, facts):
    for fault, reason in (("debug-td", "TdDebug"), ("garbage", None)):
        tsm.fault(fault)
        with tsm.request() as request:
            request.write(sims.ASKED)
            (tmp_path / "quote.bin").write_bytes(request.outblob())
        said = sims.explain(tmp_path / "quote.bin", pki / "root.der", "--collateral", facts)
        assert said["verdict"] == "refused" and reason in (None, said["reason"]), said


@pytest.mark.parametrize("fault,provider", [
    ("other-provider", "sev_guest\n"), ("no-newline", "tdx_guest"), ("empty-provider", ""),
])  # fmt: skip
def test_provider_is_another(tsm, fault, provider):
    tsm.fault(fault)
    with tsm.request() as request:
        assert request.text("provider") == provider


def test_no_provider_makes_no_directory(tsm):
    tsm.fault("no-provider=1")
    with sims.fails_with(errno.ENXIO):
        (tsm.root / "request").mkdir()
    with tsm.request():
        pass


@pytest.mark.parametrize("fault,generation", [("generation-jump", "2\n"), ("lost-write", "0\n")])
def test_generation_is_not_what_one_write_makes(tsm, fault, generation):
    tsm.fault(fault)
    with tsm.request() as request:
        request.write(sims.ASKED)
        assert request.text("generation") == generation


def test_unknown_fault_is_refused(tsm, tmp_path, pki):
    for text in ("nonsense", "busy=", "busy=0", "busy=x", ""):
        if text:
            with sims.fails_with(errno.EINVAL):
                tsm.fault(text)
    assert (tsm.root / ".control").read_text() == "none\n"
    (tmp_path / "unused").mkdir()
    assert "no such fault" in sims.sim("tsm", tmp_path / "unused", "--pki", pki, "--fault", "nonsense", fails=True)


def test_quote_takes_its_time_once(make_tsm):
    tsm = make_tsm("--latency-ms", "300")
    with tsm.request() as request:
        request.write(sims.ASKED)
        assert sims.elapsed(request.outblob) >= 0.3
        assert sims.elapsed(request.outblob) < 0.3
        tsm.fault("timeout")
        request.write(sims.ASKED)
        with sims.fails_with(errno.ETIMEDOUT):
            request.outblob()


def test_ends_while_a_quote_is_being_made(make_tsm):
    tsm = make_tsm("--latency-ms", "60000")
    (tsm.root / "request").mkdir()
    request = sims.Request(tsm.root / "request")
    request.write(sims.ASKED)
    failed = []
    reader = threading.Thread(target=lambda: failed.append(pytest.raises(OSError, request.outblob)))
    reader.start()
    time.sleep(0.3)
    assert sims.elapsed(tsm.stop) < 10
    reader.join()
    assert failed


def test_mount_needs_a_folder_and_a_pki(tmp_path, pki):
    assert "cannot mount" in sims.sim("tsm", tmp_path / "nowhere", "--pki", pki, fails=True)
    assert "name one folder" in sims.sim("tsm", "--pki", pki, fails=True)
