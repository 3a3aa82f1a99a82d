/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "base/reader.h"
#include "migrate/old_header.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define METADATA_BYTES 16384u
#define JSON_OFFSET    4096u
#define JSON_BYTES     12288u
#define AREA_OFFSET    32768u
#define DATA_OFFSET    (16u << 20)
#define DISK_BYTES     (64u << 20)
#define UUID           "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
#define SALT           "nr7EiQ1+/nsjSZ2WA82xOYLkBln4FJlacjiXQSlTs9w="

/* As Constellation makes it, over libcryptsetup 2.6.1. */
static const char constellation[] =
    "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":96,"
    "\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},"
    "\"area\":{\"type\":\"raw\",\"offset\":\"32768\",\"size\":\"385024\","
    "\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"
    "\"kdf\":{\"type\":\"argon2id\",\"time\":4,\"memory\":65536,\"cpus\":4,"
    "\"salt\":\"" SALT "\"}}},"
    "\"tokens\":{},\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\","
    "\"size\":\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\","
    "\"sector_size\":4096,\"integrity\":{\"type\":\"hmac(sha256)\","
    "\"journal_encryption\":\"none\",\"journal_integrity\":\"none\"}}},"
    "\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\"],\"segments\":[\"0\"],"
    "\"hash\":\"sha256\",\"iterations\":187245,\"salt\":\"" SALT "\",\"digest\":\"" SALT "\"}},"
    "\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"16744448\"}}";

/* As cryptsetup luksFormat makes it without options. */
static const char plain[] =
    "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":64,"
    "\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},"
    "\"area\":{\"type\":\"raw\",\"offset\":\"32768\",\"size\":\"258048\","
    "\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"
    "\"kdf\":{\"type\":\"argon2id\",\"time\":6,\"memory\":1048576,\"cpus\":4,"
    "\"salt\":\"" SALT "\"}}},"
    "\"tokens\":{},\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\","
    "\"size\":\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\","
    "\"sector_size\":512}},"
    "\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[\"0\"],\"segments\":[\"0\"],"
    "\"hash\":\"sha256\",\"iterations\":150000,\"salt\":\"" SALT "\",\"digest\":\"" SALT "\"}},"
    "\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"16744448\"}}";

/* The text with its first "from" replaced by "to". */
static const char *with(const char *text, const char *from, const char *to)
{
    static char out[JSON_BYTES];
    const char *at = strstr(text, from);

    assert_non_null(at);
    (void)snprintf(out, sizeof(out), "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void fill(uint8_t *bytes, uint8_t value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = value;
}

static void set_checksum(uint8_t *area)
{
    struct error err = ERROR_INIT;

    bytes_wipe(area + 448, 64);
    assert_ok(sha256(area, METADATA_BYTES, area + 448, &err));
}

/* A disk with this JSON, and noise in its keyslot. The second copy of the header says something
 * else: nobody may look at it. */
static int disk_with(const char *json)
{
    static const uint8_t start[] = {
        'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0
    };
    static uint8_t area[METADATA_BYTES];
    struct error err = ERROR_INIT;
    int fd = memfd_create("disk", MFD_CLOEXEC);

    bytes_wipe(area, sizeof(area));
    memcpy(area, start, sizeof(start));
    area[23] = 3; /* its sequence number */
    memcpy(area + 24, "a label", sizeof("a label"));
    memcpy(area + 72, "sha256", sizeof("sha256"));
    memcpy(area + 168, UUID, sizeof(UUID));
    (void)snprintf((char *)area + JSON_OFFSET, JSON_BYTES, "%s", json);
    set_checksum(area);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    assert_ok(fd_pwrite_all(fd, area, sizeof(area), 0, &err));
    area[0] = 'S';
    area[23] = 9;
    assert_ok(fd_pwrite_all(fd, area, sizeof(area), METADATA_BYTES, &err));
    fill(area, 0x77, sizeof(area));
    assert_ok(fd_pwrite_all(fd, area, sizeof(area), AREA_OFFSET, &err));
    return fd;
}

static void poke(int fd, off_t offset, const void *bytes, size_t len, bool fix_checksum)
{
    static uint8_t area[METADATA_BYTES];
    struct error err = ERROR_INIT;

    assert_ok(fd_pwrite_all(fd, bytes, len, offset, &err));
    if (!fix_checksum)
        return;
    assert_ok(fd_pread_all(fd, area, sizeof(area), 0, &err));
    set_checksum(area);
    assert_ok(fd_pwrite_all(fd, area, sizeof(area), 0, &err));
}

static void check_refused(int disk_fd, const char *word)
{
    struct error err = ERROR_INIT;
    auto_old_header struct old_header header = OLD_HEADER_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, old_header_copy(disk_fd, DISK_BYTES, &header, &err));
    assert_contains(err.text, word);
    assert_int_equal(header.fd, -1);
}

static void json_is_refused(const char *json, const char *word)
{
    auto_close int disk = disk_with(json);

    check_refused(disk, word);
}

static void constellations_header_is_accepted(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int disk = disk_with(constellation);
    auto_old_header struct old_header header = OLD_HEADER_INIT;

    assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    assert_string_equal(header.uuid, UUID);
    assert_int_equal(header.offset, DATA_OFFSET);
    assert_int_equal(header.size, 0);
    assert_int_equal(header.sector_bytes, 4096);
    assert_true(header.has_integrity);
}

static void cryptsetups_header_is_accepted(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int disk = disk_with(plain);
    auto_old_header struct old_header header = OLD_HEADER_INIT;

    assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    assert_int_equal(header.sector_bytes, 512);
    assert_false(header.has_integrity);
}

static void other_good_forms_are_accepted(void **state UNUSED)
{
    static const char pbkdf2[] = "\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"sha512\","
                                 "\"iterations\":5000000,\"salt\":\"" SALT "\"}";
    static const char argon2[] = "\"kdf\":{\"type\":\"argon2id\",\"time\":6,\"memory\":1048576,"
                                 "\"cpus\":4,\"salt\":\"" SALT "\"}";
    const char *const changes[][2] = {
        { argon2, pbkdf2 },
        { "\"size\":\"dynamic\"", "\"size\":\"1048576\"" },
        { "\"key_size\":64,\"af\"", "\"priority\":2,\"key_size\":64,\"af\"" },
        { "\"config\":{", "\"config\":{\"flags\":[\"allow-discards\"]," },
        { "\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[]}," },
        { "\"tokens\":{}", "\"tokens\":{\"0\":{\"type\":\"constellation-state-disk\","
                           "\"keyslots\":[],\"diskIsInitialized\":true}}" },
    };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        auto_close int disk = disk_with(with(plain, changes[i][0], changes[i][1]));
        auto_old_header struct old_header header = OLD_HEADER_INIT;

        assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    }
}

/* libcryptsetup does not try a keyslot of priority 0. */
static void priorities_are_not_in_the_copy(void **state UNUSED)
{
    static uint8_t metadata[METADATA_BYTES];
    struct error err = ERROR_INIT;
    auto_close int disk =
        disk_with(with(plain, "\"key_size\":64,\"af\"", "\"priority\":0,\"key_size\":64,\"af\""));
    auto_old_header struct old_header header = OLD_HEADER_INIT;

    assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    assert_ok(fd_pread_all(header.fd, metadata, sizeof(metadata), 0, &err));
    assert_non_null(strstr((char *)metadata + JSON_OFFSET, "keyslots"));
    assert_null(strstr((char *)metadata + JSON_OFFSET, "priority"));
}

/* Only what was checked is in the copy, twice; the label, the tokens and the flags are not. */
static void copy_has_only_what_was_checked(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    const char *json = with(plain, "\"tokens\":{}",
                            "\"tokens\":{\"5\":{\"type\":\"evil\","
                            "\"keyslots\":[]}}");
    auto_close int disk = disk_with(json);
    auto_old_header struct old_header header = OLD_HEADER_INIT;
    static uint8_t first[METADATA_BYTES], second[METADATA_BYTES];
    uint8_t slot[16];

    assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    assert_ok(fd_pread_all(header.fd, first, sizeof(first), 0, &err));
    assert_ok(fd_pread_all(header.fd, second, sizeof(second), METADATA_BYTES, &err));
    assert_ok(fd_pread_all(header.fd, slot, sizeof(slot), AREA_OFFSET, &err));
    assert_memory_equal(first + JSON_OFFSET, second + JSON_OFFSET, JSON_BYTES);
    assert_null(strstr((char *)first + JSON_OFFSET, "evil"));
    assert_true(bytes_are_zero(first + 24, 48));
    assert_memory_equal(second, "SKUL\xba\xbe", 6);
    assert_int_equal(big_endian(second + 16, 8), 3);
    assert_int_equal(big_endian(second + 256, 8), METADATA_BYTES);
    assert_int_equal(slot[0], 0x77);
}

static void disk_that_changes_afterwards_changes_nothing(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int disk = disk_with(constellation);
    auto_old_header struct old_header header = OLD_HEADER_INIT;
    static uint8_t before[METADATA_BYTES], after[METADATA_BYTES];

    assert_ok(old_header_copy(disk, DISK_BYTES, &header, &err));
    assert_ok(fd_pread_all(header.fd, before, sizeof(before), 0, &err));
    poke(disk, 0, "another header", 14, false);
    assert_ok(fd_pread_all(header.fd, after, sizeof(after), 0, &err));
    assert_memory_equal(before, after, sizeof(before));
    assert_int_equal(pwrite(header.fd, "x", 1, 0), -1); /* nobody repairs it either */
    assert_int_equal(errno, EPERM);
}

static void hostile_keyslots_are_refused(void **state UNUSED)
{
    json_is_refused(with(plain, "\"encryption\":\"aes-xts-plain64\",\"key_size\"",
                         "\"encryption\":\"cipher_null-ecb\",\"key_size\""),
                    "a keyslot is encrypted with cipher_null-ecb");
    json_is_refused(with(plain, "\"encryption\":\"aes-xts-plain64\",\"key_size\"",
                         "\"encryption\":\"\\u001b[2J\",\"key_size\""),
                    "encrypted with something else");
    json_is_refused(with(plain, "\"memory\":1048576", "\"memory\":4194305"), "too much memory");
    json_is_refused(with(plain, "\"memory\":1048576", "\"memory\":-1"), "too much memory");
    json_is_refused(with(plain, "\"time\":6", "\"time\":257"), "too much memory or time");
    json_is_refused(with(plain, "\"time\":6", "\"time\":0"), "too much memory or time");
    json_is_refused(with(plain, "\"cpus\":4", "\"cpus\":5"), "too much memory or time");
    json_is_refused(with(plain, "\"cpus\":4", "\"cpus\":\"4\""), "expected members");
    json_is_refused(with(plain, "argon2id", "scrypt"), "unknown key derivation");
    json_is_refused(with(plain, "\"stripes\":4000", "\"stripes\":1"), "unknown kind");
    json_is_refused(with(plain, "\"offset\":\"32768\"", "\"offset\":\"28672\""), "outside");
    json_is_refused(with(plain, "\"offset\":\"32768\"", "\"offset\":\"16777216\""), "outside");
    json_is_refused(with(plain, "\"offset\":\"32768\"", "\"offset\":\"32769\""), "outside");
    json_is_refused(with(plain, "\"offset\":\"32768\"", "\"offset\":\"-4096\""), "outside");
    json_is_refused(with(plain, "\"size\":\"258048\"", "\"size\":\"18446744073709551615\""),
                    "outside");
    json_is_refused(with(plain, "\"size\":\"258048\"", "\"size\":\"4096\""), "outside");
    json_is_refused(with(plain, "{\"type\":\"luks2\",", "{\"type\":\"luks2\",\"more\":1,"),
                    "expected members");
    json_is_refused(with(plain, "\"key_size\":64,\"af\"", "\"key_size\":16,\"af\""),
                    "unknown size");
}

static void hostile_segments_are_refused(void **state UNUSED)
{
    static const char cipher[] = "\"encryption\":\"aes-xts-plain64\",\"sector_size\"";

    json_is_refused(with(plain, cipher, "\"encryption\":\"cipher_null-ecb\",\"sector_size\""),
                    "encrypted with cipher_null-ecb");
    json_is_refused(with(plain, cipher, "\"encryption\":\"capi:xts(aes)-plain64\",\"sector_size\""),
                    "only aes-xts-plain64");
    json_is_refused(with(plain, "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\""), "unknown kind");
    json_is_refused(with(plain, "\"sector_size\":512", "\"sector_size\":8192"), "unknown kind");
    json_is_refused(with(plain, "\"offset\":\"16777216\"", "\"offset\":\"0\""), "offset");
    json_is_refused(with(plain, "\"offset\":\"16777216\"", "\"offset\":\"67108864\""), "offset");
    json_is_refused(with(plain, "\"size\":\"dynamic\"", "\"size\":\"0\""), "impossible size");
    json_is_refused(with(plain, "\"size\":\"dynamic\"", "\"size\":\"67108864\""), "too short");
    json_is_refused(with(plain, "\"sector_size\":512", "\"sector_size\":512,\"flags\":[\"x\"]"),
                    "expected members");
    json_is_refused(with(plain, "\"segments\":{\"0\"", "\"segments\":{\"1\":{},\"0\""),
                    "exactly one segment");
    json_is_refused(with(plain, "\"segments\":{\"0\"", "\"segments\":{\"1\""),
                    "exactly one segment");
    json_is_refused(with(constellation, "hmac(sha256)", "poly1305"), "only hmac(sha256)");
    json_is_refused(
        with(constellation, "\"journal_integrity\":\"none\"", "\"journal_integrity\":\"crc32\""),
        "unknown parameters");
    json_is_refused(with(constellation, "\"key_size\":96", "\"key_size\":63"), "unknown size");
}

static void other_hostile_parts_are_refused(void **state UNUSED)
{
    json_is_refused(with(plain, "\"config\":{",
                         "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt\"]},"),
                    "reencryption");
    json_is_refused(with(plain, "\"config\":{", "\"config\":{\"requirements\":{\"x\":1,\"y\":2},"),
                    "reencryption");
    json_is_refused(
        with(plain, "\"keyslots_size\":\"16744448\"", "\"keyslots_size\":\"999999488\""),
        "impossible sizes");
    json_is_refused(with(plain, "\"json_size\":\"12288\"", "\"json_size\":\"4096\""),
                    "impossible sizes");
    json_is_refused(with(plain, "\"iterations\":150000", "\"iterations\":0"), "digest");
    json_is_refused(with(plain, "\"digests\":{\"0\"", "\"digests\":{\"1\":{},\"0\""), "digest");
    json_is_refused(with(plain, "\"segments\":[\"0\"]", "\"segments\":[\"0\",\"1\"]"), "digest");
    json_is_refused(with(plain, "\"tokens\":{}", "\"tokens\":{},\"tokens\":{}"), "not JSON");
    json_is_refused(with(plain, "\"tokens\":{},", ""), "expected members");
    json_is_refused("{}", "expected members");
    json_is_refused("[1,2]", "expected members");
    json_is_refused("", "not JSON");
}

static void hostile_binary_header_is_refused(void **state UNUSED)
{
    static const struct {
        off_t offset;
        const char *bytes;
        size_t len;
        bool fix_checksum;
        const char *word;
    } cases[] = {
        { 0, "XUKS", 4, true, "does not begin with a LUKS header" },
        { 6, "\0\1", 2, true, "LUKS1" },
        { 8, "\0\0\0\0\0\0\0\0", 8, true, "impossible size" },
        { 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, true, "impossible size" },
        { 8, "\0\0\0\0\0\0\x60\0", 8, true, "impossible size" },
        { 256, "\0\0\0\0\0\0\x40\0", 8, true, "impossible size" },
        { 72, "crc32\0", 6, true, "damaged" },
        { 168, "../", 3, true, "no UUID" },
        { 5000, "x", 1, false, "damaged" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_close int disk = disk_with(plain);

        poke(disk, cases[i].offset, cases[i].bytes, cases[i].len, cases[i].fix_checksum);
        check_refused(disk, cases[i].word);
    }
}

static void short_disk_is_refused(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_close int disk = disk_with(plain);
    struct old_header header = OLD_HEADER_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, old_header_copy(disk, 4096, &header, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, old_header_copy(disk, DATA_OFFSET, &header, &err));
}

/* --- dm-integrity --- */

static const struct old_header with_integrity = {
    .fd = -1, .offset = DATA_OFFSET, .sector_bytes = 4096, .has_integrity = true
};
/* As kernel 6.1 wrote it for 283 MiB: version 5, 32-byte tags, 16 journal sections, fixed padding. */
static void make_superblock(uint8_t out[static OLD_SUPERBLOCK_BYTES])
{
    static const uint8_t start[] = { 'i', 'n', 't',  'e', 'g', 'r', 't', 0, 5, 15, 32, 0, 16, 0, 0,
                                     0,   0,   0x80, 0,   0,   0,   0,   0, 0, 8,  0,  0, 0,  3 };

    bytes_wipe(out, OLD_SUPERBLOCK_BYTES);
    memcpy(out, start, sizeof(start));
}

static void superblock_of_cryptsetup_is_accepted(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    uint8_t superblock[OLD_SUPERBLOCK_BYTES];
    struct old_integrity found;

    make_superblock(superblock);
    assert_ok(old_integrity_check(superblock, &with_integrity, DISK_BYTES, &found, &err));
    assert_int_equal(found.data_bytes, 0x8000u * 512);
    assert_int_equal(found.journal_bytes, 16 * 264 * 512); /* as crypt/integrity.c has it */
}

static void hostile_superblock_is_refused(void **state UNUSED)
{
    static const struct {
        size_t offset;
        uint8_t value;
    } changes[] = {
        { 0, 'x' }, { 8, 0 },     { 8, 7 },  { 9, 32 }, { 10, 16 },   { 11, 1 },
        { 12, 0 },  { 14, 0xff }, { 16, 1 }, { 17, 0 }, { 23, 0x80 }, { 24, 9 },
        { 24, 10 }, { 24, 12 },   { 25, 1 }, { 28, 0 }, { 28, 77 },
    };
    struct error err = ERROR_INIT;
    uint8_t superblock[OLD_SUPERBLOCK_BYTES];
    struct old_integrity found;

    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        make_superblock(superblock);
        superblock[changes[i].offset] = changes[i].value;
        assert_refused(ERROR_FAILED_PRECONDITION,
                       old_integrity_check(superblock, &with_integrity, DISK_BYTES, &found, &err));
    }
}

/* The kernel would take about as much memory as the journal has. */
static void huge_journal_is_refused(void **state UNUSED)
{
    const uint64_t segment = 1ull << 40;
    struct error err = ERROR_INIT;
    uint8_t superblock[OLD_SUPERBLOCK_BYTES];
    struct old_integrity found;

    make_superblock(superblock);
    superblock[13] = 7; /* 1808 sections: 233 MiB */
    assert_ok(old_integrity_check(superblock, &with_integrity, segment, &found, &err));
    superblock[13] = 8; /* 2064 sections: 266 MiB */
    assert_refused(ERROR_FAILED_PRECONDITION,
                   old_integrity_check(superblock, &with_integrity, segment, &found, &err));
    assert_contains(err.text, "larger than 256 MiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constellations_header_is_accepted),
        cmocka_unit_test(cryptsetups_header_is_accepted),
        cmocka_unit_test(other_good_forms_are_accepted),
        cmocka_unit_test(priorities_are_not_in_the_copy),
        cmocka_unit_test(copy_has_only_what_was_checked),
        cmocka_unit_test(disk_that_changes_afterwards_changes_nothing),
        cmocka_unit_test(hostile_keyslots_are_refused),
        cmocka_unit_test(hostile_segments_are_refused),
        cmocka_unit_test(other_hostile_parts_are_refused),
        cmocka_unit_test(hostile_binary_header_is_refused),
        cmocka_unit_test(short_disk_is_refused),
        cmocka_unit_test(superblock_of_cryptsetup_is_accepted),
        cmocka_unit_test(hostile_superblock_is_refused),
        cmocka_unit_test(huge_journal_is_refused),
    };

    return RUN_TESTS(tests);
}
