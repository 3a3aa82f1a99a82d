/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/credentials.h"

#include "base/file.h"
#include "proto/tls.h"

#include <stdlib.h>
#include <string.h>

enum { PEM_BYTES_MAX = 256 * 1024 };

static bool read_files(const struct credential_files *files, struct credentials *out,
                       struct error *err)
{
    size_t len = 0;

    if (!file_read(files->ca, PEM_BYTES_MAX, &out->ca, &len, err))
        return error_wrap(err, "--broker-ca");
    if (!files->certificate)
        return true;
    return (file_read(files->certificate, PEM_BYTES_MAX, &out->certificate, &len, err) ||
            error_wrap(err, "--client-cert")) &&
           (file_read_private_of(files->key, PEM_BYTES_MAX, files->uid, files->gid, &out->key,
                                 err) ||
            error_wrap(err, "--client-key"));
}

static bool check(struct credentials *c, struct error *err)
{
    return (tls_check_ca(c->ca, &c->ca_until_s, err) || error_wrap(err, "--broker-ca")) &&
           (!c->certificate ||
            tls_check_pair(c->certificate, &c->key, &c->certificate_until_s, err) ||
            error_wrap(err, "--client-cert, --client-key"));
}

bool credentials_read(const struct credential_files *files, struct credentials *out,
                      struct error *err)
{
    auto_credentials struct credentials c = { .key = SECRET_INIT,
                                              .stamp = credentials_stamp(files) };

    if (!read_files(files, &c, err) || !check(&c, err))
        return false;
    *out = c;
    c = (struct credentials){ .key = SECRET_INIT };
    return true;
}

void credentials_wipe(struct credentials *credentials)
{
    free_at(&credentials->ca);
    free_at(&credentials->certificate);
    secret_wipe(&credentials->key);
}

struct credential_stamp credentials_stamp(const struct credential_files *files)
{
    const char *paths[] = { files->ca, files->certificate, files->key };
    struct credential_stamp stamp;

    bytes_wipe(&stamp, sizeof(stamp)); /* stamps are compared as bytes */
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct stat st;

        if (!paths[i] || stat(paths[i], &st) != 0)
            continue;
        stamp.files[i].device = st.st_dev;
        stamp.files[i].inode = st.st_ino;
        stamp.files[i].size = st.st_size;
        stamp.files[i].changed.tv_sec = st.st_ctim.tv_sec;
        stamp.files[i].changed.tv_nsec = st.st_ctim.tv_nsec;
    }
    return stamp;
}
