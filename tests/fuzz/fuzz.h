/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls this, or replay.c in its place. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
