/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/judged_call.h"

/*
 * What a broker refuses whose store was restored from a backup. Each record is refused by itself, until
 * an administrator adopts it (lifecycle/lifecycle.h). And there may be disks for which the store has no
 * record, because it was made after the backup: a new record of such an id would have it formatted. So
 * a tenant gets no new records before its administrator has ended the restore for it.
 */

/* UNAVAILABLE with RESTORED_REASON: whoever asked must neither go on nor clear away. */
MUST_USE bool restored_check_creation(const struct judged_call *s, struct error *err);

/* Since when the tenant of the call waits for its administrator; 0: it does not. */
MUST_USE bool restored_since(const struct judged_call *s, uint64_t *out_ms, struct error *err);
