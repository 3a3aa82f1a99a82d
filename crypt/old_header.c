/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/old_header.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/option.h"
#include "crypt/device.h"
#include "crypt/luks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STEP_BYTES 262144u

/* What "cryptsetup luksFormat" writes. */
#define JSON_SIZE      "12288"
#define KEYSLOTS_SIZE  "16744448"
#define DATA_OFFSET    "16777216"
#define AREA_SIZE      "258048"
#define AREA_BYTES     258048u
#define AREAS_OFFSET   HEADER_PARSED_BYTES
#define STRIPES        4000
#define KEYSLOTS_MAX   32
#define PRIORITY_MAX   2
#define TEXT_MAX       256 /* of a salt or digest in base64 */
#define WORD_BYTES     32
#define DECIMAL_DIGITS "0123456789"

/*
 * The most that a key derivation may cost. cryptsetup aims at 2 seconds, and takes at most 1 GiB and
 * 4 threads unless it is told otherwise. libcryptsetup itself believes any number in a header.
 */
#define MEMORY_KIB_MAX        (1024 * 1024)
#define THREADS_MAX           4
#define PASSES_KIB_MAX        (64ll * MEMORY_KIB_MAX) /* passes times memory */
#define ITERATIONS_MAX        100000000
#define DIGEST_ITERATIONS_MAX 100000000

__attribute__((format(printf, 2, 3))) static bool refused(struct error *err, const char *format,
                                                          ...)
{
    char what[128];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, "OldHeader",
                            "the header on the disk cannot be taken over: %s; nothing was changed. "
                            "Copy the volume instead, see Migration in docs/upstreams.md",
                            what);
}

static void json_release(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}
#define auto_json CLEANUP(json_release)

/* Where two objects differ, as a word for a message; NULL: nowhere. Consumes expected, whose members all
 * have names that are short and ours. The word is in out. */
static const char *find_difference(const json_t *found, json_t *expected_new,
                                   char out[static WORD_BYTES])
{
    auto_json json_t *expected = expected_new;

    if (!expected)
        return "(no memory to check it)";
    for (void *at = json_object_iter(expected); at; at = json_object_iter_next(expected, at)) {
        const char *key = json_object_iter_key(at);

        if (!json_equal(json_object_get(found, key), json_object_iter_value(at))) {
            (void)snprintf(out, WORD_BYTES, "%s", key);
            return out;
        }
    }
    return json_object_size(found) == json_object_size(expected) ? NULL : "number of members";
}

static bool is_between(const json_t *number, json_int_t low, json_int_t high)
{
    return json_is_integer(number) && json_integer_value(number) >= low &&
           json_integer_value(number) <= high;
}

static bool is_hash(const json_t *name)
{
    const char *text = json_string_value(name);

    return text && (strcmp(text, "sha256") == 0 || strcmp(text, "sha512") == 0);
}

static bool is_base64(const json_t *value)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" DECIMAL_DIGITS "+/=";
    const char *text = json_string_value(value);
    size_t len = text ? strlen(text) : 0;

    return len > 0 && len <= TEXT_MAX && strspn(text, digits) == len;
}

static bool check_segments(const json_t *segments, const struct volume_spec *spec,
                           struct error *err)
{
    const json_t *segment = json_object_get(segments, "0");

    if (json_object_size(segments) != 1 || !segment)
        return refused(err, "it has not exactly one segment");
    if (json_object_get(segment, "integrity"))
        return refused(err, "the volume has integrity tags");
    char word[WORD_BYTES];
    const char *what =
        find_difference(segment,
                        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "type", "crypt", "offset",
                                  DATA_OFFSET, "size", "dynamic", "iv_tweak", "0", "encryption",
                                  LUKS_AREA_CIPHER, "sector_size", (json_int_t)spec->sector_bytes),
                        word);
    if (what && strcmp(what, "sector_size") == 0 &&
        is_between(json_object_get(segment, what), SECTOR_BYTES, VOLUME_SECTOR_BYTES))
        return refused(err,
                       "its sectors have %" JSON_INTEGER_FORMAT
                       " bytes, and the volume was adopted with --sector-size %" PRIu32,
                       json_integer_value(json_object_get(segment, what)), spec->sector_bytes);
    return !what || refused(err, "segment 0: %s", what);
}

/* The area of a keyslot must not reach into our copy B, nor into the reserved part. */
static bool is_apart(uint64_t offset)
{
    const uint64_t end = offset + AREA_BYTES;
    const uint64_t free_from = LAYOUT_HEADER_B_OFFSET + LAYOUT_HEADER_BYTES,
                   free_to = LAYOUT_OLD_DATA_OFFSET - LAYOUT_RESERVED_BYTES;

    return (offset >= AREAS_OFFSET && end <= LAYOUT_HEADER_B_OFFSET) ||
           (offset >= free_from && end <= free_to);
}

static bool parse_offset(const json_t *value, uint64_t *out)
{
    const char *text = json_string_value(value);
    size_t len = text ? strlen(text) : 0;

    if (len == 0 || len > strlen(DATA_OFFSET) || !parse_u64(text, out))
        return false;
    return *out % DEVICE_BLOCK_BYTES == 0;
}

static bool check_area(const char *slot, const json_t *area, struct error *err)
{
    json_t *at = json_object_get(area, "offset");
    uint64_t offset = 0;
    char word[WORD_BYTES];

    if (!parse_offset(at, &offset))
        return refused(err, "keyslot %s: area offset", slot);
    const char *what = find_difference(
        area,
        json_pack("{s:s, s:O, s:s, s:s, s:I}", "type", "raw", "offset", at, "size", AREA_SIZE,
                  "encryption", LUKS_AREA_CIPHER, "key_size", (json_int_t)LUKS_AREA_KEY_BYTES),
        word);
    if (what)
        return refused(err, "keyslot %s: area %s", slot, what);
    return is_apart(offset) ||
           refused(err, "keyslot %s lies where the new header goes (cryptsetup luksKillSlot)",
                   slot);
}

static bool check_anti_forensic(const char *slot, const json_t *af, struct error *err)
{
    json_t *hash = json_object_get(af, "hash");
    char word[WORD_BYTES];

    if (!is_hash(hash))
        return refused(err, "keyslot %s: af hash", slot);
    const char *what = find_difference(
        af,
        json_pack("{s:s, s:I, s:O}", "type", "luks1", "stripes", (json_int_t)STRIPES, "hash", hash),
        word);
    return !what || refused(err, "keyslot %s: af %s", slot, what);
}

static bool is_argon2(const json_t *kdf)
{
    const json_t *time = json_object_get(kdf, "time"), *memory = json_object_get(kdf, "memory");

    return json_object_size(kdf) == 5 && is_between(time, 1, PASSES_KIB_MAX) &&
           is_between(memory, 8, MEMORY_KIB_MAX) &&
           json_integer_value(time) <= PASSES_KIB_MAX / json_integer_value(memory) &&
           is_between(json_object_get(kdf, "cpus"), 1, THREADS_MAX);
}

static bool is_pbkdf2(const json_t *kdf)
{
    return json_object_size(kdf) == 4 && is_hash(json_object_get(kdf, "hash")) &&
           is_between(json_object_get(kdf, "iterations"), 1, ITERATIONS_MAX);
}

static bool check_kdf(const char *slot, const json_t *kdf, struct error *err)
{
    const char *type = json_string_value(json_object_get(kdf, "type"));
    bool is_known = false;

    if (type && (strcmp(type, "argon2id") == 0 || strcmp(type, "argon2i") == 0))
        is_known = is_argon2(kdf);
    else if (type && strcmp(type, "pbkdf2") == 0)
        is_known = is_pbkdf2(kdf);
    return (is_known && is_base64(json_object_get(kdf, "salt"))) ||
           refused(err, "keyslot %s: kdf, or its cost", slot);
}

static bool is_slot_name(const char *slot)
{
    size_t len = strlen(slot);

    return (len == 1 || len == 2) && strspn(slot, DECIMAL_DIGITS) == len;
}

static bool check_keyslot(const char *slot, const json_t *keyslot, const struct volume_spec *spec,
                          struct error *err)
{
    const json_t *priority = json_object_get(keyslot, "priority");
    size_t members = priority ? 6 : 5;
    const char *type = json_string_value(json_object_get(keyslot, "type"));
    json_int_t key_bytes = luks_mode_of(spec->integrity)->key_bytes;

    if (!is_slot_name(slot))
        return refused(err, "the number of a keyslot");
    if (!type || strcmp(type, "luks2") != 0)
        return refused(err, "keyslot %s: type", slot);
    if (!is_between(json_object_get(keyslot, "key_size"), key_bytes, key_bytes))
        return refused(err, "keyslot %s: key_size", slot);
    if (json_object_size(keyslot) != members ||
        (priority && !is_between(priority, 0, PRIORITY_MAX)))
        return refused(err, "keyslot %s: number of members", slot);
    return check_anti_forensic(slot, json_object_get(keyslot, "af"), err) &&
           check_area(slot, json_object_get(keyslot, "area"), err) &&
           check_kdf(slot, json_object_get(keyslot, "kdf"), err);
}

static bool check_keyslots(json_t *keyslots, const struct volume_spec *spec, struct error *err)
{
    const char *slot = NULL;
    json_t *keyslot = NULL;

    if (json_object_size(keyslots) == 0 || json_object_size(keyslots) > KEYSLOTS_MAX)
        return refused(err, "it has no keyslots, or too many");
    json_object_foreach(keyslots, slot, keyslot)
    {
        if (!check_keyslot(slot, keyslot, spec, err))
            return false;
    }
    return true;
}

/* The one digest vouches for the key in every keyslot, and for the segment. */
static bool check_digest(const json_t *digest, const json_t *keyslots, struct error *err)
{
    const char *type = json_string_value(json_object_get(digest, "type"));
    const json_t *slots = json_object_get(digest, "keyslots");
    auto_json json_t *segments = json_pack("[s]", "0");

    bool is_sound = json_object_size(digest) == 7 && type && strcmp(type, "pbkdf2") == 0 &&
                    json_array_size(slots) == json_object_size(keyslots) &&
                    json_equal(json_object_get(digest, "segments"), segments) &&
                    is_hash(json_object_get(digest, "hash")) &&
                    is_between(json_object_get(digest, "iterations"), 1, DIGEST_ITERATIONS_MAX) &&
                    is_base64(json_object_get(digest, "salt")) &&
                    is_base64(json_object_get(digest, "digest"));

    for (size_t i = 0; is_sound && i < json_array_size(slots); i++) {
        const char *slot = json_string_value(json_array_get(slots, i));

        is_sound = slot && json_object_get(keyslots, slot);
    }
    return is_sound || refused(err, "digest 0");
}

static bool check_config(const json_t *config, struct error *err)
{
    char word[WORD_BYTES];
    const char *what = find_difference(
        config, json_pack("{s:s, s:s}", "json_size", JSON_SIZE, "keyslots_size", KEYSLOTS_SIZE),
        word);

    if (json_object_get(config, "requirements"))
        return refused(err, "it has requirements, such as an unfinished re-encryption");
    return !what || refused(err, "config: %s", what);
}

static bool check_json(json_t *root, const struct volume_spec *spec, struct error *err)
{
    json_t *keyslots = NULL, *tokens = NULL, *segments = NULL, *digests = NULL, *config = NULL;

    if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:o, s:o, s:o, s:o, s:o}", "keyslots", &keyslots,
                       "tokens", &tokens, "segments", &segments, "digests", &digests, "config",
                       &config) != 0 ||
        !json_is_object(tokens))
        return refused(err, "its parts are not those of a LUKS2 header");
    if (json_object_size(digests) != 1 || !json_object_get(digests, "0"))
        return refused(err, "it has not exactly one digest");
    return check_config(config, err) && check_segments(segments, spec, err) &&
           check_keyslots(keyslots, spec, err) &&
           check_digest(json_object_get(digests, "0"), keyslots, err);
}

bool old_header_check_metadata(const uint8_t metadata[static HEADER_PARSED_BYTES],
                               const struct volume_spec *spec, struct error *err)
{
    auto_json json_t *root = NULL;
    const char *fault = header_parse(metadata, &root);

    return fault ? refused(err, "%s", fault) : check_json(root, spec, err);
}

static bool copy(int device_fd, int memory_fd, struct error *err)
{
    auto_free uint8_t *step = NULL;

    if (!device_buffer(STEP_BYTES, &step, err))
        return false;
    for (off_t at = 0; at < LAYOUT_OLD_DATA_OFFSET; at += STEP_BYTES) {
        if (!fd_pread_all(device_fd, step, STEP_BYTES, at, err) ||
            !fd_pwrite_all(memory_fd, step, STEP_BYTES, at, err))
            return error_wrap(err, "read the old header");
    }
    return true;
}

bool old_header_read(int device_fd, const struct volume_spec *spec, int *out_fd, struct error *err)
{
    auto_close int fd = memfd_create("tdvol-old-header", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    auto_free uint8_t *metadata = NULL;

    if (fd < 0)
        return error_set_errno(err, errno, "memory for the old header");
    if (!copy(device_fd, fd, err) || !header_seal(fd, err) ||
        !device_buffer(HEADER_PARSED_BYTES, &metadata, err) ||
        !fd_pread_all(fd, metadata, HEADER_PARSED_BYTES, 0, err) ||
        !old_header_check_metadata(metadata, spec, err))
        return false;
    *out_fd = TAKE_FD(fd);
    return true;
}

bool old_header_erase(int device_fd, struct error *err)
{
    const uint64_t from = LAYOUT_HEADER_B_OFFSET + LAYOUT_HEADER_BYTES,
                   to = LAYOUT_OLD_DATA_OFFSET - LAYOUT_RESERVED_BYTES;

    FAULT_POINT("worker.take-over.erase");
    return (device_write_zeros(device_fd, from, to - from, err) && device_flush(device_fd, err)) ||
           error_wrap(err, "erase the old header");
}
