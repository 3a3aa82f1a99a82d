# SPDX-License-Identifier: Apache-2.0
"""Writes figures into docs/performance.md as tables, and draws them (PNG, with matplotlib)."""

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "performance.md"
FIGURES = DOCS / "performance/figures.json"

WORKS = {
    "seq_write": "sequential write, 1 MiB",
    "seq_read": "sequential read, 1 MiB",
    "rand_write": "random write, 4 KiB",
    "rand_read": "random read, 4 KiB",
    "sync_write": "write and flush, 4 KiB",
}
# Name in the figures, name for people, colour in the plots.
STACKS = (
    ("cryptsetup", "cryptsetup: no authentication", "#9aa5b1"),
    ("none", "tdvol none: no authentication", "#52606d"),
    ("aegis128", "tdvol aegis128", "#0b7285"),
    ("aegis128_first_writes", "tdvol aegis128, first writes", "#66b2c0"),
    ("aegis128_no_journal", "tdvol aegis128, journal=off", "#94d2bd"),
    ("bare_aegis128", "cryptsetup with aegis128, wiped before", "#b197fc"),
    ("hmac_sha256", "tdvol hmac-sha256", "#e09f3e"),
    ("constellation", "Constellation: HMAC-SHA256", "#9e2a2b"),
)


def cell(figures: dict, prefix: str, work: str, stack: str) -> str:
    name = f"{prefix}{work}_{stack}"
    if f"{name}_mb_s" not in figures:
        return "–"
    return f"{figures[f'{name}_mb_s']:.0f} ({figures[f'{name}_bytes_below']:.1f}, {figures[f'{name}_requests_below']:.1f})"


def throughput(figures: dict, prefix: str) -> list[str]:
    rows = [f"| | {' | '.join(WORKS.values())} |", "|---" * (len(WORKS) + 1) + "|"]
    for stack, title, _ in STACKS:
        cells = [cell(figures, prefix, work, stack) for work in WORKS]
        if set(cells) != {"–"}:
            rows.append(f"| {title} | {' | '.join(cells)} |")
    return rows


def seconds(figures: dict, name: str) -> str:
    return f"{figures[name]:.2f} s" if name in figures else "–"


def ready(figures: dict) -> list[str]:
    kinds = (("tdvol aegis128", "first_byte_{}_s"), ("tdvol aegis128, raw block: no mkfs", "first_device_{}_s"),
             ("tdvol hmac-sha256", "first_byte_hmac_{}_s"), ("tdvol none", "first_byte_none_{}_s"),
             ("cryptsetup: no authentication", "first_byte_cryptsetup_{}_s"),
             ("Constellation: HMAC-SHA256, with its wipe", "first_byte_constellation_{}_s"))  # fmt: skip
    sizes = {"1gib": "1 GiB", "4gib": "4 GiB", "16gib": "16 GiB", "1tib": "1 TiB, sparse"}
    figures = figures | {"first_byte_none_1gib_s": figures["first_byte_none_s"]}
    rows = [f"| | {' | '.join(sizes.values())} |", "|---" * (len(sizes) + 1) + "|"]
    for title, name in kinds:
        rows.append(f"| {title} | {' | '.join(seconds(figures, name.format(size)) for size in sizes)} |")
    return rows


def staging(figures: dict) -> list[str]:
    return [
        "| | tdvol | Constellation's way | ratio |",
        "|---|---|---|---|",
        f"| one existing volume | {seconds(figures, 'stage_s')} | {seconds(figures, 'stage_constellation_s')} | "
        f"{figures['stage_vs_constellation']:.0f} |",
        f"| 32 at once | {seconds(figures, 'stage32_s')} | {seconds(figures, 'stage32_constellation_s')} | "
        f"{figures['stage32_vs_constellation']:.0f} |",
    ]


def others(figures: dict) -> list[str]:
    rows = (
        ("NodeStage / `cryptsetup open` and `mount` of an equal device", f"{figures['stage_ratio']:.2f}"),
        ("layers of tdvol / the bare dm-crypt mapping of the same kind, mean", f"{figures['layers_ratio']:.2f}"),
        ("growth of 1 GiB while the volume is written", seconds(figures, "growth_s")),
        ("longest write and flush meanwhile; without a growth", f"{figures['growth_pause_s'] * 1000:.0f} ms; "
         f"{figures['write_pause_s'] * 1000:.0f} ms"),
        ("kernel memory of a staged volume of 64 MiB; of 4 GiB and more", f"{figures['kernel_kib_64mib'] / 1024:.0f} MiB; "
         f"{figures['kernel_kib_4gib'] / 1024:.0f} MiB"),
        ("memory of tdvol-csi and tdvol-blockd after a run of csi-sanity", f"{figures['rss_kib'] / 1024:.1f} MiB"),
    )  # fmt: skip
    return ["| | |", "|---|---|", *(f"| {title} | {value} |" for title, value in rows)]


def ciphers(figures: dict) -> list[str]:
    kernels = {"Linux 6.1 (Debian 12)": "", "Linux 6.12 (Debian 13)": "_612"}
    rows = {
        "AEGIS-128, MiB/s": "aegis128_mib_s", "AES-256-XTS, MiB/s": "xts_mib_s",
        "CPU time of XTS / of AEGIS-128: write": "aead_vs_xts_write", "the same: read": "aead_vs_xts_read",
        "CPU time of XTS and HMAC-SHA256 / of AEGIS-128: write": "aead_vs_hmac_write",
        "the same: read ": "aead_vs_hmac_read",
    }  # fmt: skip
    lines = [f"| one core | {' | '.join(kernels)} |", "|---" * (len(kernels) + 1) + "|"]
    for title, name in rows.items():
        values = (figures.get(name + suffix) for suffix in kernels.values())
        lines.append(f"| {title} | {' | '.join('–' if value is None else f'{value:.{0 if value > 99 else 2}f}' for value in values)} |")
    return lines


BLOCKS = {
    "memory": lambda figures: throughput(figures, ""),
    "cloud": lambda figures: throughput(figures, "cloud_"),
    "ready": ready,
    "staging": staging,
    "others": others,
    "ciphers": ciphers,
}


def write_tables(figures: dict) -> None:
    text = PAGE.read_text()
    for name, make in BLOCKS.items():
        block = f"<!-- bench {name} -->\n" + "\n".join(make(figures)) + "\n<!-- end -->"
        text, n = re.subn(rf"<!-- bench {name} -->\n.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
        if n != 1:
            raise RuntimeError(f"{PAGE.name}: one block \"bench {name}\" is expected")
    PAGE.write_text(text)


def draw_throughput(plt, figures: dict) -> None:
    figure, panels = plt.subplots(2, 1, figsize=(10, 8.5))
    for panel, prefix, title in ((panels[0], "", "disk in memory: the processor is the limit"),
                                 (panels[1], "cloud_", "the same disk, 125 MB/s: the bytes below are the limit")):  # fmt: skip
        stacks = [stack for stack in STACKS if f"{prefix}rand_write_{stack[0]}_mb_s" in figures]
        width = 0.86 / len(stacks)
        for place, (stack, label, colour) in enumerate(stacks):
            names = [f"{prefix}{work}_{stack}" for work in WORKS]
            bars = panel.bar([i + (place - len(stacks) / 2 + 0.5) * width for i in range(len(WORKS))],
                             [figures.get(f"{name}_mb_s", 0) for name in names], width, label=label, color=colour)  # fmt: skip
            below = [figures.get(f"{name}_bytes_below") for name in names]
            panel.bar_label(bars, [f"{value:.1f}" if value else "" for value in below], fontsize=6, rotation=90, padding=2)
        panel.set_title(f"{title}; on each bar: bytes below for each byte of the user", fontsize=10)
        panel.set_ylabel("MB/s")
        panel.set_xticks(range(len(WORKS)), WORKS.values(), fontsize=8)
        panel.margins(y=0.12)
        panel.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=7, ncols=2)
    figure.tight_layout()
    figure.savefig(DOCS / "performance/throughput.png", dpi=110)


def draw_ready(plt, figures: dict) -> None:
    figure, panel = plt.subplots(figsize=(8, 4.5))
    lines = (
        ("tdvol aegis128", "#0b7285", {1: "first_byte_1gib_s", 4: "first_byte_4gib_s", 16: "first_byte_16gib_s", 1024: "first_byte_1tib_s"}),
        ("tdvol none", "#52606d", {1: "first_byte_none_s", 1024: "first_byte_none_1tib_s"}),
        ("Constellation, with its wipe", "#9e2a2b",
         {1: "first_byte_constellation_1gib_s", 4: "first_byte_constellation_4gib_s", 16: "first_byte_constellation_16gib_s"}),
    )  # fmt: skip
    for label, colour, points in lines:
        found = {size: figures[name] for size, name in points.items() if name in figures}
        panel.plot(list(found), list(found.values()), "o-", label=label, color=colour)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks([1, 4, 16, 64, 256, 1024], ["1 GiB", "4 GiB", "16 GiB", "64 GiB", "256 GiB", "1 TiB"])
    panel.set_ylabel("seconds from CreateVolume to the first byte")
    panel.grid(alpha=0.3, which="both")
    panel.legend()
    figure.tight_layout()
    figure.savefig(DOCS / "performance/ready.png", dpi=110)


def write(figures: dict) -> None:
    """Tables and plots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    write_tables(figures)
    draw_throughput(plt, figures)
    draw_ready(plt, figures)
