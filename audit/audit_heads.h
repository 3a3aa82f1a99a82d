/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_verify.h"

/* Where the audit logs of brokers end: from a broker, or from files that "tdvolctl audit heads" made. */
struct audit_heads {
    struct audit_known_head *heads;
    size_t n;
};
void audit_heads_free(struct audit_heads *heads);
#define auto_audit_heads CLEANUP(audit_heads_free)

/* Both add to what there is. INVALID_ARGUMENT: too many, or a file of another form. */
MUST_USE bool audit_heads_add(struct audit_heads *heads, const struct audit_known_head *head,
                              struct error *err);
MUST_USE bool audit_heads_read(const char *path, struct audit_heads *heads, struct error *err);
