/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/certificates.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PEM_BYTES_MAX ((size_t)256 * 1024)
#define DAY_S         86400
#define WARN_BEFORE_S (7 * (int64_t)DAY_S)
#define N_FILES       3

struct stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

/* What one reading of the files gives. */
struct file_reading {
    char *certificate, *client_ca;
    struct secret private_key;
    struct pki_trust *trust;
    struct broker_signer *signer; /* until use() gives it to the broker */
    int64_t until;
};

struct certificates {
    struct certificate_files files;
    struct broker *broker;
    struct claim_source_binding *source;
    struct stamp stamps[N_FILES];
    struct file_reading now;
    int64_t warned; /* since 1970; 0: not yet */
};

static void reading_clear(struct file_reading *r)
{
    free(r->certificate);
    free(r->client_ca);
    secret_wipe(&r->private_key);
    pki_trust_free(&r->trust);
    broker_signer_free(&r->signer);
    *r = (struct file_reading){ .certificate = NULL };
}

static bool read_files(const struct certificate_files *files, struct file_reading *r,
                       struct error *err)
{
    size_t len = 0;

    if (!file_read(files->certificate, PEM_BYTES_MAX, &r->certificate, &len, err) ||
        !file_read(files->client_ca, PEM_BYTES_MAX, &r->client_ca, &len, err) ||
        !file_read_private(files->private_key, PEM_BYTES_MAX, &r->private_key, err) ||
        !pki_check_server(r->certificate, &r->private_key, &r->until, err) ||
        !broker_signer_new(r->certificate, &r->private_key, &r->signer, err))
        return false;
    return pki_trust_new(r->client_ca, &r->trust, err) || error_wrap(err, "%s", files->client_ca);
}

/* Zeros for a file that is not there. */
static void take_stamps(const struct certificate_files *files, struct stamp out[static N_FILES])
{
    const char *const paths[N_FILES] = { files->certificate, files->private_key, files->client_ca };

    for (size_t i = 0; i < N_FILES; i++) {
        struct stat st;

        out[i] = (struct stamp){ .dev = 0 };
        if (stat(paths[i], &st) == 0)
            out[i] = (struct stamp){ st.st_dev, st.st_ino, st.st_size, st.st_ctim };
    }
}

static bool stamp_is_equal(const struct stamp *a, const struct stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Calls hold the policy lock for reading while they use the CA and the signer. */
static void use(struct certificates *c, struct file_reading *next)
{
    pthread_rwlock_wrlock(&c->broker->policy_lock);
    struct file_reading old = c->now;

    old.signer = c->broker->signer;
    c->broker->signer = TAKE_PTR(next->signer);
    c->now = *next;
    c->source->state = c->now.trust;
    pthread_rwlock_unlock(&c->broker->policy_lock);
    *next = old;
    atomic_store(&c->broker->certificate_until, c->now.until);
}

bool certificates_new(const struct certificate_files *files, struct broker *broker,
                      struct claim_source_binding *source, struct certificates **out,
                      struct error *err)
{
    struct certificates *c = calloc(1, sizeof(*c));
    CLEANUP(reading_clear) struct file_reading first = { .certificate = NULL };

    if (!c)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "certificates: out of memory");
    c->files = *files;
    c->broker = broker;
    c->source = source;
    take_stamps(files, c->stamps);
    if (!read_files(files, &first, err) ||
        !key_sha256_of_certificate(first.certificate, broker->key_sha256, err)) {
        free(c);
        return false;
    }
    use(c, &first);
    *out = c;
    return true;
}

void certificates_free(struct certificates **certificates)
{
    if (!*certificates)
        return;
    reading_clear(&(*certificates)->now);
    free(*certificates);
    *certificates = NULL;
}

struct server_tls certificates_tls(const struct certificates *c)
{
    return (struct server_tls){ .certificate_pem = c->now.certificate,
                                .private_key_pem = &c->now.private_key,
                                .client_ca_pem = c->now.client_ca };
}

static bool change(struct certificates *c, struct door *door, struct error *err)
{
    CLEANUP(reading_clear) struct file_reading next = { .certificate = NULL };

    if (!read_files(&c->files, &next, err))
        return false;
    const struct server_tls tls = { .certificate_pem = next.certificate,
                                    .private_key_pem = &next.private_key,
                                    .client_ca_pem = next.client_ca };

    if (!door_change_tls(door, &tls, err))
        return false;
    use(c, &next);
    return true;
}

static void read_again(struct certificates *c, struct door *door, bool is_changed)
{
    struct error err = ERROR_INIT;
    bool ok = change(c, door, &err);

    if (!ok && !is_changed)
        return; /* it was told */

    atomic_store(&c->broker->certificate_failed, !ok);
    c->warned = 0;
    if (ok)
        log_info("certificates changed", TEXT("certificate", c->files.certificate));
    else
        log_error("certificates not changed: the old ones stay in use", ERROR_FIELDS(&err));
}

static void warn_of_end(struct certificates *c)
{
    int64_t now = (int64_t)(c->broker->now_ms() / 1000), left = c->now.until - now;

    if (left > WARN_BEFORE_S || (c->warned != 0 && now - c->warned < DAY_S))
        return;
    c->warned = now;
    log_warning(left > 0 ? "the broker's certificate expires soon: replace it"
                         : "the broker's certificate is expired: replace it",
                TEXT("certificate", c->files.certificate), NUMBER("seconds", left));
}

void certificates_check(struct certificates *c, struct door *door)
{
    struct stamp stamps[N_FILES];
    bool is_changed = false;

    take_stamps(&c->files, stamps);
    for (size_t i = 0; i < N_FILES; i++)
        is_changed = is_changed || !stamp_is_equal(&stamps[i], &c->stamps[i]);
    memcpy(c->stamps, stamps, sizeof(stamps));
    /* What failed may work later without another change: no descriptors were left, or the new
     * certificate is not valid yet. */
    if (is_changed || atomic_load(&c->broker->certificate_failed))
        read_again(c, door, is_changed);
    warn_of_end(c);
}
