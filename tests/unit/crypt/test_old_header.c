/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/old_header.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define METADATA_BYTES 16384u
#define JSON_OFFSET    4096u
#define JSON_BYTES     12288u
#define SALT           "nr7EiQ1+/nsjSZ2WA82xOYLkBln4FJlacjiXQSlTs9w="

/* As libcryptsetup writes them: the first as Constellation has it made. */
#define SLOT(offset, kdf)                                                                       \
    "{\"type\":\"luks2\",\"key_size\":64,\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":" \
    "\"sha256\"},\"area\":{\"type\":\"raw\",\"offset\":\"" offset                               \
    "\",\"size\":\"258048\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},\"kdf\":{" kdf  \
    ",\"salt\":\"" SALT "\"}}"
#define ARGON2ID "\"type\":\"argon2id\",\"time\":4,\"memory\":65536,\"cpus\":4"
#define PBKDF2   "\"type\":\"pbkdf2\",\"hash\":\"sha512\",\"iterations\":1000000"
#define JSON(slots, tokens, names)                                                            \
    "{\"keyslots\":{" slots "},\"tokens\":{" tokens                                           \
    "},\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"16777216\",\"size\":\"dynamic\"," \
    "\"iv_tweak\":\"0\",\"encryption\":\"aes-xts-plain64\",\"sector_size\":4096}},"           \
    "\"digests\":{\"0\":{\"type\":\"pbkdf2\",\"keyslots\":[" names                            \
    "],\"segments\":[\"0\"],\"hash\":\"sha256\",\"iterations\":150000,\"salt\":\"" SALT       \
    "\",\"digest\":\"" SALT "\"}},\"config\":{\"json_size\":\"12288\",\"keyslots_size\":"     \
    "\"16744448\"}}"

static const char plain[] = JSON("\"0\":" SLOT("32768", ARGON2ID), "", "\"0\"");

static struct volume_spec spec = { .integrity = INTEGRITY_NONE, .sector_bytes = 4096 };

static uint8_t *metadata_of(const char *json)
{
    static const uint8_t version_and_size[] = { 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0 };
    static const uint8_t magic[2][6] = { { 'L', 'U', 'K', 'S', 0xba, 0xbe },
                                         { 'S', 'K', 'U', 'L', 0xba, 0xbe } };
    uint8_t *metadata = NULL;
    struct error err = ERROR_INIT;

    assert_true(strlen(json) < JSON_BYTES);
    assert_ok(device_buffer(HEADER_PARSED_BYTES, &metadata, &err));
    for (size_t area = 0; area < 2; area++) {
        uint8_t *at = metadata + area * METADATA_BYTES;

        memcpy(at, magic[area], sizeof(magic[area]));
        memcpy(at + 6, version_and_size, sizeof(version_and_size));
        at[256 + 6] = area == 0 ? 0 : 0x40;
        for (size_t i = 0; json[i] != '\0'; i++)
            at[JSON_OFFSET + i] = (uint8_t)json[i];
    }
    return metadata;
}

static void assert_taken(const char *json)
{
    auto_free uint8_t *metadata = metadata_of(json);
    struct error err = ERROR_INIT;

    assert_ok(old_header_check_metadata(metadata, &spec, &err));
}

static void assert_not_taken(const char *json, const char *why)
{
    auto_free uint8_t *metadata = metadata_of(json);
    struct error err = ERROR_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, old_header_check_metadata(metadata, &spec, &err));
    assert_string_equal(err.reason, "OldHeader");
    assert_contains(err.text, why);
}

static void what_cryptsetup_writes_is_taken(void **state UNUSED)
{
    assert_taken(plain);
    assert_taken(
        JSON("\"0\":" SLOT("32768", ARGON2ID), "\"0\":{\"type\":\"x\",\"keyslots\":[]}", "\"0\""));
    assert_taken(JSON("\"0\":" SLOT("32768", ARGON2ID) ",\"17\":" SLOT("290816", PBKDF2), "",
                      "\"17\",\"0\""));
}

static void sectors_are_those_that_the_record_names(void **state UNUSED)
{
    spec.sector_bytes = 512;
    assert_not_taken(plain, "its sectors have 4096 bytes, and the volume was adopted with "
                            "--sector-size 512");
    spec.sector_bytes = 4096;
}

/* Each row changes one place of a good header. */
static void each_other_form_is_named(void **state UNUSED)
{
    static const struct {
        const char *from, *to, *why;
    } rows[] = {
        { "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
          "\"encryption\":\"cipher_null-ecb\",\"sector_size\"", "segment 0: encryption" },
        { "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
          "\"encryption\":\"capi:xts(aes)-plain64\",\"sector_size\"", "segment 0: encryption" },
        { "16777216", "16781312", "segment 0: offset" },
        { "\"dynamic\"", "\"1048576\"", "segment 0: size" },
        { "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\"", "segment 0: iv_tweak" },
        { "\"sector_size\":4096", "\"sector_size\":8192", "segment 0: sector_size" },
        { "\"sector_size\":4096", "\"sector_size\":4096,\"flags\":[\"x\"]", "number of members" },
        { "\"sector_size\":4096", "\"sector_size\":4096,\"integrity\":{}", "has integrity tags" },
        { "\"type\":\"crypt\"", "\"type\":\"linear\"", "segment 0: type" },
        { "\"segments\":{", "\"segments\":{\"1\":{},", "not exactly one segment" },
        { "\"segments\":{\"0\"", "\"segments\":{\"1\"", "not exactly one segment" },
        { "\"digests\":{", "\"digests\":{\"1\":{},", "not exactly one digest" },
        { "\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[\"online-reencrypt\"]},",
          "it has requirements" },
        { "\"config\":{", "\"config\":{\"flags\":[\"allow-discards\"],", "config: number" },
        { "16744448", "4161536", "config: keyslots_size" },
        { "\"json_size\":\"12288\"", "\"json_size\":\"61440\"", "config: json_size" },
        { "{\"keyslots\":{\"0\"", "{\"more\":{},\"keyslots\":{\"0\"", "its parts" },
        { "\"tokens\":{}", "\"tokens\":[]", "its parts" },
        { "{\"keyslots\":{\"0\"", "{\"keyslots\":{\"x\"", "the number of a keyslot" },
        { "\"encryption\":\"aes-xts-plain64\",\"key_size\"",
          "\"encryption\":\"cipher_null-ecb\",\"key_size\"", "keyslot 0: area encryption" },
        { "\"key_size\":64}", "\"key_size\":32}", "keyslot 0: area key_size" },
        { "\"type\":\"raw\"", "\"type\":\"journal\"", "keyslot 0: area type" },
        { "258048", "4096", "keyslot 0: area size" },
        { "\"32768\"", "\"32769\"", "keyslot 0: area offset" },
        { "\"32768\"", "\"-4096\"", "keyslot 0: area offset" },
        { "\"32768\"", "\"\"", "keyslot 0: area offset" },
        { "\"32768\"", "\"18446744073709547520\"", "keyslot 0: area offset" },
        { "\"offset\":\"32768\"", "\"offset\":32768", "keyslot 0: area offset" },
        { "\"luks2\",\"key_size\":64", "\"luks2\",\"key_size\":32", "keyslot 0: key_size" },
        { "\"luks2\"", "\"reencrypt\"", "keyslot 0: type" },
        { "\"luks2\",", "\"luks2\",\"priority\":3,", "keyslot 0: number of members" },
        { "\"luks2\",", "\"luks2\",\"more\":3,", "keyslot 0: number of members" },
        { "\"stripes\":4000", "\"stripes\":1", "keyslot 0: af stripes" },
        { "\"hash\":\"sha256\"},\"area\"", "\"hash\":\"crc32\"},\"area\"", "keyslot 0: af hash" },
        { "\"argon2id\"", "\"scrypt\"", "keyslot 0: kdf" },
        { "\"time\":4", "\"time\":0", "keyslot 0: kdf" },
        { "\"time\":4", "\"time\":2000000", "keyslot 0: kdf" },
        { "\"time\":4", "\"time\":-1", "keyslot 0: kdf" },
        { "\"memory\":65536", "\"memory\":1048577", "keyslot 0: kdf" },
        { "\"memory\":65536", "\"memory\":0", "keyslot 0: kdf" },
        { "\"cpus\":4", "\"cpus\":5", "keyslot 0: kdf" },
        { "\"cpus\":4", "\"cpus\":4,\"more\":1", "keyslot 0: kdf" },
        { ARGON2ID, "\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":2000000000",
          "keyslot 0: kdf" },
        { ARGON2ID, "\"type\":\"pbkdf2\",\"hash\":\"md5\",\"iterations\":1000", "keyslot 0: kdf" },
        { "\"keyslots\":[\"0\"]", "\"keyslots\":[]", "digest 0" },
        { "\"keyslots\":[\"0\"]", "\"keyslots\":[\"1\"]", "digest 0" },
        { "\"segments\":[\"0\"]", "\"segments\":[]", "digest 0" },
        { "150000", "2000000000", "digest 0" },
        { "\"digests\":{\"0\":{\"type\":\"pbkdf2\"", "\"digests\":{\"0\":{\"type\":\"x\"",
          "digest 0" },
        { "{\"keyslots\"", "[\"keyslots\"", "not JSON" },
        { "\"tokens\":{}", "\"tokens\":{},\"tokens\":{}", "not JSON" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char json[8192];
        const char *at = strstr(plain, rows[i].from);

        assert_non_null(at);
        (void)snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - plain), plain, rows[i].to,
                       at + strlen(rows[i].from));
        assert_not_taken(json, rows[i].why);
    }
}

/* Our copy B is at 2 to 4 MiB, the reserved part at 14 to 16 MiB. */
static void keyslots_stay_clear_of_what_is_written(void **state UNUSED)
{
    static const struct {
        const char *offset;
        bool is_clear;
    } rows[] = {
        { "32768", true },     { "28672", false },    { "0", false },        { "1839104", true },
        { "1843200", false },  { "2097152", false },  { "4190208", false },  { "4194304", true },
        { "14422016", true },  { "14426112", false }, { "14680064", false }, { "16777216", false },
        { "99999744", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char json[8192];
        const char *at = strstr(plain, "32768");

        (void)snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - plain), plain, rows[i].offset,
                       at + strlen("32768"));
        if (rows[i].is_clear)
            assert_taken(json);
        else
            assert_not_taken(json, "keyslot 0 lies where the new header goes");
    }
}

static void the_second_area_must_say_the_same(void **state UNUSED)
{
    static const size_t places[] = { 0,
                                     7,
                                     8,
                                     256 + 7,
                                     JSON_OFFSET + 40,
                                     JSON_OFFSET + 5000,
                                     METADATA_BYTES,
                                     METADATA_BYTES + 256 + 6,
                                     METADATA_BYTES + JSON_OFFSET + 40 };

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        auto_free uint8_t *metadata = metadata_of(plain);
        struct error err = ERROR_INIT;

        metadata[places[i]] ^= 1;
        assert_refused(ERROR_FAILED_PRECONDITION, old_header_check_metadata(metadata, &spec, &err));
    }
}

static int disk_of(const char *json)
{
    auto_free uint8_t *metadata = metadata_of(json);
    int fd = memfd_create("disk", MFD_CLOEXEC);
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(fd, LAYOUT_OLD_DATA_OFFSET + 4096), 0);
    assert_ok(fd_pwrite_all(fd, metadata, HEADER_PARSED_BYTES, 0, &err));
    return fd;
}

static void the_copy_in_memory_is_whole_and_sealed(void **state UNUSED)
{
    auto_close int disk = disk_of(plain), copy = -1;
    uint8_t byte = 0x5a, found = 0;
    struct error err = ERROR_INIT;

    assert_ok(fd_pwrite_all(disk, &byte, 1, LAYOUT_OLD_DATA_OFFSET - 1, &err));
    assert_ok(old_header_read(disk, &spec, &copy, &err));
    assert_int_equal(lseek(copy, 0, SEEK_END), LAYOUT_OLD_DATA_OFFSET);
    assert_ok(fd_pread_all(copy, &found, 1, LAYOUT_OLD_DATA_OFFSET - 1, &err));
    assert_int_equal(found, byte);
    assert_int_equal(pwrite(copy, &byte, 1, 0), -1);
}

static void a_bad_or_short_disk_gives_no_copy(void **state UNUSED)
{
    auto_close int disk = disk_of("{}"), copy = -1;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, old_header_read(disk, &spec, &copy, &err));
    assert_int_equal(ftruncate(disk, 1 << 20), 0);
    assert_false(old_header_read(disk, &spec, &copy, &err));
    assert_int_equal(copy, -1);
}

static void what_is_between_our_parts_is_erased(void **state UNUSED)
{
    static const struct {
        off_t offset;
        uint8_t left;
    } rows[] = {
        { (4 << 20) - 1, 0x5a }, { 4 << 20, 0 },     { 9 << 20, 0 },
        { (14 << 20) - 1, 0 },   { 14 << 20, 0x5a },
    };
    auto_close int disk = disk_of(plain);
    uint8_t byte = 0x5a;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_ok(fd_pwrite_all(disk, &byte, 1, rows[i].offset, &err));
    assert_ok(old_header_erase(disk, &err));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_ok(fd_pread_all(disk, &byte, 1, rows[i].offset, &err));
        assert_int_equal(byte, rows[i].left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cryptsetup_writes_is_taken),
        cmocka_unit_test(sectors_are_those_that_the_record_names),
        cmocka_unit_test(each_other_form_is_named),
        cmocka_unit_test(keyslots_stay_clear_of_what_is_written),
        cmocka_unit_test(the_second_area_must_say_the_same),
        cmocka_unit_test(the_copy_in_memory_is_whole_and_sealed),
        cmocka_unit_test(a_bad_or_short_disk_gives_no_copy),
        cmocka_unit_test(what_is_between_our_parts_is_erased),
    };

    return RUN_TESTS(tests);
}
