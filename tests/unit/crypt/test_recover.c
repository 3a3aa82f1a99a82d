/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/header.h"
#include "crypt/recover.h"
#include "record/check.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is read from a disk without a record. That such a volume opens is shown in tests/vm/test_recover.c. */

#define MIB  (1024ull * 1024)
#define SALT "nr7EiQ1+/nsjSZ2WA82xOYLkBln4FJlacjiXQSlTs9w="
#define UUID "01234567-89ab-cdef-0123-456789abcdef"

/* The forms of headers, as libcryptsetup 2.6.1 writes them. */
static const struct form {
    enum integrity integrity;
    bool taken_over;
    const char *key_size, *area_size, *offset, *iv, *encryption, *sector, *type;
} forms[] = {
    { INTEGRITY_AEGIS128, false, "16", "65536", "4194304", "0", "aegis128-random", "4096", "aead" },
    { INTEGRITY_HMAC_SHA256, false, "96", "385024", "4194304", "0", "aes-xts-plain64", "4096",
      "hmac(sha256)" },
    { INTEGRITY_NONE, false, "64", "258048", "4194304", "0", "aes-xts-plain64", "4096", NULL },
    { INTEGRITY_NONE, true, "64", "258048", "14680064", "18446744073709547520", "aes-xts-plain64",
      "4096", NULL },
    { INTEGRITY_NONE, true, "64", "258048", "14680064", "18446744073709547520", "aes-xts-plain64",
      "512", NULL },
};

/* As kernel 6.1 wrote it for a volume of 64 MiB. */
static const uint8_t superblock[] = {
    'i', 'n', 't',  'e', 'g', 'r', 't', 0, 4, 15, 32, 0, 31, 0, 0,
    0,   0,   0x90, 2,   0,   0,   0,   0, 0, 8,  0,  0, 0,  3,
};

static int disk = -1;

static void put(const void *bytes, size_t len, off_t offset)
{
    struct error err = ERROR_INIT;

    assert_ok(fd_pwrite_all(disk, bytes, len, offset, &err));
}

static void put_header(off_t at, const struct form *f)
{
    static const uint8_t version_and_size[] = { 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0 };
    char json[4096] = "", integrity[160] = "";

    if (f->type)
        (void)snprintf(integrity, sizeof(integrity),
                       ",\"integrity\":{\"type\":\"%s\",\"journal_encryption\":\"none\","
                       "\"journal_integrity\":\"none\"}",
                       f->type);
    (void)snprintf(
        json, sizeof(json),
        "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":%s,\"af\":{\"type\":\"luks1\","
        "\"stripes\":4000,\"hash\":\"sha256\"},\"area\":{\"type\":\"raw\",\"offset\":\"32768\","
        "\"size\":\"%s\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},\"kdf\":{\"type\":"
        "\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000,\"salt\":\"" SALT "\"}}},\"tokens\":{},"
        "\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"%s\",\"size\":\"dynamic\","
        "\"iv_tweak\":\"%s\",\"encryption\":\"%s\",\"sector_size\":%s%s}},\"digests\":{\"0\":{"
        "\"type\":\"pbkdf2\",\"keyslots\":[\"0\"],\"segments\":[\"0\"],\"hash\":\"sha256\","
        "\"iterations\":1000,\"salt\":\"" SALT "\",\"digest\":\"" SALT "\"}},\"config\":{"
        "\"json_size\":\"12288\",\"keyslots_size\":\"2064384\"}}",
        f->key_size, f->area_size, f->offset, f->iv, f->encryption, f->sector, integrity);

    for (off_t area = 0; area < 2; area++) {
        const off_t start = at + area * 16384;

        put(area ? "SKUL\xba\xbe" : "LUKS\xba\xbe", 6, start);
        put(version_and_size, sizeof(version_and_size), start + 6);
        put(UUID, sizeof(UUID), start + 168);
        put(area ? "\x40" : "\0", 1, start + 256 + 6);
        put(json, sizeof(json), start + 4096); /* with zeros behind it */
    }
}

static int setup(void **state)
{
    (void)state;
    disk = memfd_create("disk", MFD_CLOEXEC);
    return disk >= 0 && ftruncate(disk, (off_t)(160 * MIB)) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    close_at(&disk);
    return 0;
}

static void each_form_of_header_is_known_by_itself(void **state)
{
    static struct recover_header header;
    static struct record record;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const struct form *f = &forms[i];

        put_header(LAYOUT_HEADER_B_OFFSET, f);
        put(superblock, sizeof(superblock), LAYOUT_DATA_OFFSET);
        assert_ok(recover_read_header(disk, LAYOUT_HEADER_B_OFFSET, &header, &err));
        assert_int_equal(header.spec.integrity, f->integrity);
        assert_int_equal(header.spec.taken_over, f->taken_over);
        assert_int_equal(header.spec.sector_bytes, f->sector[0] == '5' ? 512 : 4096);
        assert_string_equal(header.record_id, UUID);
        assert_false(header.has_token);
        assert_ok(recover_make_record(disk, 160 * MIB, &header, &record, &err));
        assert_ok(record_check(&record, &err));
        assert_int_equal(record.phase, RECORD_READY);
        assert_memory_equal(record.header_digests[0], header.digest, SHA256_LEN);
        assert_int_equal(record.spec.size_bytes, f->type         ? 64 * MIB
                                                 : f->taken_over ? 144 * MIB
                                                                 : 154 * MIB);
    }
    assert_refused(ERROR_DATA_LOSS,
                   recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &header, &err));
    assert_string_equal(err.reason, "HeaderChanged");
}

static void the_digest_is_that_of_the_whole_copy(void **state)
{
    static struct recover_header header, other;
    static uint8_t copy[LAYOUT_HEADER_BYTES];
    uint8_t digest[SHA256_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    put_header(LAYOUT_HEADER_A_OFFSET, &forms[0]);
    assert_ok(recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &header, &err));
    assert_ok(fd_pread_all(disk, copy, sizeof(copy), LAYOUT_HEADER_A_OFFSET, &err));
    assert_ok(sha256(copy, sizeof(copy), digest, &err));
    assert_memory_equal(header.digest, digest, SHA256_LEN);
    put("x", 1, LAYOUT_HEADER_BYTES - 1);
    assert_ok(recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &other, &err));
    assert_true(!bytes_are_equal(header.digest, other.digest, SHA256_LEN));
}

static void a_name_that_is_none_is_not_shown(void **state)
{
    static struct recover_header header;
    struct error err = ERROR_INIT;

    (void)state;
    put_header(LAYOUT_HEADER_A_OFFSET, &forms[0]);
    put("\033[2J", 4, 170); /* it would go to a terminal */
    assert_ok(recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &header, &err));
    assert_string_equal(header.record_id, "");
}

static void devices_that_hold_no_volume_are_refused(void **state)
{
    static const uint64_t sizes[] = { 0, LAYOUT_DATA_OFFSET, LAYOUT_DATA_OFFSET + 2 * MIB,
                                      LAYOUT_DATA_OFFSET + 3 * MIB - 1 };
    static struct recover_header header;
    static struct record record;
    struct error err = ERROR_INIT;

    (void)state;
    put_header(LAYOUT_HEADER_A_OFFSET, &forms[2]);
    assert_ok(recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &header, &err));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        assert_refused(ERROR_FAILED_PRECONDITION,
                       recover_make_record(disk, sizes[i], &header, &record, &err));
    put_header(LAYOUT_HEADER_A_OFFSET, &forms[1]); /* and no superblock */
    assert_ok(recover_read_header(disk, LAYOUT_HEADER_A_OFFSET, &header, &err));
    assert_refused(ERROR_DATA_LOSS, recover_make_record(disk, 160 * MIB, &header, &record, &err));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(each_form_of_header_is_known_by_itself),
        CASE(the_digest_is_that_of_the_whole_copy),
        CASE(a_name_that_is_none_is_not_shown),
        CASE(devices_that_hold_no_volume_are_refused),
    };

    return RUN_TESTS(tests);
}
