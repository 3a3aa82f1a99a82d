# SPDX-License-Identifier: Apache-2.0
"""The build folders of tests/run and tests/lint/run, and their options. Each one is used for as much as it can be."""

import pathlib

TREE = pathlib.Path(__file__).resolve().parents[1]
# With fault points, and with the option to trust the root of a simulated TD.
TEST_OPTIONS = ["-Dfaults=true", "-Dsimulator=true"]

# By gcc, for all tests but those of the other folder.
BUILD = TREE / "build"
# By clang with sanitizers: unit tests, fuzz targets, clang's warnings and clang-tidy. The sanitizers' red zones
# make frames larger than the limit of the other build. Its hundreds of programs are linked by lld.
SANITIZED = TREE / "build-sanitized"
SANITIZED_OPTIONS = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dc_args=-Wno-frame-larger-than",
                     "-Dc_link_args=-fuse-ld=lld", "-Doptimization=1", "-Dfuzz=true", *TEST_OPTIONS]  # fmt: skip
