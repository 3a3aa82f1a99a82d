/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"

#include <jansson.h>

/*
 * What "tdvolctl attest" says about its TD:
 *
 *   { "image":    { "mrtd": ["..."], "rtmr1": ["..."], "rtmr2": ["..."], "xfam": ["0x..."] },
 *     "td":       { "attributes": "0x...", "rtmr0": "...", "rtmr3": "...", "mrconfigid": "...",
 *                   "mrowner": "...", "mrownerconfig": "...", "service_td": "..." or null,
 *                   "quote_version": 4, "report_data": "..." },
 *     "platform": { "fmspc": "...", "id": "..." or null },   or null, without a readable PCK chain
 *     "event_log": "none", "replays", "differs" or "malformed",
 *     "kernel":   "none", "same" or "differs",               the registers as the kernel shows them
 *     "warnings": [ "..." ] }
 *
 * "image" goes unchanged into "images" of a policy (policy/policy.h).
 */
#define ATTEST_MEASUREMENTS "/sys/devices/virtual/misc/tdx_guest/measurements"

/* measurements is a folder like ATTEST_MEASUREMENTS, and may be missing. Fails when the quote
 * cannot be parsed. The caller owns *out. */
MUST_USE bool attest_describe(const struct evidence *evidence, const char *measurements,
                              json_t **out, struct error *err);
