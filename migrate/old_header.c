/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/old_header.h"

#include "base/digest.h"
#include "base/file.h"
#include "base/option.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "record/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* LUKS2 on-disk format: a binary header of 4 KiB and JSON, both twice; then the keyslots area. */
#define BINARY_BYTES       4096u
#define METADATA_MIN       (16u * 1024)
#define METADATA_MAX       (4u * 1024 * 1024)
#define KEYSLOTS_MAX_BYTES (128u * 1024 * 1024)
#define KEYSLOTS_MAX       32u
#define MAGIC_LEN          6u
#define LABEL_OFFSET       24u
#define ALGORITHM_OFFSET   72u
#define UUID_OFFSET        168u
#define SUBSYSTEM_OFFSET   208u
#define LABEL_BYTES        48u
#define POSITION_OFFSET    256u /* of this metadata area on the device */
#define CHECKSUM_OFFSET    448u
#define CHECKSUM_BYTES     64u /* SHA-256 takes the first 32 */

#define CIPHER     "aes-xts-plain64"
#define INTEGRITY  "hmac(sha256)"
#define TAG_BYTES  32u
#define AF_STRIPES 4000
#define AREA_MAX   (1u << 20)

/* A hostile header could ask for all memory, or for years. cryptsetup itself uses at most 4 GiB and 4
 * threads. */
#define ARGON2_MEMORY_MAX_KIB (4u << 20)
#define ARGON2_WORK_MAX_KIB   (UINT64_C(1) << 28) /* passes times memory: some minutes */
#define ARGON2_THREADS_MAX    4
#define PBKDF2_MAX            (UINT64_C(1) << 28)

/* What the JSON of one header says. */
struct parsing {
    json_t *root;
    uint64_t metadata_bytes, keyslots_bytes, device_bytes;
    uint64_t key_bytes; /* of the segment: each keyslot must hold as many */
    struct old_header *out;
};

/* Fails; the first of the further arguments is a string literal. */
#define FOREIGN(err, ...) \
    error_set((err), ERROR_FAILED_PRECONDITION, "this volume cannot be copied: " __VA_ARGS__)

static void json_release(json_t **json)
{
    json_decref(*json);
    *json = NULL;
}
#define auto_json CLEANUP(json_release)

void old_header_drop(struct old_header *header)
{
    close_at(&header->fd);
}

/* Strict: a member that fmt does not name is refused. */
#define UNPACK(json, what, err, ...)                                \
    (json_unpack_ex((json), NULL, JSON_STRICT, __VA_ARGS__) == 0 || \
     FOREIGN((err), "%s of the header has not the expected members", (what)))

/* Numbers of 64 bits are text in LUKS2. */
static bool is_number(const char *text, uint64_t *out)
{
    return strlen(text) <= 20 && parse_u64(text, out);
}

static bool is_word(const char *text, const char *const *allowed)
{
    for (; *allowed; allowed++)
        if (strcmp(text, *allowed) == 0)
            return true;
    return false;
}

/* What is not expected is shown only when it can do no harm on a terminal. */
static const char *shown(const char *text)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "-_():.,";

    return strlen(text) <= 64 && strspn(text, safe) == strlen(text) ? text : "something else";
}

static bool is_hash(const char *text)
{
    static const char *const hashes[] = { "sha1", "sha256", "sha512", NULL };

    return is_word(text, hashes);
}

/* --- keyslots --- */

static bool check_argon2(json_t *kdf, struct error *err)
{
    const char *type = NULL, *salt = NULL;
    json_int_t time = 0, memory = 0, cpus = 0;

    if (!UNPACK(kdf, "a keyslot", err, "{s:s, s:s, s:I, s:I, s:I}", "type", &type, "salt", &salt,
                "time", &time, "memory", &memory, "cpus", &cpus))
        return false;
    return (time > 0 && memory > 0 && cpus > 0 && cpus <= ARGON2_THREADS_MAX &&
            memory <= ARGON2_MEMORY_MAX_KIB &&
            (uint64_t)time <= ARGON2_WORK_MAX_KIB / (uint64_t)memory) ||
           FOREIGN(err, "a keyslot needs too much memory or time");
}

static bool check_pbkdf2(json_t *kdf, struct error *err)
{
    const char *type = NULL, *salt = NULL, *hash = NULL;
    json_int_t iterations = 0;

    if (!UNPACK(kdf, "a keyslot", err, "{s:s, s:s, s:s, s:I}", "type", &type, "salt", &salt, "hash",
                &hash, "iterations", &iterations))
        return false;
    return (is_hash(hash) && iterations > 0 && (uint64_t)iterations <= PBKDF2_MAX) ||
           FOREIGN(err, "a keyslot needs too much time, or an unknown hash");
}

static bool check_kdf(json_t *kdf, struct error *err)
{
    static const char *const argon2[] = { "argon2id", "argon2i", NULL };
    const char *type = json_string_value(json_object_get(kdf, "type"));

    if (type && is_word(type, argon2))
        return check_argon2(kdf, err);
    return type && strcmp(type, "pbkdf2") == 0
               ? check_pbkdf2(kdf, err)
               : FOREIGN(err, "a keyslot has an unknown key derivation");
}

struct area {
    uint64_t offset, size;
};

static bool check_area(const struct parsing *p, const char *offset, const char *size,
                       struct area *out, struct error *err)
{
    uint64_t begin = 2 * p->metadata_bytes, end = begin + p->keyslots_bytes;

    return (is_number(offset, &out->offset) && is_number(size, &out->size) &&
            out->offset % BINARY_BYTES == 0 && out->offset >= begin && out->offset <= end &&
            out->size >= p->key_bytes * AF_STRIPES && out->size <= AREA_MAX &&
            out->size <= end - out->offset) ||
           FOREIGN(err, "a keyslot lies outside of its area");
}

static bool check_keyslot(const struct parsing *p, json_t *keyslot, struct area *out,
                          struct error *err)
{
    const char *type = NULL, *af = NULL, *af_hash = NULL, *raw = NULL, *offset = NULL, *size = NULL,
               *cipher = NULL;
    json_int_t key_bytes = 0, priority = 1, stripes = 0, area_key_bytes = 0;
    json_t *kdf = NULL;

    if (!UNPACK(keyslot, "a keyslot", err,
                "{s:s, s:I, s?I, s:{s:s, s:I, s:s}, s:{s:s, s:s, s:s, s:s, s:I}, s:o}", "type",
                &type, "key_size", &key_bytes, "priority", &priority, "af", "type", &af, "stripes",
                &stripes, "hash", &af_hash, "area", "type", &raw, "offset", &offset, "size", &size,
                "encryption", &cipher, "key_size", &area_key_bytes, "kdf", &kdf))
        return false;
    if (strcmp(type, "luks2") != 0 || strcmp(af, "luks1") != 0 || stripes != AF_STRIPES ||
        strcmp(raw, "raw") != 0 || !is_hash(af_hash) || priority < 0 || priority > 2 ||
        key_bytes != (json_int_t)p->key_bytes)
        return FOREIGN(err, "a keyslot is of an unknown kind");
    /* CVE-2025-58356: with a null cipher any key fits, and the volume key is the disk's choice. */
    if (strcmp(cipher, CIPHER) != 0 || (area_key_bytes != 32 && area_key_bytes != 64))
        return FOREIGN(err, "a keyslot is encrypted with %s, only " CIPHER " is accepted",
                       shown(cipher));
    return check_kdf(kdf, err) && check_area(p, offset, size, out, err);
}

static bool copy_area(int device_fd, int header_fd, const struct area *area, struct error *err)
{
    size_t len = (size_t)round_up_u64(area->size, DEVICE_BLOCK_BYTES);
    auto_free uint8_t *bytes = NULL;

    return device_buffer(len, &bytes, err) &&
           fd_pread_all(device_fd, bytes, len, (off_t)area->offset, err) &&
           fd_pwrite_all(header_fd, bytes, (size_t)area->size, (off_t)area->offset, err);
}

static bool take_keyslots(const struct parsing *p, int device_fd, int header_fd, struct error *err)
{
    json_t *keyslots = json_object_get(p->root, "keyslots"), *keyslot = NULL;
    const char *name = NULL;

    if (json_object_size(keyslots) == 0 || json_object_size(keyslots) > KEYSLOTS_MAX)
        return FOREIGN(err, "its header has no keyslot, or too many");
    json_object_foreach(keyslots, name, keyslot)
    {
        struct area area;

        if (!check_keyslot(p, keyslot, &area, err) || !copy_area(device_fd, header_fd, &area, err))
            return false;
        /* Priority 0 would keep libcryptsetup from trying the keyslot. */
        (void)json_object_del(keyslot, "priority");
    }
    return true;
}

/* --- segment and the rest --- */

static bool check_integrity(struct parsing *p, json_t *integrity, struct error *err)
{
    const char *type = NULL, *journal = NULL, *journal_mac = NULL;
    json_int_t key_bytes = TAG_BYTES;

    if (!UNPACK(integrity, "the integrity", err, "{s:s, s:s, s:s, s?I}", "type", &type,
                "journal_encryption", &journal, "journal_integrity", &journal_mac, "key_size",
                &key_bytes))
        return false;
    if (strcmp(type, INTEGRITY) != 0)
        return FOREIGN(err, "its integrity is %s, only " INTEGRITY " or none is accepted",
                       shown(type));
    p->out->has_integrity = true;
    return (strcmp(journal, "none") == 0 && strcmp(journal_mac, "none") == 0 &&
            key_bytes == TAG_BYTES) ||
           FOREIGN(err, "its integrity has unknown parameters");
}

static bool check_segment(struct parsing *p, json_t *segment, struct error *err)
{
    static const int sectors[] = { 512, 1024, 2048, 4096 };
    const char *type = NULL, *offset = NULL, *size = NULL, *tweak = NULL, *cipher = NULL;
    struct old_header *out = p->out;
    json_int_t sector_bytes = 0;
    json_t *integrity = NULL;
    bool is_known = false;

    if (!UNPACK(segment, "the segment", err, "{s:s, s:s, s:s, s:s, s:s, s:I, s?o}", "type", &type,
                "offset", &offset, "size", &size, "iv_tweak", &tweak, "encryption", &cipher,
                "sector_size", &sector_bytes, "integrity", &integrity))
        return false;
    if (strcmp(cipher, CIPHER) != 0)
        return FOREIGN(err, "it is encrypted with %s, only " CIPHER " is accepted", shown(cipher));
    for (size_t i = 0; i < ARRAY_LEN(sectors); i++)
        is_known = is_known || sector_bytes == sectors[i];
    if (strcmp(type, "crypt") != 0 || strcmp(tweak, "0") != 0 || !is_known)
        return FOREIGN(err, "its segment is of an unknown kind");
    out->sector_bytes = (uint32_t)sector_bytes;
    out->size = 0;
    if (!is_number(offset, &out->offset) || out->offset % DEVICE_BLOCK_BYTES != 0 ||
        out->offset < 2 * p->metadata_bytes + p->keyslots_bytes || out->offset >= p->device_bytes)
        return FOREIGN(err, "its data begins at an impossible offset");
    if (strcmp(size, "dynamic") != 0 &&
        (!is_number(size, &out->size) || out->size == 0 || out->size % out->sector_bytes != 0 ||
         out->size > p->device_bytes - out->offset))
        return FOREIGN(err, "its data has an impossible size, or the disk is too short");
    return !integrity || check_integrity(p, integrity, err);
}

static bool check_segments(struct parsing *p, struct error *err)
{
    json_t *segments = json_object_get(p->root, "segments");
    json_t *segment = json_object_get(segments, "0");

    if (!segment || json_object_size(segments) != 1)
        return FOREIGN(err, "it does not have exactly one segment, as while it is reencrypted");
    return check_segment(p, segment, err);
}

static bool check_digest(json_t *root, struct error *err)
{
    json_t *digests = json_object_get(root, "digests"), *keyslots = NULL;
    const char *type = NULL, *segment = NULL, *hash = NULL, *salt = NULL, *digest = NULL;
    json_int_t iterations = 0;

    if (json_object_size(digests) != 1)
        return FOREIGN(err, "its header does not have exactly one digest");
    if (!UNPACK(json_object_iter_value(json_object_iter(digests)), "the digest", err,
                "{s:s, s:o, s:[s], s:s, s:I, s:s, s:s}", "type", &type, "keyslots", &keyslots,
                "segments", &segment, "hash", &hash, "iterations", &iterations, "salt", &salt,
                "digest", &digest))
        return false;
    return (strcmp(type, "pbkdf2") == 0 && json_is_array(keyslots) && strcmp(segment, "0") == 0 &&
            is_hash(hash) && iterations > 0 && (uint64_t)iterations <= PBKDF2_MAX) ||
           FOREIGN(err, "its digest is of an unknown kind");
}

static bool check_config(struct parsing *p, struct error *err)
{
    const char *json_size = NULL, *keyslots_size = NULL;
    json_t *flags = NULL, *requirements = NULL, *mandatory = NULL;
    uint64_t json_bytes = 0;

    if (!UNPACK(json_object_get(p->root, "config"), "the configuration", err,
                "{s:s, s:s, s?o, s?o}", "json_size", &json_size, "keyslots_size", &keyslots_size,
                "flags", &flags, "requirements", &requirements))
        return false;
    mandatory = json_object_get(requirements, "mandatory");
    if (requirements && (json_object_size(requirements) > 1 || json_array_size(mandatory) > 0))
        return FOREIGN(err, "it has a requirement, such as an unfinished reencryption");
    return (is_number(json_size, &json_bytes) && is_number(keyslots_size, &p->keyslots_bytes) &&
            json_bytes == p->metadata_bytes - BINARY_BYTES &&
            p->keyslots_bytes % BINARY_BYTES == 0 && p->keyslots_bytes <= KEYSLOTS_MAX_BYTES) ||
           FOREIGN(err, "its header has impossible sizes");
}

/* The size of the volume key. A keyslot is checked against it, so it is taken from the first. */
static bool find_key_bytes(struct parsing *p, struct error *err)
{
    json_t *keyslots = json_object_get(p->root, "keyslots");
    json_t *first = json_object_iter_value(json_object_iter(keyslots));
    json_int_t bytes = json_integer_value(json_object_get(first, "key_size"));
    json_int_t mac = p->out->has_integrity ? TAG_BYTES : 0;

    p->key_bytes = (uint64_t)bytes;
    return bytes == 32 + mac || bytes == 64 + mac ||
           FOREIGN(err, "its header has no keyslot, or one with a key of an unknown size");
}

static bool check_json(struct parsing *p, struct error *err)
{
    json_t *part = NULL;

    return UNPACK(p->root, "the JSON", err, "{s:o, s:o, s:o, s:o, s:o}", "keyslots", &part,
                  "tokens", &part, "segments", &part, "digests", &part, "config", &part) &&
           check_config(p, err) && check_segments(p, err) && check_digest(p->root, err) &&
           find_key_bytes(p, err);
}

/* --- the metadata areas --- */

static bool checksum_of(uint8_t *area, size_t len, uint8_t out[static SHA256_LEN],
                        struct error *err)
{
    uint8_t kept[CHECKSUM_BYTES];

    memcpy(kept, area + CHECKSUM_OFFSET, sizeof(kept));
    bytes_wipe(area + CHECKSUM_OFFSET, sizeof(kept));
    bool ok = sha256(area, len, out, err);
    memcpy(area + CHECKSUM_OFFSET, kept, sizeof(kept));
    return ok;
}

static bool find_size(const uint8_t *binary, uint64_t *out, struct error *err)
{
    uint64_t bytes = big_endian(binary + 8, 8);

    if (memcmp(binary, "LUKS\xba\xbe", MAGIC_LEN) != 0)
        return FOREIGN(err, "the disk does not begin with a LUKS header");
    if (big_endian(binary + MAGIC_LEN, 2) != 2)
        return FOREIGN(err,
                       "its header is LUKS1: convert it first (cryptsetup convert --type luks2)");
    if (bytes < METADATA_MIN || bytes > METADATA_MAX || (bytes & (bytes - 1)) != 0 ||
        big_endian(binary + POSITION_OFFSET, 8) != 0)
        return FOREIGN(err, "its header has an impossible size");
    *out = bytes;
    return true;
}

/* The header's first copy: cryptsetup writes it first, so it is never the older one. */
static bool read_metadata(int device_fd, uint64_t device_bytes, uint8_t **out, uint64_t *out_bytes,
                          struct error *err)
{
    auto_free uint8_t *binary = NULL;
    auto_free uint8_t *area = NULL;
    uint8_t checksum[SHA256_LEN];
    uint64_t bytes = 0;

    if (device_bytes < 2 * METADATA_MIN)
        return FOREIGN(err, "the disk is too short");
    if (!device_buffer(BINARY_BYTES, &binary, err) ||
        !fd_pread_all(device_fd, binary, BINARY_BYTES, 0, err) || !find_size(binary, &bytes, err))
        return false;
    if (device_bytes < 2 * bytes)
        return FOREIGN(err, "the disk is too short");
    if (!device_buffer((size_t)bytes, &area, err) ||
        !fd_pread_all(device_fd, area, (size_t)bytes, 0, err))
        return false;
    /* The checksum is no protection; it tells damage from attack. */
    if (memcmp(area, binary, BINARY_BYTES) != 0 ||
        !checksum_of(area, (size_t)bytes, checksum, err) ||
        memcmp(area + ALGORITHM_OFFSET, "sha256", sizeof("sha256")) != 0 ||
        memcmp(checksum, area + CHECKSUM_OFFSET, SHA256_LEN) != 0)
        return FOREIGN(err, "the first copy of its header is damaged (cryptsetup repair mends it "
                            "from the second one)");
    *out = TAKE_PTR(area);
    *out_bytes = bytes;
    return true;
}

static bool take_uuid(const uint8_t *area, char out[static 37], struct error *err)
{
    const char *uuid = (const char *)area + UUID_OFFSET;

    if (strnlen(uuid, 40) != 36 || strspn(uuid, "0123456789abcdefABCDEF-") != 36)
        return FOREIGN(err, "its header has no UUID");
    memcpy(out, uuid, 37);
    return true;
}

static bool write_area(int header_fd, uint8_t *area, uint64_t len, uint64_t position,
                       struct error *err)
{
    static const char *const magics[] = { "LUKS\xba\xbe", "SKUL\xba\xbe" };

    memcpy(area, magics[position > 0], MAGIC_LEN);
    for (size_t i = 0; i < 8; i++)
        area[POSITION_OFFSET + i] = (uint8_t)(position >> (56 - 8 * i));
    bytes_wipe(area + LABEL_OFFSET, LABEL_BYTES);
    bytes_wipe(area + SUBSYSTEM_OFFSET, LABEL_BYTES);
    bytes_wipe(area + CHECKSUM_OFFSET, CHECKSUM_BYTES);
    return sha256(area, (size_t)len, area + CHECKSUM_OFFSET, err) &&
           fd_pwrite_all(header_fd, area, (size_t)len, (off_t)position, err);
}

/* Both areas, from what was checked. */
static bool write_metadata(const struct parsing *p, int header_fd, uint8_t *area, struct error *err)
{
    json_t *config = json_object_get(p->root, "config");

    (void)json_object_del(config, "flags");
    (void)json_object_del(config, "requirements");
    if (json_object_set_new(p->root, "tokens", json_object()) != 0)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the header");
    auto_free char *json = json_dumps(p->root, JSON_COMPACT);
    size_t space = (size_t)p->metadata_bytes - BINARY_BYTES;
    if (!json || strlen(json) >= space)
        return error_set(err, ERROR_INTERNAL, "the header does not fit into its own size");
    bytes_wipe(area + BINARY_BYTES, space);
    (void)snprintf((char *)area + BINARY_BYTES, space, "%s", json);
    return write_area(header_fd, area, p->metadata_bytes, 0, err) &&
           write_area(header_fd, area, p->metadata_bytes, p->metadata_bytes, err);
}

static bool make_header(const struct parsing *p, int device_fd, uint8_t *area, struct error *err)
{
    off_t bytes = (off_t)(2 * p->metadata_bytes + p->keyslots_bytes);
    auto_close int fd = memfd_create("old-header", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, bytes) < 0)
        return error_set_errno(err, errno, "memory for the header");
    if (!take_keyslots(p, device_fd, fd, err) || !write_metadata(p, fd, area, err))
        return false;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) != 0)
        return error_set_errno(err, errno, "seal the header in memory");
    p->out->fd = TAKE_FD(fd);
    return true;
}

bool old_header_copy(int device_fd, uint64_t device_bytes, struct old_header *out,
                     struct error *err)
{
    struct old_header found = OLD_HEADER_INIT;
    struct parsing p = { .device_bytes = device_bytes, .out = &found };
    auto_free uint8_t *area = NULL;

    if (!read_metadata(device_fd, device_bytes, &area, &p.metadata_bytes, err))
        return false;
    const char *text = (const char *)area + BINARY_BYTES;
    auto_json json_t *root = json_loadb(
        text, strnlen(text, (size_t)p.metadata_bytes - BINARY_BYTES), JSON_REJECT_DUPLICATES, NULL);
    if (!root)
        return FOREIGN(err, "its header is not JSON");
    p.root = root;
    if (!take_uuid(area, found.uuid, err) || !check_json(&p, err) ||
        !make_header(&p, device_fd, area, err))
        return false;
    *out = found;
    return true;
}

/* --- dm-integrity --- */

/* As the kernel lays out its journal: sections of eight sectors with entries, and one block of data for
 * each entry. An entry has the place, the last eight bytes of each sector, and the tag. */
static uint64_t section_bytes(uint32_t sectors_per_block)
{
    uint64_t entry = round_up_u64(8 + 8 * (uint64_t)sectors_per_block + TAG_BYTES, 8);
    uint64_t entries = 8 * ((SECTOR_BYTES - 8) / entry);

    return (8 + entries * sectors_per_block) * SECTOR_BYTES;
}

/* The kernel keeps the journal's tags and sections in its own memory. Its default is at most 64 MiB. */
#define JOURNAL_MAX (256ull << 20)

bool old_integrity_check(const uint8_t superblock[static OLD_SUPERBLOCK_BYTES],
                         const struct old_header *header, uint64_t segment_bytes,
                         struct old_integrity *out, struct error *err)
{
    enum { FIXED_PADDING = 8, VERSION_MAX = 6, INTERLEAVE_MAX = 31 };
    const uint64_t version = superblock[8], flags = u32le(superblock + 24);
    const uint32_t sectors_per_block = header->sector_bytes / SECTOR_BYTES;
    const uint64_t sectors = u64le(superblock + 16), sections = u32le(superblock + 12);
    const uint64_t journal_bytes = sections * section_bytes(sectors_per_block);

    if (memcmp(superblock, "integrt", 8) != 0)
        return FOREIGN(err, "dm-integrity's superblock is missing");
    /* Other flags: an unfinished recalculation, a bitmap, a journal with a MAC. None is cryptsetup's
     * for LUKS2, and some make the kernel accept whatever is on the disk. */
    if (version == 0 || version > VERSION_MAX || superblock[9] > INTERLEAVE_MAX ||
        u16le(superblock + 10) != TAG_BYTES || (flags & ~(uint64_t)FIXED_PADDING) != 0 ||
        superblock[28] > 3 || 1u << superblock[28] != sectors_per_block)
        return FOREIGN(err, "dm-integrity's superblock has unknown parameters");
    if (sectors == 0 || sectors % sectors_per_block != 0 ||
        sectors > segment_bytes / SECTOR_BYTES || sections == 0 || journal_bytes > segment_bytes)
        return FOREIGN(err, "dm-integrity's superblock has impossible sizes");
    if (journal_bytes > JOURNAL_MAX)
        return FOREIGN(err, "dm-integrity's journal is larger than 256 MiB");
    *out = (struct old_integrity){ .data_bytes = sectors * SECTOR_BYTES,
                                   .journal_bytes = journal_bytes };
    return true;
}
