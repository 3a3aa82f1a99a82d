/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"

/*
 * Checks a TD's evidence before it leaves the process that asked the kernel for it. A node parses a
 * quote only here. Errors are those of attester.collect. A wrong event log only sets log_fault,
 * because software in the TD may extend registers and keep its log elsewhere.
 */
MUST_USE bool tsm_check(struct evidence *evidence,
                        const uint8_t report_data[static REPORT_DATA_LEN], struct error *err);
