/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/header.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "crypt/luks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* LUKS2 on-disk format: a binary header of 4 KiB and JSON, both twice; then the keyslots area. */
#define METADATA_BYTES  16384u
#define BINARY_BYTES    4096u
#define JSON_BYTES      (METADATA_BYTES - BINARY_BYTES)
#define KEYSLOTS_BYTES  (LAYOUT_HEADER_BYTES - 2 * METADATA_BYTES)
#define KEYSLOT_STRIPES 4000
#define BASE64_TEXT_MAX 128
#define MAGIC_LEN       6
#define STEP_BYTES      262144u
#define CHECKSUM_OFFSET 448u
#define CHECKSUM_BYTES  64u /* SHA-256 takes the first 32 */

static bool header_changed(struct error *err, const char *what)
{
    return error_set_reason(err, ERROR_DATA_LOSS, "HeaderChanged",
                            "the header on the disk was changed: %s", what);
}

static void json_release(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}
#define auto_json CLEANUP(json_release)

/* Returns a salt or digest: the only parts that differ between volumes. Returns "" when the text
 * does not look like one; the comparison then fails. */
static const char *base64_at(json_t *root, const char *part, const char *name)
{
    json_t *holder = json_object_get(json_object_get(root, part), "0");

    if (strcmp(part, "keyslots") == 0)
        holder = json_object_get(holder, "kdf");
    const char *text = json_string_value(json_object_get(holder, name));
    if (!text || strlen(text) > BASE64_TEXT_MAX)
        return "";
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    return strspn(text, digits) == strlen(text) ? text : "";
}

static json_t *expected_segment(const struct volume_spec *spec, const struct luks_mode *mode)
{
    char offset[16], iv_offset[24];

    (void)snprintf(offset, sizeof(offset), "%" PRIu32, layout_data_offset(spec));
    (void)snprintf(iv_offset, sizeof(iv_offset), "%" PRIu64, layout_iv_offset(spec));
    auto_json json_t *segment =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "type", "crypt", "offset", offset, "size",
                  "dynamic", "iv_tweak", iv_offset, "encryption", mode->encryption, "sector_size",
                  (json_int_t)spec->sector_bytes);
    if (mode->integrity &&
        json_object_set_new(segment, "integrity",
                            json_pack("{s:s, s:s, s:s}", "type", mode->integrity,
                                      "journal_encryption", "none", "journal_integrity", "none")))
        return NULL;
    return TAKE_PTR(segment);
}

static json_t *expected_keyslot(json_t *found, const struct luks_mode *mode)
{
    char offset[16], size[16];
    uint64_t area_bytes = round_up_u64((uint64_t)mode->key_bytes * KEYSLOT_STRIPES, BINARY_BYTES);

    (void)snprintf(offset, sizeof(offset), "%u", 2 * METADATA_BYTES);
    (void)snprintf(size, sizeof(size), "%" PRIu64, area_bytes);
    return json_pack("{s:s, s:I, s:{s:s, s:I, s:s}, s:{s:s, s:s, s:s, s:s, s:I},"
                     " s:{s:s, s:s, s:I, s:s}}",
                     "type", "luks2", "key_size", (json_int_t)mode->key_bytes, "af", "type",
                     "luks1", "stripes", (json_int_t)KEYSLOT_STRIPES, "hash", LUKS_KDF_HASH, "area",
                     "type", "raw", "offset", offset, "size", size, "encryption", LUKS_AREA_CIPHER,
                     "key_size", (json_int_t)LUKS_AREA_KEY_BYTES, "kdf", "type", "pbkdf2", "hash",
                     LUKS_KDF_HASH, "iterations", (json_int_t)LUKS_KDF_ITERATIONS, "salt",
                     base64_at(found, "keyslots", "salt"));
}

/* The tokens that were found, if they are none or one of ours as recovery_sha256 wants it. Otherwise an
 * empty object; the comparison then fails, because one is wanted or others are there. No token is for a
 * certificate of zeros. */
static json_t *expected_tokens(json_t *found, const uint8_t *recovery_sha256)
{
    json_t *tokens = json_object_get(found, "tokens");
    struct recovery_token token;

    if (json_object_size(tokens) != 1 ||
        !recovery_token_parse(json_object_get(tokens, "0"), &token))
        return json_object();
    bool is_wanted =
        !recovery_sha256 || bytes_are_equal(token.certificate_sha256, recovery_sha256, SHA256_LEN);
    return is_wanted ? json_pack("{s:o}", "0", recovery_token_json(&token)) : json_object();
}

/* All the JSON that we write, with the salts, the digest and the token of the header that was found. */
static json_t *expected_json(json_t *found, const struct volume_spec *spec,
                             const uint8_t *recovery_sha256)
{
    const struct luks_mode *mode = luks_mode_of(spec->integrity);
    char json_size[16], keyslots_size[16];

    (void)snprintf(json_size, sizeof(json_size), "%u", JSON_BYTES);
    (void)snprintf(keyslots_size, sizeof(keyslots_size), "%u", KEYSLOTS_BYTES);
    return json_pack("{s:{s:o}, s:o, s:{s:o}, s:{s:{s:s, s:[s], s:[s], s:s, s:I, s:s, s:s}},"
                     " s:{s:s, s:s}}",
                     "keyslots", "0", expected_keyslot(found, mode), "tokens",
                     expected_tokens(found, recovery_sha256), "segments", "0",
                     expected_segment(spec, mode), "digests", "0", "type", "pbkdf2", "keyslots",
                     "0", "segments", "0", "hash", LUKS_KDF_HASH, "iterations",
                     (json_int_t)LUKS_KDF_ITERATIONS, "salt", base64_at(found, "digests", "salt"),
                     "digest", base64_at(found, "digests", "digest"), "config", "json_size",
                     json_size, "keyslots_size", keyslots_size);
}

static bool check_json(json_t *found, const struct volume_spec *spec,
                       const uint8_t *recovery_sha256, struct error *err)
{
    auto_json json_t *expected = expected_json(found, spec, recovery_sha256);
    bool is_wanted = recovery_sha256 && !bytes_are_zero(recovery_sha256, SHA256_LEN);

    if (!expected)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to check the header");
    if (is_wanted && json_object_size(json_object_get(expected, "tokens")) == 0)
        return header_changed(err, "it has not the recovery token that the record demands");
    return json_equal(found, expected) ||
           header_changed(err, "its parameters are not those that the record demands");
}

static bool is_binary_header(const uint8_t *metadata, const char *magic, uint64_t offset)
{
    return strncmp((const char *)metadata, magic, MAGIC_LEN) == 0 &&
           big_endian(metadata + 6, 2) == 2 && big_endian(metadata + 8, 8) == METADATA_BYTES &&
           big_endian(metadata + 256, 8) == offset;
}

const char *header_parse(const uint8_t metadata[static HEADER_PARSED_BYTES], json_t **out)
{
    const uint8_t *second = metadata + METADATA_BYTES;
    const char *text = (const char *)metadata + BINARY_BYTES;

    if (!is_binary_header(metadata, "LUKS\xba\xbe", 0) ||
        !is_binary_header(second, "SKUL\xba\xbe", METADATA_BYTES))
        return "it is not a LUKS2 header of the expected size";
    /* libcryptsetup may use either area, so both must say the same. */
    if (!bytes_are_equal(text, second + BINARY_BYTES, JSON_BYTES))
        return "its two metadata areas differ";
    size_t len = strnlen(text, JSON_BYTES);
    if (!bytes_are_zero(metadata + BINARY_BYTES + len, JSON_BYTES - len))
        return "there are bytes after its JSON";
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    return *out ? NULL : "it is not JSON";
}

bool header_check_metadata(const uint8_t metadata[static HEADER_PARSED_BYTES],
                           const struct volume_spec *spec, const uint8_t *recovery_sha256,
                           struct error *err)
{
    auto_json json_t *found = NULL;

    if (!luks_mode_of(spec->integrity))
        return error_set(err, ERROR_INTERNAL, "unknown integrity mode");
    const char *fault = header_parse(metadata, &found);
    return fault ? header_changed(err, fault) : check_json(found, spec, recovery_sha256, err);
}

bool header_new(int *out_fd, struct error *err)
{
    auto_close int fd = memfd_create("tdvol-header", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, LAYOUT_HEADER_BYTES) < 0)
        return error_set_errno(err, errno, "memory for the header");
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool read_metadata(int header_fd, uint8_t **out, struct error *err)
{
    auto_free uint8_t *metadata = NULL;

    if (!device_buffer(HEADER_PARSED_BYTES, &metadata, err) ||
        !fd_pread_all(header_fd, metadata, HEADER_PARSED_BYTES, 0, err))
        return false;
    *out = TAKE_PTR(metadata);
    return true;
}

/* What was checked is what is used: libcryptsetup, which gets a path, cannot repair it behind us. */
bool header_seal(int header_fd, struct error *err)
{
    return fcntl(header_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0 ||
           error_set_errno(err, errno, "seal the header in memory");
}

bool header_check(int header_fd, const struct volume_spec *spec, const uint8_t *recovery_sha256,
                  struct error *err)
{
    auto_free uint8_t *metadata = NULL;

    return header_seal(header_fd, err) && read_metadata(header_fd, &metadata, err) &&
           header_check_metadata(metadata, spec, recovery_sha256, err);
}

bool header_find_token(int header_fd, bool *found, struct recovery_token *out, struct error *err)
{
    auto_free uint8_t *metadata = NULL;
    auto_json json_t *root = NULL;

    if (!read_metadata(header_fd, &metadata, err))
        return false;
    const char *fault = header_parse(metadata, &root);
    if (fault)
        return header_changed(err, fault);
    json_t *token = json_object_get(json_object_get(root, "tokens"), "0");
    *found = token != NULL;
    return !token || recovery_token_parse(token, out) ||
           header_changed(err, "its recovery token has another form");
}

/* The checksum covers the metadata area, with zeros in its own place. */
static bool set_checksum(uint8_t *metadata, struct error *err)
{
    uint8_t *checksum = metadata + CHECKSUM_OFFSET;

    bytes_wipe(checksum, CHECKSUM_BYTES);
    return sha256(metadata, METADATA_BYTES, checksum, err);
}

/* Sets the one segment, and the one token if there is any. */
static bool set_parts(json_t *root, const struct volume_spec *spec,
                      const struct recovery_token *token)
{
    json_t *segment = expected_segment(spec, luks_mode_of(spec->integrity));

    (void)json_object_clear(json_object_get(root, "tokens"));
    return json_object_set_new(json_object_get(root, "segments"), "0", segment) == 0 &&
           (!token || json_object_set_new(json_object_get(root, "tokens"), "0",
                                          recovery_token_json(token)) == 0);
}

static bool finish(uint8_t *metadata, const struct volume_spec *spec,
                   const struct recovery_token *token, struct error *err)
{
    static const uint8_t none[SHA256_LEN];
    const char *text = (const char *)metadata + BINARY_BYTES;
    auto_json json_t *root =
        json_loadb(text, strnlen(text, JSON_BYTES), JSON_REJECT_DUPLICATES, NULL);
    auto_free char *json = set_parts(root, spec, token) ? json_dumps(root, JSON_COMPACT) : NULL;

    if (!json || strlen(json) >= JSON_BYTES)
        return error_set(err, ERROR_INTERNAL, "the header that was made has no JSON as expected");
    for (size_t i = 0; i < 2; i++) {
        uint8_t *area = metadata + i * METADATA_BYTES;

        bytes_wipe(area + BINARY_BYTES, JSON_BYTES);
        (void)snprintf((char *)area + BINARY_BYTES, JSON_BYTES, "%s", json);
        if (!set_checksum(area, err))
            return false;
    }
    struct error why = ERROR_INIT;
    return header_check_metadata(metadata, spec, token ? token->certificate_sha256 : none, &why) ||
           error_set(err, ERROR_INTERNAL, "the header that was made is not as expected: %s",
                     why.text);
}

bool header_finish(int header_fd, const struct volume_spec *spec,
                   const struct recovery_token *token, struct error *err)
{
    auto_free uint8_t *metadata = NULL;

    return read_metadata(header_fd, &metadata, err) && finish(metadata, spec, token, err) &&
           fd_pwrite_all(header_fd, metadata, HEADER_PARSED_BYTES, 0, err);
}

/* A header in memory, or one of its copies on the device. */
struct place {
    int fd;
    off_t offset;
};

/* Copies a header step by step, and makes the digest of what was copied. to may be NULL. There is no
 * buffer for all of it, because touching so much memory takes longer than reading the disk. */
static bool copy_header(struct place from, const struct place *to,
                        uint8_t digest[static SHA256_LEN], struct error *err)
{
    auto_free uint8_t *step = NULL;
    auto_sha256 struct sha256_stream sha256 = { .context = NULL };

    if (!device_buffer(STEP_BYTES, &step, err) || !sha256_start(&sha256, err))
        return false;
    for (off_t at = 0; at < LAYOUT_HEADER_BYTES; at += STEP_BYTES) {
        if (!fd_pread_all(from.fd, step, STEP_BYTES, from.offset + at, err) ||
            !sha256_add(&sha256, step, STEP_BYTES, err) ||
            (to && !fd_pwrite_all(to->fd, step, STEP_BYTES, to->offset + at, err)))
            return false;
    }
    return sha256_finish(&sha256, digest, err);
}

bool header_digest(int header_fd, uint8_t out[static SHA256_LEN], struct error *err)
{
    return copy_header((struct place){ header_fd, 0 }, NULL, out, err);
}

static bool write_copy(struct place copy, int header_fd, struct error *err)
{
    uint8_t written[SHA256_LEN], found[SHA256_LEN];

    if (!copy_header((struct place){ header_fd, 0 }, &copy, written, err) ||
        !device_flush(copy.fd, err) || !copy_header(copy, NULL, found, err))
        return error_wrap(err, "write a header");
    return bytes_are_equal(found, written, SHA256_LEN) ||
           error_set(err, ERROR_DATA_LOSS, "the device returns other bytes than were written");
}

bool header_write_b(int device_fd, int header_fd, struct error *err)
{
    FAULT_POINT("worker.format.header-b");
    return write_copy((struct place){ device_fd, LAYOUT_HEADER_B_OFFSET }, header_fd, err);
}

bool header_write(int device_fd, int header_fd, struct error *err)
{
    if (!header_write_b(device_fd, header_fd, err))
        return false;
    FAULT_POINT("worker.format.header-a");
    return write_copy((struct place){ device_fd, LAYOUT_HEADER_A_OFFSET }, header_fd, err);
}

bool header_copy(int from_fd, int to_fd, struct error *err)
{
    const struct place to = { to_fd, 0 };
    uint8_t unused[SHA256_LEN];

    return copy_header((struct place){ from_fd, 0 }, &to, unused, err);
}

static bool is_next(const uint8_t digest[static SHA256_LEN], const struct record *record)
{
    const struct record_rotation *rotation = &record->rotation;

    return rotation->key.generation != 0 && rotation->has_header &&
           bytes_are_equal(digest, rotation->header_digest, SHA256_LEN);
}

static bool is_known(const uint8_t digest[static SHA256_LEN], const struct record *record)
{
    if (is_next(digest, record))
        return true;
    for (uint32_t i = 0; i < record->n_header_digests && i < RECORD_DIGESTS_MAX; i++) {
        if (bytes_are_equal(digest, record->header_digests[i], SHA256_LEN))
            return true;
    }
    return false;
}

/* B is read once more, because A has taken its place in memory. */
static bool read_next_b(struct place b, const struct place *memory, const struct record *record,
                        struct error *err)
{
    uint8_t digest[SHA256_LEN];

    return copy_header(b, memory, digest, err) &&
           (is_next(digest, record) ||
            header_changed(err, "copy B changed while it was being read"));
}

bool header_read(int device_fd, const struct record *record, int header_fd,
                 struct header_found *found, struct error *err)
{
    const struct place a = { device_fd, LAYOUT_HEADER_A_OFFSET },
                       b = { device_fd, LAYOUT_HEADER_B_OFFSET }, memory = { header_fd, 0 };
    uint8_t digest_a[SHA256_LEN], digest_b[SHA256_LEN];
    /* A failed read is no error yet: the other copy may be readable. */
    struct error why_a = ERROR_INIT, why_b = ERROR_INIT;
    bool has_a = copy_header(a, &memory, digest_a, &why_a);
    bool known_a = has_a && is_known(digest_a, record);
    bool has_b = copy_header(b, known_a ? NULL : &memory, digest_b, &why_b);

    if (!has_a && !has_b) {
        *err = why_a;
        return error_wrap(err, "read the header");
    }
    if (!known_a && !(has_b && is_known(digest_b, record)))
        return header_changed(err, "the key broker's record knows neither copy");
    bool next_a = known_a && is_next(digest_a, record);
    bool next_b = has_b && is_next(digest_b, record);
    if (known_a && !next_a && next_b && !read_next_b(b, &memory, record, err))
        return false;
    found->needs_repair = !has_a || !has_b || !bytes_are_equal(digest_a, digest_b, SHA256_LEN);
    found->is_next = next_a || next_b;
    return header_check(header_fd, &record->spec,
                        found->is_next ? record->rotation.recovery_sha256 : record->recovery.sha256,
                        err);
}

bool header_read_copy(int device_fd, off_t offset, const struct volume_spec *spec, int header_fd,
                      struct error *err)
{
    const struct place memory = { header_fd, 0 };
    uint8_t unused[SHA256_LEN];

    return copy_header((struct place){ device_fd, offset }, &memory, unused, err) &&
           header_check(header_fd, spec, NULL, err);
}

bool header_repair(int device_fd, int header_fd, struct error *err)
{
    static const off_t offsets[] = { LAYOUT_HEADER_B_OFFSET, LAYOUT_HEADER_A_OFFSET };
    uint8_t wanted[SHA256_LEN], found[SHA256_LEN];

    if (!header_digest(header_fd, wanted, err))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        const struct place copy = { device_fd, offsets[i] };
        struct error unreadable = ERROR_INIT;

        if (copy_header(copy, NULL, found, &unreadable) &&
            bytes_are_equal(found, wanted, SHA256_LEN))
            continue;
        FAULT_POINT("worker.open.repair");
        if (!write_copy(copy, header_fd, err))
            return error_wrap(err, "repair a header copy");
    }
    return true;
}
