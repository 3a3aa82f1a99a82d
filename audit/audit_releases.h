/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_merge.h"

/*
 * To whom keys went, as audit logs tell it: for each quote how many releases, and the measurement; and
 * whether the logs have the Attest that proved the quote. Checks no log: see audit/audit_verify.h.
 */
#define AUDIT_MRTD_TEXT  97
#define AUDIT_QUOTES_MAX 1000000

struct audit_quote {
    char sha256[AUDIT_HASH_TEXT]; /* "": releases to callers without a quote */
    char mrtd[AUDIT_MRTD_TEXT];   /* as its lines say; "": they do not */
    char image[64];
    bool is_attested; /* an Attest with it is in the logs, with this MRTD, and was allowed */
    bool is_mixed;    /* its lines name different measurements */
    uint64_t releases;
};

struct audit_releases {
    void *quotes; /* tsearch(3) */
    size_t n;
    uint64_t releases;
};
void audit_releases_free(struct audit_releases *releases);
#define auto_audit_releases CLEANUP(audit_releases_free)

/* RESOURCE_EXHAUSTED: more than AUDIT_QUOTES_MAX quotes. */
MUST_USE bool audit_releases_read(const struct audit_files *set, struct audit_releases *out,
                                  struct error *err);

/* In the order of their hashes; those without a quote first. */
void audit_releases_each(const struct audit_releases *releases,
                         void (*visit)(void *cookie, const struct audit_quote *quote),
                         void *cookie);
