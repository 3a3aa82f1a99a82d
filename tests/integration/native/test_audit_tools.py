# SPDX-License-Identifier: Apache-2.0
"""tdvolctl audit: the logs of several brokers are checked, shown and exported."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import time

import brokers
import clusters
import pytest
from brokers import Node, create

REFUSED = 3
needs_etcd = pytest.mark.skipif(
    not clusters.ETCD or not shutil.which("etcdctl"), reason="etcd is not installed: apt-get install etcd-server etcd-client"
)


def verify(*words, env=None):
    return brokers.ctl("audit", "verify", *words, env=env or {})


def accepted(*words, env=None) -> dict:
    done = verify(*words, "--json", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def refused(*words, env=None) -> str:
    """What it does not like, one text for each."""
    done = verify(*words, "--json", env=env)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "refused"
    return "\n".join(step["detail"] for step in answer["steps"] if not step["ok"])


def chain_anew(lines: list[dict]) -> bytes:
    """The lines as somebody would write them who has no key: hashes and numbers fit."""
    made, previous = [], "0" * 64
    for number, line in enumerate(lines, 1):
        raw = json.dumps(line | {"seq": number, "prev": previous}, separators=(",", ":")).encode()
        previous = hashlib.sha256(raw).hexdigest()
        made.append(raw + b"\n")
    return b"".join(made)


def rotate(broker, name: str) -> None:
    """As logrotate does it."""
    path = broker.dir / "audit.jsonl"
    path.rename(broker.dir / name)
    broker.process.send_signal(signal.SIGHUP)
    for _ in range(200):
        if path.exists() and b'"rotated"' in path.read_bytes():
            return
        time.sleep(0.05)
    raise AssertionError("no new file")


class Archive:
    """The logs of stopped brokers, copied to one folder; the first one's log has three parts."""

    def __init__(self, folder, group, heads):
        self.folder, self.heads, self.first = folder, heads, group[0]
        self.key = group[0].dir / "master.key"
        self.names = {}
        for one in group:
            self.names[one.replica] = sorted(path.name for path in one.dir.glob("audit.jsonl*"))
            for name in self.names[one.replica]:
                shutil.copy(one.dir / name, folder / f"{one.replica}-{name}")

    def path(self, replica: str, name: str = "audit.jsonl"):
        return self.folder / f"{replica}-{name}"

    def fresh(self, tmp_path):
        """A copy that a test may change."""
        changed = object.__new__(Archive)
        changed.__dict__ |= self.__dict__ | {"folder": tmp_path / "logs"}
        shutil.copytree(self.folder, changed.folder)
        return changed


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three brokers over etcd; where their logs end, from one of them; and their logs."""
    if not clusters.ETCD or not shutil.which("etcdctl"):
        pytest.skip("etcd is not installed: apt-get install etcd-server etcd-client")
    base = tmp_path_factory.mktemp("audit")
    started = []

    def make(name: str, environment: dict[str, str] | None = None):
        started.append(brokers.Broker(base / name, environment))
        return started[-1]

    cluster = clusters.Cluster(base / "cluster", [brokers.ThisHost()])
    try:
        group = clusters.Replicas(cluster, make).start_all().all
        for number, one in enumerate(group):
            create(one.stub(), f"v{number}", name=f"n{number}")
            Node(f"node{number}").open(one.stub(), f"v{number}")
        rotate(group[0], "audit.jsonl.2")
        create(group[0].stub(), "w0", name="w0")
        rotate(group[0], "audit.jsonl.1")
        create(group[0].stub(), "x0", name="x0")
        one = group[1]
        live = one.ctl("audit", "verify", *[b.dir for b in group], "--broker", one.address, "--json")
        heads = one.ctl("audit", "heads")
        denied = one.ctl("audit", "heads", client="node")
        for one in group:
            one.stop()
    finally:
        for one in started:
            one.close()
        cluster.close()
    assert heads.returncode == 0, heads.stderr
    assert denied.returncode == 1 and "PERMISSION_DENIED" in denied.stderr
    (base / "heads.json").write_text(heads.stdout)
    (base / "logs").mkdir()
    made = Archive(base / "logs", group, base / "heads.json")
    made.live = live
    return made


@pytest.fixture
def logs(archive, tmp_path):
    return archive.fresh(tmp_path)


def test_whole_logs_of_three_replicas_are_accepted(archive):
    told = json.loads(archive.heads.read_text())
    assert [head["replica"] for head in told["heads"]] == ["r0", "r1", "r2"]
    answer = accepted(archive.folder, "--heads", archive.heads, "--key", archive.key)
    assert sorted(log["replica"] for log in answer["logs"]) == ["r0", "r1", "r2"] and answer["limits"] == ""
    by_name = {log["replica"]: log for log in answer["logs"]}
    assert by_name["r0"]["files"] == 3 and by_name["r1"]["files"] == 1
    assert all(log["macs"] and log["head"] for log in answer["logs"])
    # The brokers' last line, "stop", came after the heads were asked for; and a refusal at one of them.
    assert {name: log["after_head"] for name, log in by_name.items()} == {"r0": 1, "r1": 2, "r2": 1}


def test_the_parts_may_come_in_any_order(archive):
    paths = sorted(archive.folder.iterdir(), reverse=True)
    assert len(paths) == 5
    assert accepted(*paths, "--heads", archive.heads)["lines"] == accepted(archive.folder, "--key", archive.key)["lines"]


def test_a_running_broker_says_where_all_logs_end(archive):
    """In the folders are also keys and certificates, which are no logs."""
    assert archive.live.returncode == REFUSED
    answer = json.loads(archive.live.stdout)
    assert sum(log["head"] for log in answer["logs"]) == 3
    assert all("no line of this file" in step["detail"] or "hash of the line before" in step["detail"] or
               "torn" in step["detail"] for step in answer["steps"] if not step["ok"])  # fmt: skip


def test_something_to_compare_with_is_needed(archive):
    assert verify(archive.folder).returncode == 2
    assert verify("--hashes-only").returncode == 2
    assert verify(archive.folder, "--hashes-only", "--key", archive.key).returncode == 2
    assert "proves nothing" in accepted(archive.folder, "--hashes-only")["limits"]


@pytest.mark.parametrize("known", ["heads", "key", "hashes"])
def test_a_changed_line_is_refused(logs, known):
    options = {"heads": ["--heads", logs.heads], "key": ["--key", logs.key], "hashes": ["--hashes-only"]}[known]
    path = logs.path("r0", "audit.jsonl.2")
    text = path.read_bytes()
    assert b'"volume":"v0"' in text
    path.write_bytes(text.replace(b'"volume":"v0"', b'"volume":"u0"', 1))
    said = refused(logs.folder, *options)
    assert ("MAC" if known == "key" else "hash of the line before") in said and "audit.jsonl.2" in said


@pytest.mark.parametrize("replica", ["r0", "r1"])
def test_a_log_written_anew_without_a_release_is_refused_by_heads_and_by_the_key(logs, replica):
    path = logs.path(replica, {"r0": "audit.jsonl.2"}.get(replica, "audit.jsonl"))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    path.write_bytes(chain_anew([line for line in lines if line.get("method") != "OpenVolume"]))
    assert "MAC" in refused(logs.folder, "--key", logs.key)
    said = refused(logs.folder, "--heads", logs.heads)
    assert "was cut, or was written anew" in said or "does not follow" in said
    if replica == "r1":
        accepted(logs.folder, "--hashes-only")


def test_lines_in_another_order_are_refused(logs):
    path = logs.path("r1")
    lines = path.read_bytes().splitlines(True)
    lines[2], lines[3] = lines[3], lines[2]
    path.write_bytes(b"".join(lines))
    assert "hash of the line before" in refused(logs.folder, "--key", logs.key)


def test_a_log_cut_at_its_end_is_refused_by_heads_alone(logs):
    path = logs.path("r2")
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-2]))
    assert "missing at the end" in accepted(logs.folder, "--key", logs.key)["limits"]
    said = refused(logs.folder, "--heads", logs.heads)
    assert "was cut" in said
    assert "was cut" in refused(logs.folder, "--heads", logs.heads, "--key", logs.key)


def test_a_line_torn_at_the_end_is_named_and_no_lie(logs):
    path = logs.path("r2")
    path.write_bytes(path.read_bytes()[:-20])
    done = verify(logs.folder, "--heads", logs.heads, "--key", logs.key)
    assert done.returncode == 0 and "torn by a crash; the last line is" in done.stdout


def test_a_missing_log_is_refused_by_heads_alone(logs):
    logs.path("r1").unlink()
    accepted(logs.folder, "--key", logs.key)
    assert "the log was not given" in refused(logs.folder, "--heads", logs.heads)


def test_a_missing_part_is_refused(logs):
    logs.path("r0", "audit.jsonl.1").unlink()
    for options in (["--key", logs.key], ["--heads", logs.heads], ["--hashes-only"]):
        assert "lines between them are missing" in refused(logs.folder, *options)


def test_a_missing_first_part_is_told(logs):
    logs.path("r0", "audit.jsonl.2").unlink()
    done = verify(logs.folder, "--key", logs.key, "--heads", logs.heads)
    assert done.returncode == 0 and "no file with the lines before it was given" in done.stdout
    assert "no file with the lines before" in refused(logs.folder, "--key", logs.key, "--complete")


def test_a_line_more_is_refused(logs):
    path = logs.path("r1")
    lines = path.read_bytes().splitlines()
    last = json.loads(lines[-1])
    extra = last | {"seq": last["seq"] + 1, "prev": hashlib.sha256(lines[-1]).hexdigest(), "event": "call"}
    path.write_bytes(b"\n".join([*lines, json.dumps(extra, separators=(",", ":")).encode()]) + b"\n")
    assert "MAC" in refused(logs.folder, "--key", logs.key)
    done = verify(logs.folder, "--heads", logs.heads)
    assert done.returncode == 0 and "the 3 lines after it are not proven" in done.stdout


def test_a_made_up_restart_hides_nothing(logs):
    """Somebody without a key takes lines away and has a "restarted" of his own explain it."""
    path = logs.path("r1")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    begun = lines[0]
    lie = {"seq": 0, "time": begun["time"], "prev": "", "event": "restarted", "chain": begun["chain"], "first": 1,
           "note": "lost", "known": 9, "mac": "0" * 64}  # fmt: skip
    path.write_bytes(chain_anew([begun, lie, *lines[-1:]]))
    assert "noticed 1 times" in refused(logs.folder, "--hashes-only")
    accepted(logs.folder, "--hashes-only", "--allow-restarts")
    assert "MAC" in refused(logs.folder, "--key", logs.key, "--allow-restarts")
    assert "written anew" in refused(logs.folder, "--heads", logs.heads, "--allow-restarts")


def test_two_versions_of_a_log_are_refused(logs):
    """Each alone is good as far as its hashes go."""
    path = logs.path("r1")
    raw = path.read_bytes().splitlines(True)
    changed = json.loads(raw[-1]) | {"time": "2020-01-01T00:00:00.000Z"}
    other = b"".join(raw[:-1]) + json.dumps(changed, separators=(",", ":")).encode() + b"\n"
    (logs.folder / "other").write_bytes(other)
    assert "begin alike and then differ" in refused(logs.folder, "--hashes-only")
    assert "begin alike and then differ" in refused(logs.folder, "--heads", logs.heads)


def test_an_older_copy_of_a_file_is_no_trouble(logs):
    path = logs.path("r1")
    (logs.folder / "older").write_bytes(b"".join(path.read_bytes().splitlines(True)[:3]))
    shutil.copy(path, logs.folder / "same")
    os.link(path, logs.folder / "link")
    done = verify(logs.folder, "--heads", logs.heads, "--key", logs.key)
    assert done.returncode == 0 and done.stdout.count("another file has all its lines") == 2


def test_another_key_fits_no_line(logs, tmp_path):
    other = tmp_path / "other.key"
    other.touch(mode=0o600)
    other.write_text("ab" * 32)
    assert "MAC" in refused(logs.folder, "--key", other)
    accepted(logs.folder, "--key", other, "--key", logs.key)


def test_files_that_are_no_logs(logs, tmp_path):
    rubbish = tmp_path / "rubbish"
    for data in (b"\x00" * 100, os.urandom(300000), b"{}\n" * 3, b'{"seq":1,', b"\n\n"):
        rubbish.write_bytes(data)
        assert refused(rubbish, "--hashes-only")
    rubbish.write_bytes(b"\x1f\x8b\x08rest")
    assert "unpack it first" in verify(rubbish, "--hashes-only").stderr
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "neither a file nor a folder" in verify(pipe, "--hashes-only").stderr
    assert verify(tmp_path / "none", "--hashes-only").returncode == 1
    (tmp_path / "empty").mkdir()
    assert "there is no log" in refused(tmp_path / "empty", "--hashes-only")
    (tmp_path / "heads.json").write_text('{"heads":[{"replica":"r0"}]}')
    assert verify(logs.folder, "--heads", tmp_path / "heads.json").returncode == 1


def export(*words) -> list[dict]:
    done = brokers.ctl("audit", "export", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_export_has_all_lines_of_all_replicas_by_time(archive):
    lines = export(archive.folder)
    assert len(lines) == accepted(archive.folder, "--hashes-only")["lines"]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert {line["replica"] for line in lines} == {"r0", "r1", "r2"} and all(line["chain"] for line in lines)
    raw = [line for path in archive.folder.iterdir() for line in path.read_bytes().splitlines()]
    assert {line["hash"] for line in lines} == {hashlib.sha256(line).hexdigest() for line in raw}
    for replica in ("r0", "r1", "r2"):
        numbers = [line["seq"] for line in lines if line["replica"] == replica]
        assert numbers == list(range(1, len(numbers) + 1))


def test_filters(archive):
    everything = export(archive.folder)
    opened = export(archive.folder, "--method", "OpenVolume", "--code", "OK")
    assert [(line["volume"], line["node"]) for line in opened] == [("v0", "node0"), ("v1", "node1"), ("v2", "node2")]
    assert {line["method"] for line in export(archive.folder, "--volume", "v1")} == {"CreateRecord", "OpenVolume"}
    assert [line["volume"] for line in export(archive.folder, "--node", "node2")] == ["v2"]
    assert {line["replica"] for line in export(archive.folder, "--replica", "r1")} == {"r1"}
    assert export(archive.folder, "--event", "start")[0]["broker"]
    middle = opened[1]["time"][:19] + "Z"
    assert export(archive.folder, "--since", middle) == [x for x in everything if x["time"] >= middle[:19] + ".000Z"]
    assert export(archive.folder, "--until", middle) == [x for x in everything if x["time"] < middle[:19] + ".000Z"]
    assert export(archive.folder, "--since", "1h") == everything and not export(archive.folder, "--since", "0s")
    for wrong in ("yesterday", "2026-13-01", "5", "-1h", "99999999999d"):
        assert brokers.ctl("audit", "export", archive.folder, "--since", wrong).returncode == 2


def test_export_as_csv(archive):
    done = brokers.ctl("audit", "export", archive.folder, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(export(archive.folder))
    opened = [row for row in rows if row["method"] == "OpenVolume"]
    assert [row["volume"] for row in opened] == ["v0", "v1", "v2"] and opened[0]["rule"] == "nodes"
    assert all(len(row["hash"]) == 64 for row in rows)


def test_show_is_for_people(archive):
    done = brokers.ctl("audit", "show", archive.folder, "--volume", "v1")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and " r1 " in lines[1] and "OpenVolume allow OK" in lines[1] and "node=node1" in lines[1]


def test_hostile_lines_command_no_terminal_and_are_not_lost(tmp_path):
    log = tmp_path / "log"
    tail = ',"mac":"' + "0" * 64 + '"}\n'
    head = '{"seq":1,"time":"2026-01-01T00:00:00.000Z","prev":"' + "0" * 64 + '","event":"x"'
    log.write_text(head + ',"a\\u001b]0;x":"\\u001b[2J\\u0007","b":"=1+1","c":["\\u001b"],"d":"\\"q"' + tail
                   + "\x1b[31mred\n" + head + ',"a":1,"a":2' + tail)  # fmt: skip
    shown = brokers.ctl("audit", "show", log)
    assert shown.returncode == 0 and "\x1b" not in shown.stdout and "\x07" not in shown.stdout
    assert shown.stdout.count("UNREADABLE") == 2
    lines = export(log)
    assert [line["event"] for line in lines] == ["x", "unreadable", "unreadable"] and lines[1]["line"] == 2
    done = brokers.ctl("audit", "export", log, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert "\x1b" not in done.stdout and len(rows) == 3 and json.loads(rows[0]["other"])["d"] == '"q'
    assert not export(log, "--volume", "v")


def test_output_that_cannot_be_written_is_an_error(archive):
    with open("/dev/full", "w") as full:
        done = subprocess.run([brokers.program("tdvolctl"), "audit", "export", str(archive.folder)], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 1 and "cannot be written" in done.stderr
