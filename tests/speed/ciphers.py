# SPDX-License-Identifier: Apache-2.0
"""CPU cost of the disk ciphers on this processor, by the kernel's own assembler, compiled into a program.

The test kernel has ciphers in plain C only. So the few files come from Debian's packages of the kernel's source. They
are fetched once into .cache/cipher-source, and are no part of this tree. Of each cipher, that implementation is timed
which that kernel chooses on this processor. tests/speed/ciphers.c says what is timed.
"""

import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

TREE = pathlib.Path(__file__).resolve().parents[2]
SOURCE = TREE / ".cache/cipher-source"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FILES = ("aegis128-aesni-asm.S", "aesni-intel_asm.S", "sha256_ni_asm.S", "sha256-avx2-asm.S", "sha256-avx-asm.S",
         "sha256-ssse3-asm.S")  # fmt: skip
# Version, release of Debian, files, suffix of the figures.
KERNELS = (("6.1", "bookworm", FILES, ""), ("6.12", "trixie", (*FILES, "aes-xts-avx-x86_64.S"), "_612"))
FIGURES = ("aead_vs_xts_write", "aead_vs_xts_read", "aead_vs_hmac_write", "aead_vs_hmac_read", "aegis128_mib_s",
           "xts_mib_s", "hmac_sha256_mib_s")  # fmt: skip
NAMES = tuple(figure + suffix for *_, suffix in KERNELS for figure in FIGURES)
ROUNDS = 7
SECTOR = 4096

# What the assembler includes. Functions begin at multiples of 16 bytes, as in Debian's kernels; returns are plain.
MACROS = """#define SYM_FUNC_START_LOCAL(name) .p2align 4, 0x90; .type name, @function; name:
#define SYM_FUNC_START(name) .globl name; SYM_FUNC_START_LOCAL(name)
#define SYM_TYPED_FUNC_START(name) SYM_FUNC_START(name)
#define SYM_FUNC_END(name) .size name, . - name
#define SYM_FUNC_ALIAS_LOCAL(alias, name) .set alias, name
#define RET ret
#define FRAME_BEGIN
#define FRAME_END
"""
HEADERS = {"linux/linkage.h": MACROS, "linux/cfi_types.h": "", "asm/frame.h": "", "asm/nospec-branch.h": ""}
FLAGS = ["-std=gnu17", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-no-pie", "-Wl,-z,noexecstack",
         "-DCONFIG_AS_VAES=1", "-DCONFIG_AS_VPCLMULQDQ=1"]  # fmt: skip

# What the kernels choose, best first, and the features that it needs (aesni-intel_glue.c, sha256_ssse3_glue.c).
VAES = {"aes", "avx", "avx2", "vaes", "vpclmulqdq", "pclmulqdq"}
AVX512 = VAES | {"avx512bw", "avx512vl", "bmi2"}
XTS = {"vaes_avx10_512": AVX512, "vaes_avx10_256": AVX512, "vaes_avx2": VAES, "aesni_avx": {"aes", "avx"},
       "aesni": {"aes"}}  # fmt: skip
SHA256 = {"ni": {"sha_ni", "ssse3"}, "avx2": {"avx2", "bmi2"}, "avx": {"avx"}, "ssse3": {"ssse3"}}
SLOW_ZMM = {0x55, 0x6A, 0x6C, 0x7D, 0x7E, 0x9D, 0x8C, 0x8D}  # Intel family 6 models for which 6.12 avoids AVX-512


def cpu() -> dict[str, str]:
    """The first processor of /proc/cpuinfo, whose flags are what the kernel asks for."""
    text = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    return dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in text.splitlines() if ":" in line)


def usable(kinds: dict[str, set[str]]) -> list[str]:
    """The implementations that this processor can run."""
    flags = set(cpu()["flags"].split())
    return [name for name, needed in kinds.items() if needed <= flags]


def xts_of(version: str) -> str:
    """The XTS that this kernel chooses; 6.1 has only the one."""
    if version == "6.1":
        return "aesni"
    here = cpu()
    is_slow = (here["vendor_id"], here["cpu family"]) == ("GenuineIntel", "6") and int(here["model"]) in SLOW_ZMM
    return next(kind for kind in usable(XTS) if not (is_slow and kind == "vaes_avx10_512"))


def run(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **options)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def download(package: str, release: str, work: pathlib.Path) -> pathlib.Path:
    """The package of a release, by apt with folders of its own: it changes nothing on this machine."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    mirror = run(TREE / "tests/package-source").strip()
    if not mirror:
        raise RuntimeError("apt has no package source for the release of this machine")
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {release} main\n")
    options = [f"Dir::State={work}/state", "Dir::State::status=/dev/null", f"Dir::Cache={work}/cache",
               f"Dir::Etc::sourcelist={work}/sources.list", "Dir::Etc::sourceparts=-", "APT::Sandbox::User=",
               "APT::Architecture=amd64", "APT::Architectures=amd64"]  # fmt: skip
    options = ["-q", *(word for option in options for word in ("-o", option))]
    run("apt-get", *options, "-o", "APT::Update::Error-Mode=any", "update", cwd=work)
    run("apt-get", *options, "download", package, cwd=work)
    return next(work.glob("*.deb"))


def vectors_of(testmgr: str) -> str:
    """The kernel's test vectors of AEGIS-128 whose text is whole blocks, for tests/speed/ciphers.c."""
    template = re.search(r"aegis128_tv_template\[\] = \{(.*?)\n\};", testmgr, re.DOTALL)
    if not template:
        raise RuntimeError("testmgr.h has no test vectors of AEGIS-128")
    lines = []
    for vector in template[1].split("}, {"):
        value = {"assoc": ""}
        for name, strings in re.findall(r'\.(\w+)\s*=\s*((?:"[^"]*"\s*)+)', vector):
            value[name] = "".join(re.findall(r"\\x([0-9a-f]{2})", strings))
        whole = len(value["ptext"]) % 32 == 0 and len(value["ctext"]) == len(value["ptext"]) + 32
        if whole and "novrfy" not in vector:
            lines.append(" ".join(value[name] for name in ("key", "iv", "assoc", "ptext", "ctext")) + "\n")
    return "".join(lines)


def fetch(version: str, release: str, files: tuple[str, ...]) -> pathlib.Path:
    """The folder with the kernel's files; fetched once."""
    folder = SOURCE / version
    if folder.is_dir():
        return folder
    SOURCE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SOURCE) as name:
        work = pathlib.Path(name)
        package = download(f"linux-source-{version}", release, work)
        (work / "done").mkdir()
        wanted = [f"linux-source-{version}/arch/x86/crypto/{file}" for file in files]
        archive = f"./usr/src/linux-source-{version}.tar.xz"
        run("bash", "-o", "pipefail", "-c",
            'deb=$1 tar=$2; shift 2; dpkg-deb --fsys-tarfile "$deb" | tar -xO "$tar" | tar -xJ "$@"', "-",
            package, archive, *wanted, f"linux-source-{version}/crypto/testmgr.h", cwd=work)  # fmt: skip
        for file in wanted:
            (work / file).rename(work / "done" / pathlib.Path(file).name)
        testmgr = (work / f"linux-source-{version}/crypto/testmgr.h").read_text()
        (work / "done/vectors").write_text(vectors_of(testmgr))
        (work / "done/version").write_text(package.name.split("_")[1] + "\n")
        (work / "done").rename(folder)
    return folder


def build(folder: pathlib.Path, files: tuple[str, ...]) -> None:
    for name, text in HEADERS.items():
        header = folder / "shims" / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(text)
    run("gcc", *FLAGS, f"-I{folder}/shims", TREE / "tests/speed/ciphers.c", *(folder / file for file in files),
        "-o", folder / "ciphers", "-lcrypto")  # fmt: skip


def times(folder: pathlib.Path, xts: str) -> dict[str, float]:
    """Nanoseconds for one sector, on one core."""
    core = max(os.sched_getaffinity(0))
    text = run("taskset", "-c", core, folder / "ciphers", folder / "vectors", xts, usable(SHA256)[0])
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


def figures_of(ns: dict[str, float]) -> dict[str, float]:
    figures = {}
    for way in ("write", "read"):
        figures[f"aead_vs_xts_{way}"] = ns[f"xts_{way}"] / ns[f"aegis128_{way}"]
        figures[f"aead_vs_hmac_{way}"] = ns[f"xts_hmac_sha256_{way}"] / ns[f"aegis128_{way}"]
    for name in ("aegis128", "xts", "hmac_sha256"):
        figures[f"{name}_mib_s"] = SECTOR / 2**20 / (ns[f"{name}_write"] / 1e9)
    return figures


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def prepare() -> dict[str, pathlib.Path]:
    """The folder of each kernel, with its program."""
    if platform.machine() != "x86_64" or not usable({"AES-NI": {"aes", "ssse3"}}):
        raise RuntimeError("this processor has no AES-NI")
    folders = {}
    for version, release, files, _ in KERNELS:
        folders[version] = fetch(version, release, files)
        build(folders[version], files)
    return folders


def measure() -> dict[str, float]:
    """Medians of the rounds, which alternate between the kernels; nothing if there is no source."""
    try:
        folders = prepare()
    except (RuntimeError, OSError) as error:
        print(f"tests/speed/ciphers.py: {error}", file=sys.stderr)
        return {}
    taken = {version: [] for version in folders}
    for _ in range(ROUNDS):
        for version, folder in folders.items():
            taken[version].append(figures_of(times(folder, xts_of(version))))
    return {name + suffix: medians(taken[version])[name] for version, *_, suffix in KERNELS for name in FIGURES}


def main() -> int:
    """Prints the figures, what they were measured with, and the same for slower ways of XTS in the newer kernel."""
    figures = measure()
    if not figures:
        return 1
    for name, value in figures.items():
        print(f"{name:<22} {value:>10.2f}")
    print(f"\n{cpu()['model name']}, family {cpu()['cpu family']}, model {cpu()['model']}")
    print("features:", *sorted((AVX512 | {"sha_ni"}) & set(cpu()["flags"].split())))
    for version, *_ in KERNELS:
        package = (SOURCE / version / "version").read_text().strip()
        print(f"linux-source-{version} {package}: xts {xts_of(version)}, sha256 {usable(SHA256)[0]}")
    newest = KERNELS[-1][0]
    rounds = [{kind: figures_of(times(SOURCE / newest, kind)) for kind in usable(XTS)} for _ in range(3)]
    for kind in usable(XTS):
        some = medians([one[kind] for one in rounds])
        print(f"{newest} with {kind:<15}", *(f"{name} {some[name]:.2f}" for name in FIGURES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
