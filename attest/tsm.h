/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/attester.h"

/*
 * What is believed of a TD's evidence, before it leaves the process that asked the kernel for it:
 * the one place on a node where a quote is parsed. Errors are those of attester.collect; sets
 * log_fault, since software in the TD may extend registers and keep its log elsewhere.
 */
MUST_USE bool tsm_check(struct evidence *evidence,
                        const uint8_t report_data[static REPORT_DATA_LEN], struct error *err);
