/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stdint.h>
#include <sys/stat.h>

/*
 * The files that tell a broker who we are, and tell us who the broker is. They are small, come from
 * an operator or from Kubernetes, and are replaced while the process runs, one after the other.
 */
struct credential_files {
    const char *ca, *certificate, *key; /* certificate and key: NULL when we attest */
    /* Who reads them again later. The key may belong to uid, and gid may read it. */
    uid_t uid;
    gid_t gid;
};

/* Which files these are: another stamp means that one of them was replaced or written. */
struct credential_stamp {
    struct {
        dev_t device;
        ino_t inode;
        off_t size;
        struct timespec changed; /* also when only owner or mode did */
    } files[3];
};

struct credentials {
    char *ca, *certificate; /* PEM; certificate NULL: there is none */
    struct secret key;
    int64_t ca_until_s, certificate_until_s; /* the end of their time, since 1970; 0: none */
    struct credential_stamp stamp;           /* from before the files were read */
};

/* INVALID_ARGUMENT: what a file holds is not usable, or certificate and key do not belong together.
 * The time of a certificate is not checked. */
MUST_USE bool credentials_read(const struct credential_files *files, struct credentials *out,
                               struct error *err);
void credentials_wipe(struct credentials *credentials);
#define auto_credentials CLEANUP(credentials_wipe)

struct credential_stamp credentials_stamp(const struct credential_files *files);
