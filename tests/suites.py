#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the tree and runs its tests.

    tests/run [PART...] [-- PYTEST-ARGUMENT...]      as in: -- tests/integration/test_life.py -k xfs
                                                            kubernetes -- -k "life or crash"

Parts: unit, lint, fuzz, integration, sanity, upstream; without one, all of them. Integration tests and
csi-sanity run in a test kernel (tests/vm/run); a few of them run in the kernels of Debian 12 and 13,
too, which are emulated. upstream runs csi-sanity against another CSI driver, Google's for persistent
disks, alone and behind tdvol, over SCSI disks and an imitated cloud (tests/upstream). Building that
driver takes minutes, so it is built only when upstream is named, and else skipped if it is not there.
Seven more parts run only when they are named, and need root. replicas runs three brokers over three
members of etcd through 200 rounds in which one host after the other fails (the default run has a short
form). kubernetes runs a real Kubernetes whose nodes are test kernels, installs tdvol as README.md says,
then once more before Google's driver, over the imitated cloud, as docs/upstreams.md says, and takes
volumes of both through the flows of tests/kubernetes; a table shows what was seen. -k local or -k
stacked chooses. At the first time it builds the cluster's programs, which takes 40 minutes. The default
run only gives chart and manifests to that API server, if it is there (tests/kubernetes/build.py api
builds it in some minutes). external-storage runs Kubernetes' own suite for CSI drivers in such a
cluster, for an hour, and writes docs/external-storage.md. stock runs all tests of volumes and
deploy/quickstart in those kernels. image builds the images of the last commit twice, in different
circumstances, compares them byte for byte, and runs what is in them (lint does that with a few small
packages). debian13 builds and runs the unit tests in a chroot of that release, and tests of volumes in
the test kernel with its libcryptsetup. debian12 runs deploy/quickstart and all of tests/run on the last
commit, in a new chroot that has none of the packages we need.

Each fuzz target searches for 10 seconds; for a long search run TDVOL_FUZZ_SECONDS=3600 tests/run fuzz.

First the packages that the parts need are installed. Without root, tests/run says what to run as root.
With TDVOL_NO_INSTALL=1 nothing is installed, and suites that cannot run are skipped. Output goes to
build/test-logs/, and for failed suites also to the terminal. The last line is "N passed, N failed",
with ", N skipped" if tests were skipped; the lines before it say which, and why. The exit code is 0
only if something ran and nothing failed, and 3 when packages are missing.
"""

import argparse
import concurrent.futures
import fcntl
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree

from builds import BUILD, SANITIZED, SANITIZED_OPTIONS, TEST_OPTIONS, TREE
from outcome import Outcome, read_junit, read_meson, read_tap
from steps import LOGS, BuildError, Missing, build, go_install, need, need_modules, run

FUZZ_SECONDS = int(os.environ.get("TDVOL_FUZZ_SECONDS", "10"))
CSI_SANITY = "csi-sanity@v5.6.0"
FAULT_OPERATIONS = ("LargerCopy", "FirstStage", "LaterStage", "Snapshot", "Grow", "Unstage", "Create", "Delete")  # longest first
OUT_OF_TIME = 124  # exit code of tests/vm/run
FAILURE_LINES = 400  # shown from the end of a failed suite's log
place = threading.local()  # .core: the core on which this thread's test kernels run

sys.path[:0] = [str(TREE / "tests/integration"), str(TREE / "tests/upstream"), str(TREE / "tests/kubernetes")]
import program as upstream_program  # noqa: E402
import programs as kubernetes_programs  # noqa: E402
import stubs  # noqa: E402


def build_sanitized(log: pathlib.Path) -> None:
    need("clang", "ld.lld")
    library = f"libclang_rt.fuzzer-{os.uname().machine}.a"
    if "/" not in subprocess.run(["clang", f"-print-file-name={library}"], capture_output=True, text=True).stdout:
        raise Missing(f"clang's {library} is not installed")
    build(log, SANITIZED, SANITIZED_OPTIONS, CC="clang")


def build_tests(log: pathlib.Path) -> None:
    build(log, BUILD, TEST_OPTIONS)


def unit(folder: pathlib.Path, build_folder):
    """The suite of all meson tests in one build folder."""

    def suite(log: pathlib.Path) -> Outcome:
        build_folder(log)
        results = folder / "meson-logs/testlog.json"
        results.unlink(missing_ok=True)
        status = run(
            log, ["meson", "test", "-C", folder, "--no-rebuild", "--timeout-multiplier", "4", "--print-errorlogs",
                  "--num-processes", str(2 * len(os.sched_getaffinity(0)))],  # the longest tests mostly wait
            ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
            UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
        )  # fmt: skip
        return read_meson(results, status)

    return suite


def in_chroot(log: pathlib.Path, *arguments: str) -> int:
    need("debootstrap", "unshare")
    if os.geteuid():
        raise Missing("only root can make a chroot")
    return run(log, [TREE / "tests/chroot", *arguments])


def unit_elsewhere(codename: str, compiler: str):
    """The suite of all meson tests with compiler and libraries of another Debian release."""

    def suite(log: pathlib.Path) -> Outcome:
        folder = f"/root/build-{compiler}"
        results = TREE / f".cache/chroot/{codename}{folder}/meson-logs/testlog.json"
        results.unlink(missing_ok=True)
        options = " ".join(["-Dwerror=true", *TEST_OPTIONS])
        status = in_chroot(
            log, codename, "bash", "-euc",
            f"""deploy/install-packages build simulated {"clang" if compiler == "clang" else ""}
            step=setup; [[ ! -e {folder}/build.ninja ]] || step=configure
            CC={compiler} meson $step {folder} {options}
            ninja -C {folder}
            meson test -C {folder} --no-rebuild --timeout-multiplier 4 --print-errorlogs""",
        )  # fmt: skip
        return read_meson(results, status)

    return suite


def volumes_elsewhere(codename: str, target: str):
    """The suite of one C program for the test kernel, with libcryptsetup and the tools of another release."""

    def suite(log: pathlib.Path) -> Outcome:
        root, folder = TREE / f".cache/chroot/{codename}", "/root/build-gcc"
        if in_chroot(log, codename, "bash", "-euc",
                     f"deploy/install-packages run vm; ninja -C {folder} {target} blockd/tdvol-blockd"):  # fmt: skip
            raise BuildError(f"{target} for {codename}")
        status = run(log, [TREE / "tests/vm/run", TREE / "tests/vm/in-root", root, f"{folder}/{target}"],
                     TDVOL_BLOCKD=f"{folder}/blockd/tdvol-blockd", TDVOL_VM_TIMEOUT="900")  # fmt: skip
        return read_tap(pathlib.Path(target).name, log.read_text(errors="replace"), "FAIL" if status else "OK")

    return suite


def bare(codename: str):
    """The suite of the two commands of README.md, on a machine with only git and ca-certificates."""

    def suite(log: pathlib.Path) -> Outcome:
        status = in_chroot(log, "--bare", codename, "bash", "-c", "deploy/quickstart && tests/run")
        text = log.read_text(errors="replace")
        outcome = Outcome(failed=re.findall(r"^FAILED: (.*)$", text, re.MULTILINE))
        if last := re.search(r"^(\d+) passed, \d+ failed[^\n]*\n?\Z", text, re.MULTILINE):
            outcome.passed = int(last[1])
        outcome.skipped = re.findall(r"^skipped: (.*?): (.*)$", text, re.MULTILINE)
        if status and not outcome.failed:
            outcome.failed.append(f"{codename}: ended with {status}")
        return outcome

    return suite


def lint(log: pathlib.Path) -> Outcome:
    """tests/lint/run prints "ok NAME", "not ok NAME" or "skip NAME REASON" for each check."""
    status = run(log, [TREE / "tests/lint/run"])
    outcome = Outcome()
    for line in log.read_text(errors="replace").splitlines():
        if match := re.match(r"ok\s+(?:\d+\s+)?(?:- )?(\S.*)", line):
            if skip := re.match(r"(.*?)\s*# SKIP\s*(.*)", match[1], re.IGNORECASE):
                outcome.skipped.append((skip[1], skip[2]))
            else:
                outcome.passed += 1
        elif match := re.match(r"not ok\s+(?:\d+\s+)?(?:- )?(\S.*)", line):
            outcome.failed.append(match[1])
        elif match := re.match(r"skip\s+(\S+)\s*(.*)", line):
            outcome.skipped.append((match[1], match[2]))
    if status and not outcome.failed:
        outcome.failed.append(f"tests/lint/run ended with {status}")
    return outcome


def fuzz(log: pathlib.Path) -> Outcome:
    """Runs each fuzz target over its stored corpus, then for FUZZ_SECONDS with new inputs."""
    build_sanitized(log)
    targets = [f"tests/fuzz/{path.stem}" for path in sorted((TREE / "tests/fuzz").glob("fuzz_*.c"))]
    outcome = Outcome()

    def search(target: pathlib.Path) -> str:
        """Runs one target, with a log of its own; returns what it found, or nothing."""
        corpus = TREE / "tests/fuzz/corpus" / target.name.removeprefix("fuzz_")
        found = SANITIZED / "found" / target.name
        found.mkdir(parents=True, exist_ok=True)
        own_log = LOGS / f"{target.name}.log"
        own_log.write_text("")
        status = run(
            own_log, [target, f"-max_total_time={FUZZ_SECONDS}", f"-artifact_prefix={found}/", "-print_final_stats=1",
                      "-timeout=10", "-rss_limit_mb=1024", found, *([corpus] if corpus.is_dir() else [])],
        )  # fmt: skip
        return f"{target.name}: the input is in {found}" if status else ""

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, failure in zip(targets, pool.map(search, map(SANITIZED.joinpath, targets))):
            if failure:
                outcome.failed.append(failure)
                with log.open("a") as output:
                    output.write((LOGS / f"{pathlib.Path(name).name}.log").read_text(errors="replace")[-8000:])
            else:
                outcome.passed += 1
    return outcome


def reported(log: pathlib.Path, report: pathlib.Path, who: str, command: list) -> Outcome:
    """Runs a command that writes a report of its tests. Its exit code counts when no test has failed."""
    report.unlink(missing_ok=True)
    status = run(log, command, TDVOL_BUILD=str(BUILD))
    outcome = read_junit(report)
    if status and not outcome.failed:
        outcome.failed.append(f"{who} ended with {status}")
    return outcome


def native(name: str, paths: list[str]):
    """The suite of the tests in some files, on this machine: they need no device-mapper."""

    def suite(log: pathlib.Path) -> Outcome:
        report = LOGS / f"{name}.xml"
        return reported(log, report, "pytest", ["/usr/bin/python3", "-m", "pytest", *paths, "--junitxml", report])

    return suite


def kernels_at_once() -> concurrent.futures.ThreadPoolExecutor:
    """A pool for suites: two threads per core, because a test kernel sometimes waits. Each is bound to a core."""
    allowed = sorted(os.sched_getaffinity(0))
    cores = iter(2 * allowed)
    return concurrent.futures.ThreadPoolExecutor(
        2 * len(allowed), initializer=lambda: setattr(place, "core", str(next(cores)))
    )


def panic_of(log: pathlib.Path) -> str:
    """Why a test kernel ended by itself, or nothing."""
    match = re.search(r"^Kernel panic - .*$", log.read_text(errors="replace"), re.MULTILINE)
    return f": {match[0].strip()}" if match else ""


def last_words_of(log: pathlib.Path) -> str:
    """What a command said last before tests/vm/run ended it."""
    lines = re.split("^(?:init: the time is|tests/vm/run: ended)", log.read_text(errors="replace"), 1, re.MULTILINE)[0].splitlines()
    return f", out of time, after: {' / '.join(line.strip() for line in lines[-3:])}"


def in_kernel(name: str, seconds: int, command: list[str], **environment: str):
    """The suite of one command in a test kernel; it writes its results to build/test-logs/NAME.xml."""

    def suite(log: pathlib.Path) -> Outcome:
        report = LOGS / f"{name}.xml"
        report.unlink(missing_ok=True)
        default = {"TDVOL_VM_TIMEOUT": os.environ.get("TDVOL_VM_TIMEOUT", str(seconds)), "TDVOL_VM_CORE": place.core}
        status = run(log, [TREE / "tests/vm/run", *command, report], **default | environment)
        outcome = read_junit(report)
        if status and not outcome.failed:
            ended = f"the command in the test kernel ended with {status}{panic_of(log)}"
            outcome.failed.append(f"{name}: {ended}{last_words_of(log) if status == OUT_OF_TIME else ''}")
        return outcome

    return suite


def kernel_program(target: str, **environment: str):
    """The suite of one C program for the test kernel (tests/vm); the program prints TAP."""

    def suite(log: pathlib.Path) -> Outcome:
        default = {"TDVOL_BLOCKD": str(BUILD / "blockd/tdvol-blockd"), "TDVOL_VM_TIMEOUT": "900",
                   "TDVOL_VM_CORE": place.core}  # fmt: skip
        status = run(log, [TREE / "tests/vm/run", BUILD / target], **default | environment)
        return read_tap(pathlib.Path(target).name, log.read_text(errors="replace"), "FAIL" if status else "OK")

    return suite


def kernel_targets() -> list[str]:
    return [f"tests/vm/{path.stem}" for path in sorted((TREE / "tests/vm").glob("test_*.c"))]


def integration(arguments: list[str]) -> list:
    """One test kernel per file, so that a crash loses only one file; the longest first."""
    pytest = ["/usr/bin/python3", "-m", "pytest"]
    if arguments:
        return [("integration-chosen", in_kernel("integration-chosen", 1800, [*pytest, *arguments, "--junitxml"]))]
    files = {path.stem.removeprefix("test_"): path.relative_to(TREE)
             for path in sorted((TREE / "tests/integration").glob("test_*.py"))}  # fmt: skip
    killing = {"faults": files.pop("faults"), "stacked-kill": files.pop("stacked_kill")}
    # Their output is shown as it comes (-s): it names the fault point where a kernel hangs.
    commands = {f"{what}-{name}": [*pytest, path, "-s", "-k", name] for name in FAULT_OPERATIONS for what, path in killing.items()}
    commands |= {name: [*pytest, path] for name, path in files.items()}
    suites = [(f"integration-{name}", in_kernel(f"integration-{name}", 1800, [*map(str, command), "--junitxml"]))
              for name, command in commands.items()]  # fmt: skip
    suites += [(pathlib.Path(target).name.replace("test_", "kernel-"), kernel_program(target))
               for target in kernel_targets()]  # fmt: skip
    natives = {"integration-etcd": [], "integration-native": [], "integration-cloud": ["tests/upstream/test_cloud.py"]}
    for path in sorted((TREE / "tests/integration/native").glob("test_*.py")):
        name = "integration-etcd" if "import clusters" in path.read_text() else "integration-native"
        natives[name].append(str(path.relative_to(TREE)))
    return [*((name, native(name, paths)) for name, paths in natives.items()), *suites]


def emulated(codename: str, targets: list[str], life: str, seconds: int) -> list:
    """Tests of volumes in the kernel of a Debian release. life: which tests of test_life.py, as pytest -k."""
    environment = {"TDVOL_VM": codename, "TDVOL_VM_MEM": "3G", "TDVOL_VM_TIMEOUT": str(seconds)}
    name = f"stock-{codename}-life"
    command = ["/usr/bin/python3", "-m", "pytest", "tests/integration/test_life.py", "-k", life, "--junitxml"]
    suites = [(f"stock-{codename}-{pathlib.Path(target).name.removeprefix('test_')}",
               kernel_program(target, **environment)) for target in targets]  # fmt: skip
    return [*suites, (name, in_kernel(name, seconds, command, **environment))]


def quickstart(codename: str):
    """The suite of deploy/quickstart in the kernel of a Debian release: each step is a test."""

    def suite(log: pathlib.Path) -> Outcome:
        status = run(log, [TREE / "deploy/quickstart"], TDVOL_VM=codename, TDVOL_VM_TIMEOUT="1800")
        steps = re.findall(r"^  (\S.*?) +[0-9.]+ s  (ok|FAILED)", log.read_text(errors="replace"), re.MULTILINE)
        outcome = Outcome(sum(word == "ok" for _, word in steps), [name for name, word in steps if word != "ok"])
        if status and not outcome.failed:
            outcome.failed.append(f"deploy/quickstart ended with {status}")
        return outcome

    return suite


RELEASES = ("bookworm", "trixie")
# As in kernels to come, and in some that are there. Its users ask for it only if it is there.
NO_AF_ALG = {"TDVOL_VM_ARGS": "module_blacklist=af_alg,algif_aead,algif_hash,algif_skcipher"}


def stock(long: bool) -> list:
    """Volumes in the kernels that people run, and in one without AF_ALG."""
    need("qemu-system-x86_64", "busybox", "cpio")
    suites = [(f"no-af-alg-{pathlib.Path(target).name.removeprefix('test_')}", kernel_program(target, **NO_AF_ALG))
              for target in ("tests/vm/test_volume", "tests/vm/test_worker")]  # fmt: skip
    for codename in RELEASES:
        if long:
            suites += emulated(codename, kernel_targets(), "test", 3600)
        else:
            suites += emulated(codename, ["tests/vm/test_hostile_disk"], "life_of_a_volume and not none", 1200)
    return suites


def build_csi_sanity(log: pathlib.Path) -> None:
    """A fixed version of csi-sanity, for the commands in test kernels."""
    program = pathlib.Path(os.environ.get("TDVOL_CSI_SANITY", TREE / f".cache/{CSI_SANITY}/csi-sanity"))
    go_install(log, program, ["go", "install", f"github.com/kubernetes-csi/csi-test/v5/cmd/{CSI_SANITY}"])
    os.environ["TDVOL_CSI_SANITY"] = str(program)


def sanity(log: pathlib.Path) -> list:
    """csi-sanity in both access types, over the local backing, and stacked on another tdvol."""
    build_csi_sanity(log)
    suites = []
    for integrity in ("aegis128", "hmac-sha256", "none"):
        for access in ("mount", "block"):
            name = f"sanity-{integrity}-{access}"
            command = ["/usr/bin/python3", "tests/integration/sanity.py", integrity, access]
            suites.append((name, in_kernel(name, 1200, command)))
    for integrity in ("aegis128", "none"):
        for access in ("mount", "block"):
            name = f"sanity-stacked-{integrity}-{access}"
            command = ["/usr/bin/python3", "tests/integration/sanity.py", integrity, access, "--stacked"]
            suites.append((name, in_kernel(name, 1200, command)))
    return suites


def sanity_of_driver(integrity: str, access: str):
    """The suite of csi-sanity against the other driver, "bare" or behind tdvol. Prints what it can do; the table of all
    specs goes to build/test-logs/upstream-INTEGRITY-ACCESS.json."""
    name = f"upstream-{integrity}-{access}"
    run_in_kernel = in_kernel(name, 1800, ["/usr/bin/python3", "tests/upstream/sanity.py", access, integrity], TDVOL_VM_MEM="3G")

    def suite(log: pathlib.Path) -> Outcome:
        outcome = run_in_kernel(log)
        if said := re.search(r"^the driver (itself|behind tdvol), .*$", log.read_text(errors="replace"), re.MULTILINE):
            print(said[0], flush=True)
        return outcome

    return name, suite


def upstream(log: pathlib.Path) -> list:
    """Another driver over SCSI disks and an imitated cloud; built first if it is missing."""
    build_csi_sanity(log)
    go_install(log, upstream_program.path(), upstream_program.BUILD)
    pytest = ["/usr/bin/python3", "-m", "pytest", "tests/upstream/test_machines.py", "--junitxml"]
    machines = ("upstream-machines", in_kernel("upstream-machines", 600, pytest))
    runs = [sanity_of_driver(integrity, access) for integrity in ("aegis128", "none", "bare") for access in ("mount", "block")]
    return [*runs, machines]


def build_cluster(log: pathlib.Path) -> None:
    if os.geteuid():
        raise Missing("only root can make the network of a cluster")
    need("linux.uml", "containerd", "runc", "dnsmasq", "socat", "curl", "jq", "unshare", "ip", "mkfs.xfs", "mkfs.ext4")
    need("go", "mmdebstrap", "busybox", "etcd")
    build(log, BUILD, TEST_OPTIONS)
    if run(log, [TREE / "tests/kubernetes/build.py"], TDVOL_BUILD=str(BUILD)):
        raise BuildError("tests/kubernetes/build.py")


def kubernetes(arguments: list[str]):
    """The suite of all flows in a cluster, and the table of them."""

    def suite(log: pathlib.Path) -> Outcome:
        build_cluster(log)
        report = LOGS / "kubernetes.xml"
        command = [TREE / "tests/kubernetes/run.py", *arguments, f"--junitxml={report}"]
        outcome = reported(log, report, "kubernetes: pytest", command)
        text = log.read_text(errors="replace")
        print(text[text.rfind("= flows =") :].partition("\n")[2].partition("\n=")[0], flush=True)
        return outcome

    return suite


def external_storage(log: pathlib.Path, backend: str) -> Outcome:
    """Kubernetes' suite for CSI drivers; the page of what it said."""
    build_cluster(log)
    command = [TREE / "tests/kubernetes/external.py", "--document", backend]
    return reported(log, BUILD / "external-storage/report.xml", "external-storage:", command)


def api(log: pathlib.Path) -> Outcome:
    """A real API server is given chart and manifests, if the programs are there."""
    need("etcd")
    need_modules("pytest", "yaml", "cryptography")
    if not kubernetes_programs.has_api():
        raise Missing("the API server is not built: tests/kubernetes/build.py api builds it in some minutes")
    return native("kubernetes-api", ["tests/kubernetes/api"])(log)


ETCD = "v3.7.3"  # beside Debian's


def build_etcd(log: pathlib.Path) -> pathlib.Path:
    """go install does not take a module with replacements: it must be a part of another."""
    folder = TREE / f".cache/etcd@{ETCD}"
    program, server = folder / "etcd", "go.etcd.io/etcd/server/v3"
    if not program.exists():
        need("go")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").write_text(f"module etcd\nrequire {server} {ETCD}\n")
        (folder / "main.go").write_text(
            f'package main\nimport ("os"; "{server}/etcdmain")\nfunc main() {{ etcdmain.Main(os.Args) }}\n'
        )
        for command in (["go", "-C", folder, "mod", "tidy"], ["go", "-C", folder, "build", "-o", program]):
            if run(log, command, GOTOOLCHAIN=os.environ.get("GOTOOLCHAIN", "auto"), GOFLAGS="-mod=mod"):
                raise BuildError(f"etcd {ETCD}")
    return program


def storm(name: str, rounds: int, etcd):
    """The suite of three brokers over an etcd, while hosts fail; each round is a test."""

    def suite(log: pathlib.Path) -> Outcome:
        need("etcd", "etcdctl", "faketime", "unshare", "ip")
        build_tests(log)
        stubs.generate()
        command = ["/usr/bin/python3", "tests/integration/native/storm.py", str(rounds)]
        status = run(log, command, TDVOL_BUILD=str(BUILD), TDVOL_ETCD=str(etcd(log)))
        text = log.read_text(errors="replace")
        print("\n".join(re.findall(r"^(?:seed|fault|\w+_\w+ +\d).*$", text, re.MULTILINE)), flush=True)
        return Outcome(rounds) if status == 0 else Outcome(failed=[f"{name} ended with {status}"])

    return suite


def kernel_of(log: pathlib.Path) -> str:
    """The kernel of a Debian release that a suite ran in, such as "6.1.0-41-amd64 (6.1.158-1)", or nothing."""
    match = re.search(r"^tests/vm/run: kernel (\S+) .* Debian (\S+)", log.read_text(errors="replace"), re.MULTILINE)
    return f"{match[1]} ({match[2]})" if match else ""


def show(name: str, outcome: Outcome, seconds: float, log: pathlib.Path) -> None:
    skipped = f", {len(outcome.skipped)} skipped" if outcome.skipped else ""
    counts = f"{outcome.passed:>4} passed, {len(outcome.failed)} failed{skipped}"
    print(f"{name:<28} {counts}  {seconds:.0f} s  {kernel_of(log)}".rstrip(), flush=True)
    if outcome.failed:
        lines = log.read_text(errors="replace").splitlines()
        print(f"--- {log.relative_to(TREE)}" + (f", last {FAILURE_LINES} lines" if len(lines) > FAILURE_LINES else ""))
        print("\n".join(lines[-FAILURE_LINES:]))
        print("---", flush=True)


def run_suite(name: str, suite) -> Outcome:
    """Runs one suite and prints its summary; every error counts as its failure."""
    log = LOGS / f"{name}.log"
    log.write_text("")
    start = time.monotonic()
    try:
        outcome = suite(log)
        if not outcome.passed and not outcome.failed:
            outcome.failed.append(f"{name}: no test ran")
    except Missing as missing:
        outcome = Outcome(skipped=[(name, str(missing))])
    except (BuildError, OSError, ElementTree.ParseError, ValueError) as error:
        outcome = Outcome(failed=[f"{name}: {error}"])
    show(name, outcome, time.monotonic() - start, log)
    if kernel := kernel_of(log):
        outcome.failed = [f"{failed}, kernel {kernel}" for failed in outcome.failed]
    return outcome


def main() -> int:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, pytest_arguments = sys.argv[1:split], sys.argv[split + 1 :]
    default = ("unit", "lint", "fuzz", "integration", "sanity", "upstream")
    parts = (*default, "replicas", "kubernetes", "external-storage", "stock", "image", "debian13", "debian12")
    parser = argparse.ArgumentParser(
        prog="tests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", metavar="PART", help=", ".join(parts))
    named = parser.parse_args(own).part
    chosen = named or list(default)
    if unknown := set(chosen) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    LOGS.mkdir(parents=True, exist_ok=True)
    lock = (LOGS / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        parser.error("another tests/run is running in this tree, and both would use the same folders: wait until it ends")
    total = Outcome()
    if not named and not upstream_program.path().exists():
        chosen.remove("upstream")
        total.skipped.append(("upstream", "the other driver is not built: tests/run upstream builds it"))
    if "unit" in chosen:
        total.add(run_suite("unit", unit(BUILD, build_tests)))
        total.add(run_suite("unit-sanitized", unit(SANITIZED, build_sanitized)))
    if "lint" in chosen:
        total.add(run_suite("lint", lint))
    if "fuzz" in chosen:
        total.add(run_suite("fuzz", fuzz))
    if "replicas" in chosen:
        total.add(run_suite("replicas", storm("replicas", 200, lambda _log: shutil.which("etcd"))))
        total.add(run_suite("replicas-3.7", storm("replicas-3.7", 40, build_etcd)))
    if "image" in chosen:
        total.add(run_suite("image", native("image", ["tests/image"])))
    if "kubernetes" in chosen:
        total.add(run_suite("kubernetes", kubernetes(pytest_arguments)))
    if "external-storage" in chosen:
        for backend in ("local", "stacked"):
            total.add(run_suite(f"external-storage-{backend}", functools.partial(external_storage, backend=backend)))
    if "integration" in chosen and not pytest_arguments:
        total.add(run_suite("kubernetes-api", api))
    if "debian13" in chosen:
        total.add(run_suite("debian13-gcc", unit_elsewhere("trixie", "gcc")))
        total.add(run_suite("debian13-clang", unit_elsewhere("trixie", "clang")))
        for target in ("tests/vm/test_volume", "tests/vm/test_growth", "tests/vm/test_hostile_disk", "tests/vm/test_worker"):
            name = pathlib.Path(target).name.removeprefix("test_")
            total.add(run_suite(f"debian13-{name}", volumes_elsewhere("trixie", target)))
    if "debian12" in chosen:
        total.add(run_suite("debian12", bare("bookworm")))
    in_vm = []
    if kernel_parts := {"integration", "sanity", "upstream", "stock"} & set(chosen):
        log = LOGS / "build.log"
        log.write_text("")
        try:
            need("modprobe", "setpriv", *(["linux.uml"] if os.environ.get("TDVOL_VM") != "host" else []))
            need_modules("pytest", "grpc", "grpc_tools")
            build(log, BUILD, TEST_OPTIONS, "all", *kernel_targets())
            stubs.generate()
            in_vm += integration(pytest_arguments) if "integration" in chosen else []
            for part, suites in (("sanity", sanity), ("upstream", upstream)):
                try:
                    in_vm += suites(log) if part in chosen else []
                except Missing as missing:
                    total.skipped.append((part, str(missing)))
            if "stock" in chosen or ("integration" in chosen and not pytest_arguments):
                in_vm = stock("stock" in chosen) + in_vm  # first, because they are the longest
        except Missing as missing:
            total.skipped += [(part, str(missing)) for part in sorted(kernel_parts)]
        except (BuildError, OSError, subprocess.CalledProcessError) as error:
            print(log.read_text(errors="replace"))
            total.failed.append(f"build: {error}")
    with kernels_at_once() as pool:
        for outcome in pool.map(lambda suite: run_suite(*suite), in_vm):
            total.add(outcome)
    for codename in RELEASES if "stock" in chosen else ():
        total.add(run_suite(f"stock-{codename}-quickstart", quickstart(codename)))

    for name, reason in total.skipped:
        print(f"skipped: {name}: {reason}")
    for name in total.failed:
        print(f"FAILED: {name}")
    skipped = f", {len(total.skipped)} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {len(total.failed)} failed{skipped}", flush=True)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
