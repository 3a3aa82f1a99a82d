/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/luks.h"

#include "base/uuid.h"
#include "crypt/table.h"
#include "record/layout.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libcryptsetup.h>
#include <stdio.h>
#include <string.h>

#define HEADER_METADATA_BYTES 16384u
#define HEADER_KEYSLOTS_BYTES (LAYOUT_HEADER_BYTES - 2 * HEADER_METADATA_BYTES)

/* Of a table of dm-crypt: cipher, key, what is added to the number of each sector, device, ... */
#define CRYPT_IV_OFFSET_WORD 2

static const struct luks_mode modes[] = {
    /* For AEAD libcryptsetup asks AF_ALG whether the kernel has the cipher, and AF_ALG is closed on
     * more and more kernels. */
    [INTEGRITY_AEGIS128] = { "aegis128", "random", "aegis128-random", "aead", 16, 32, "aes",
                             "cbc-plain64" },
    [INTEGRITY_HMAC_SHA256] = { "aes", "xts-plain64", "aes-xts-plain64", "hmac(sha256)", 96, 32,
                                NULL, NULL },
    [INTEGRITY_NONE] = { "aes", "xts-plain64", "aes-xts-plain64", NULL, 64, 0, NULL, NULL },
};

const struct luks_mode *luks_mode_of(uint32_t integrity)
{
    return integrity < ARRAY_LEN(modes) && modes[integrity].cipher ? &modes[integrity] : NULL;
}

static const struct luks_mode *known_mode_of(const struct volume_spec *spec)
{
    const struct luks_mode *mode = luks_mode_of(spec->integrity);

    assert(mode);
    return mode;
}

static void luks_free(struct crypt_device **cd)
{
    crypt_free(*cd);
    *cd = NULL;
}
#define auto_luks CLEANUP(luks_free)

/* The last error message of libcryptsetup. Its functions return only a number. */
static char last_message[256];

static void keep_message(int level, const char *message, void *unused UNUSED)
{
    if (level == CRYPT_LOG_ERROR)
        (void)snprintf(last_message, sizeof(last_message), "%.*s", (int)strcspn(message, "\n"),
                       message);
}

/* Never NOT_FOUND: callers would read it as "no such volume", but here a cipher or a kernel target
 * is missing. */
static enum error_code code_of(int rc)
{
    switch (-rc) {
    case EBUSY:
        return ERROR_ABORTED;
    case ENOMEM:
    case ENOSPC:
        return ERROR_RESOURCE_EXHAUSTED;
    case ENOENT:
    case ENODEV:
    case ENOTSUP:
    case EINVAL:
        return ERROR_FAILED_PRECONDITION;
    default:
        return ERROR_INTERNAL;
    }
}

/* What to do when a cipher is missing. */
static const char *advice(enum integrity integrity)
{
    switch (integrity) {
    case INTEGRITY_AEGIS128:
        return "the kernel has no aegis128 (CONFIG_CRYPTO_AEGIS128): use integrity=hmac-sha256 on "
               "these nodes";
    case INTEGRITY_HMAC_SHA256:
        return "the kernel has no authenc(hmac(sha256),xts(aes)) (CONFIG_CRYPTO_AUTHENC)";
    case INTEGRITY_NONE:
    default:
        return "the kernel has no aes-xts (CONFIG_CRYPTO_XTS)";
    }
}

static bool call_failed(int rc, const char *what, const char *device_path, struct error *err)
{
    error_set(err, code_of(rc), "%s %s: %s (%s)", what, device_path,
              last_message[0] ? last_message : "libcryptsetup gives no reason",
              strerrordesc_np(-rc));
    err->sys_errno = -rc;
    return false;
}

static bool luks_failed(int rc, const char *what, const char *device_path,
                        const struct volume_spec *spec, struct error *err)
{
    if (rc == -EPERM)
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, "KeyMismatch",
                                "%s %s: the key from the broker does not open this header", what,
                                device_path);
    (void)call_failed(rc, what, device_path, err);
    if (err->code == ERROR_FAILED_PRECONDITION)
        (void)error_wrap(err, "%s", advice(spec->integrity));
    return false;
}

/* The path at which libcryptsetup opens a header in memory. */
struct header_path {
    char text[32];
};

static struct header_path header_path(int header_fd)
{
    struct header_path out;

    (void)snprintf(out.text, sizeof(out.text), "/proc/self/fd/%d", header_fd);
    return out;
}

static void library_setup(void)
{
    crypt_set_log_callback(NULL, keep_message, NULL);
    last_message[0] = '\0';
}

static int context_setup(struct crypt_device *cd)
{
    const struct crypt_pbkdf_type kdf = {
        .type = CRYPT_KDF_PBKDF2,
        .hash = LUKS_KDF_HASH,
        .iterations = LUKS_KDF_ITERATIONS,
        .flags = CRYPT_PBKDF_NO_BENCHMARK,
    };

    crypt_set_rng_type(cd, CRYPT_RNG_URANDOM);
    /* No other process has this header, so there is nothing to lock it against. */
    int rc = crypt_metadata_locking(cd, 0);
    if (rc == 0)
        rc = crypt_volume_key_keyring(cd, 0);
    if (rc == 0)
        rc = crypt_set_pbkdf_type(cd, &kdf);
    return rc;
}

/* Without dm-crypt's work queues a random 4 KiB access takes about half the time (measured with
 * both ciphers), and sequential access takes no longer. HMAC-SHA256 costs several times as much per
 * byte: there the queues stay, because they spread the work over the processors. */
static bool uses_workqueue(const struct volume_spec *spec)
{
    if (spec->workqueue == WORKQUEUE_AUTO)
        return spec->integrity == INTEGRITY_HMAC_SHA256;
    return spec->workqueue == WORKQUEUE_ON;
}

static uint32_t activation_flags(const struct volume_spec *spec)
{
    uint32_t flags = CRYPT_ACTIVATE_PRIVATE;

    if (!uses_workqueue(spec))
        flags |= CRYPT_ACTIVATE_NO_READ_WORKQUEUE | CRYPT_ACTIVATE_NO_WRITE_WORKQUEUE;
    if (spec->integrity == INTEGRITY_NONE && spec->discard)
        flags |= CRYPT_ACTIVATE_ALLOW_DISCARDS;
    if (spec->no_journal)
        flags |= CRYPT_ACTIVATE_NO_JOURNAL;
    return flags;
}

/* Whether libcryptsetup writes the mode's own integrity into the header. */
static bool makes_integrity(const struct luks_mode *mode)
{
    return mode->integrity && !mode->stand_in_cipher;
}

static int format_header(struct crypt_device *cd, const char *device_path,
                         const struct record *record, const struct secret *volume_key)
{
    const struct volume_spec *spec = &record->spec;
    const struct luks_mode *mode = known_mode_of(spec);
    bool is_stand_in = mode->stand_in_cipher != NULL, has_integrity = makes_integrity(mode);
    const struct crypt_params_integrity integrity = {
        .journal_size = (uint64_t)spec->journal_sectors * SECTOR_BYTES,
        .interleave_sectors = spec->interleave_sectors,
        .tag_size = mode->tag_bytes,
        .sector_size = spec->sector_bytes,
    };
    struct crypt_params_luks2 params = {
        .integrity = has_integrity ? mode->integrity : NULL,
        .integrity_params = has_integrity ? &integrity : NULL,
        .data_device = device_path,
        .sector_size = spec->sector_bytes,
    };
    char uuid[UUID_TEXT_LEN];

    uuid_text(record->id, uuid);
    int rc = crypt_set_data_offset(cd, layout_data_offset(spec) / SECTOR_BYTES);
    if (rc == 0)
        rc = crypt_set_metadata_size(cd, HEADER_METADATA_BYTES, HEADER_KEYSLOTS_BYTES);
    if (rc == 0)
        rc = crypt_format(cd, CRYPT_LUKS2, is_stand_in ? mode->stand_in_cipher : mode->cipher,
                          is_stand_in ? mode->stand_in_mode : mode->cipher_mode, uuid,
                          (const char *)volume_key->bytes, volume_key->len, &params);
    return rc;
}

/* With integrity libcryptsetup takes the cipher that we want for the keyslot by itself, and refuses
 * another. header_check() looks at it in any case. */
static int add_keyslot(struct crypt_device *cd, bool has_integrity, const struct secret *volume_key,
                       const struct secret *passphrase)
{
    int rc =
        has_integrity ? 0 : crypt_keyslot_set_encryption(cd, LUKS_AREA_CIPHER, LUKS_AREA_KEY_BYTES);

    if (rc == 0)
        rc =
            crypt_keyslot_add_by_volume_key(cd, 0, (const char *)volume_key->bytes, volume_key->len,
                                            (const char *)passphrase->bytes, passphrase->len);
    return rc < 0 ? rc : 0;
}

bool luks_prepare(int header_fd, struct error *err)
{
    library_setup();
    auto_luks struct crypt_device *cd = NULL;
    int rc = crypt_init(&cd, header_path(header_fd).text);
    if (rc == 0)
        rc = context_setup(cd);
    if (rc == 0) /* fails: there is no header in it */
        (void)crypt_load(cd, CRYPT_LUKS2, NULL);
    return rc == 0 || error_set_errno(err, -rc, "set up libcryptsetup");
}

bool luks_make_header(const char *device_path, const struct record *record,
                      const struct secret *volume_key, const struct secret *passphrase,
                      int header_fd, struct error *err)
{
    auto_secret struct secret fresh = SECRET_INIT;
    const struct luks_mode *mode = known_mode_of(&record->spec);

    if (!volume_key && !secret_random(&fresh, mode->key_bytes, err))
        return false;
    if (!volume_key)
        volume_key = &fresh;
    library_setup();
    auto_luks struct crypt_device *cd = NULL;
    int rc = crypt_init(&cd, header_path(header_fd).text);
    if (rc == 0)
        rc = context_setup(cd);
    if (rc == 0)
        rc = format_header(cd, device_path, record, volume_key);
    if (rc == 0)
        rc = add_keyslot(cd, makes_integrity(mode), volume_key, passphrase);
    return rc >= 0 || luks_failed(rc, "format", device_path, &record->spec, err);
}

/* device_path NULL: only keys are asked for. */
static int load_header(struct crypt_device **cd, const char *header_path, const char *device_path)
{
    library_setup();
    /* libcryptsetup calls the header "device" here.
     * NOLINTNEXTLINE(readability-suspicious-call-argument) */
    int rc = crypt_init_data_device(cd, header_path, device_path);
    if (rc == 0)
        rc = context_setup(*cd);
    if (rc == 0)
        rc = crypt_load(*cd, CRYPT_LUKS2, NULL);
    return rc;
}

/* libcryptsetup writes the number of the first sector into a header, and does not read it. */
static bool set_iv_offset(const char *name, const struct volume_spec *spec, struct error *err)
{
    char number[24];

    if (layout_iv_offset(spec) == 0)
        return true;
    (void)snprintf(number, sizeof(number), "%" PRIu64, layout_iv_offset(spec));
    return table_set_word(name, CRYPT_IV_OFFSET_WORD, number, err);
}

bool luks_open(const char *name, const char *device_path, const struct record *record,
               const struct secret *passphrase, int header_fd, struct error *err)
{
    auto_luks struct crypt_device *cd = NULL;
    int rc = load_header(&cd, header_path(header_fd).text, device_path);

    if (rc == 0)
        rc = crypt_activate_by_passphrase(cd, name, 0, (const char *)passphrase->bytes,
                                          passphrase->len, activation_flags(&record->spec));
    return rc >= 0 ? set_iv_offset(name, &record->spec, err)
                   : luks_failed(rc, "open", device_path, &record->spec, err);
}

bool luks_get_volume_key(int header_fd, const struct secret *passphrase,
                         const struct volume_spec *spec, struct secret *volume_key,
                         struct error *err)
{
    auto_luks struct crypt_device *cd = NULL;
    auto_secret struct secret key = SECRET_INIT;
    size_t len = known_mode_of(spec)->key_bytes;

    if (!secret_alloc(&key, len, err))
        return false;
    library_setup();
    int rc = crypt_init(&cd, header_path(header_fd).text);
    if (rc == 0)
        rc = context_setup(cd);
    if (rc == 0)
        rc = crypt_load(cd, CRYPT_LUKS2, NULL);
    if (rc == 0)
        rc = crypt_volume_key_get(cd, CRYPT_ANY_SLOT, (char *)key.bytes, &len,
                                  (const char *)passphrase->bytes, passphrase->len);
    if (rc == -EPERM)
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, "KeyMismatch",
                                "the old key does not open the old header: adopt the volume again, "
                                "with the right key file; nothing was changed");
    if (rc == -ENOMEM)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "no memory for the key derivation of the old header");
    if (rc < 0)
        return error_set_reason(
            err, ERROR_FAILED_PRECONDITION, "OldHeader",
            "libcryptsetup refuses the old header: %s (%s); nothing was changed", last_message,
            strerrordesc_np(-rc));
    if (len != key.len)
        return error_set(err, ERROR_INTERNAL, "the old volume key has %zu bytes", len);
    *volume_key = secret_take(&key);
    return true;
}

bool luks_change_passphrase(int header_fd, const struct volume_spec *spec,
                            const struct secret *old_passphrase, const struct secret *passphrase,
                            struct error *err)
{
    auto_secret struct secret volume_key = SECRET_INIT;
    auto_luks struct crypt_device *cd = NULL;

    if (!luks_unlock(header_fd, old_passphrase, &volume_key, err))
        return false;
    int rc = load_header(&cd, header_path(header_fd).text, NULL);
    if (rc == 0)
        rc = crypt_keyslot_destroy(cd, 0);
    if (rc == 0)
        rc = add_keyslot(cd, known_mode_of(spec)->integrity != NULL, &volume_key, passphrase);
    return rc >= 0 || luks_failed(rc, "change the key of", "the header", spec, err);
}

/* EPERM: the last keyslot that was tried is not opened by the key. ENOENT: that one is not for this
 * volume key's size, or there was none to try; header checks keep the latter away. */
static bool is_wrong_key(int rc)
{
    return rc == -EPERM || rc == -ENOENT;
}

bool luks_unlock(int header_fd, const struct secret *passphrase, struct secret *volume_key,
                 struct error *err)
{
    auto_luks struct crypt_device *cd = NULL;
    auto_secret struct secret key = SECRET_INIT;
    int rc = load_header(&cd, header_path(header_fd).text, NULL);

    if (rc < 0)
        return call_failed(rc, "read", "the header", err);
    int key_bytes = crypt_get_volume_key_size(cd);
    if (key_bytes <= 0)
        return error_set(err, ERROR_INTERNAL, "the header has no volume key");
    if (!secret_alloc(&key, (size_t)key_bytes, err))
        return false;
    size_t len = key.len;
    rc = crypt_volume_key_get(cd, CRYPT_ANY_SLOT, (char *)key.bytes, &len,
                              (const char *)passphrase->bytes, passphrase->len);
    if (is_wrong_key(rc))
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, "KeyMismatch",
                                "the key opens none of the header's keyslots");
    if (rc < 0 || len != key.len)
        return call_failed(rc < 0 ? rc : -EINVAL, "unlock", "the header", err);
    *volume_key = secret_take(&key);
    return true;
}

bool luks_open_with_key(const char *name, const char *device_path, int header_fd,
                        const struct secret *volume_key, bool read_only, struct error *err)
{
    auto_luks struct crypt_device *cd = NULL;
    int rc = load_header(&cd, header_path(header_fd).text, device_path);

    if (rc == 0)
        rc = crypt_activate_by_volume_key(
            cd, name, (const char *)volume_key->bytes, volume_key->len,
            CRYPT_ACTIVATE_PRIVATE | (read_only ? CRYPT_ACTIVATE_READONLY : 0));
    return rc >= 0 || call_failed(rc, "open", device_path, err);
}
