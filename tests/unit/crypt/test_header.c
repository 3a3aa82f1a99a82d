/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define METADATA_BYTES 16384u
#define JSON_OFFSET    4096u
#define JSON_BYTES     12288u
#define SALT           "nr7EiQ1+/nsjSZ2WA82xOYLkBln4FJlacjiXQSlTs9w="

/* As libcryptsetup 2.6.1 writes it. */
#define JSON(key_size, area_size, encryption, integrity)                                    \
    "{\"keyslots\":{\"0\":{\"type\":\"luks2\",\"key_size\":" key_size                       \
    ",\"af\":{\"type\":\"luks1\",\"stripes\":4000,\"hash\":\"sha256\"},"                    \
    "\"area\":{\"type\":\"raw\",\"offset\":\"32768\",\"size\":\"" area_size                 \
    "\",\"encryption\":\"aes-xts-plain64\",\"key_size\":64},"                               \
    "\"kdf\":{\"type\":\"pbkdf2\",\"hash\":\"sha256\",\"iterations\":1000,\"salt\":\"" SALT \
    "\"}}},\"tokens\":{},\"segments\":{\"0\":{\"type\":\"crypt\",\"offset\":\"4194304\","   \
    "\"size\":\"dynamic\",\"iv_tweak\":\"0\",\"encryption\":\"" encryption                  \
    "\",\"sector_size\":4096" integrity "}},\"digests\":{\"0\":{\"type\":\"pbkdf2\","       \
    "\"keyslots\":[\"0\"],\"segments\":[\"0\"],\"hash\":\"sha256\",\"iterations\":1000,"    \
    "\"salt\":\"" SALT "\",\"digest\":\"" SALT "\"}},"                                      \
    "\"config\":{\"json_size\":\"12288\",\"keyslots_size\":\"2064384\"}}"
#define INTEGRITY(type)                \
    ",\"integrity\":{\"type\":\"" type \
    "\",\"journal_encryption\":\"none\",\"journal_integrity\":\"none\"}"

static const char *const written[] = {
    [INTEGRITY_AEGIS128] = JSON("16", "65536", "aegis128-random", INTEGRITY("aead")),
    [INTEGRITY_HMAC_SHA256] = JSON("96", "385024", "aes-xts-plain64", INTEGRITY("hmac(sha256)")),
    [INTEGRITY_NONE] = JSON("64", "258048", "aes-xts-plain64", ""),
};

static const uint8_t no_recovery[SHA256_LEN];

static void put_metadata(uint8_t *metadata, const char *magic, uint8_t offset_high,
                         const char *json, size_t json_len)
{
    static const uint8_t version_and_size[] = { 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0 };

    memcpy(metadata, magic, 6);
    memcpy(metadata + 6, version_and_size, sizeof(version_and_size));
    metadata[256 + 6] = offset_high;
    memcpy(metadata + JSON_OFFSET, json, json_len);
}

static uint8_t *header_of(const char *json)
{
    uint8_t *header = NULL;
    struct error err = ERROR_INIT;

    assert_ok(device_buffer(LAYOUT_HEADER_BYTES, &header, &err));
    put_metadata(header, "LUKS\xba\xbe", 0, json, strlen(json));
    put_metadata(header + METADATA_BYTES, "SKUL\xba\xbe", 0x40, json, strlen(json));
    header[2 * METADATA_BYTES + 77] = 0x5a;
    return header;
}

static int file_of(const uint8_t *header)
{
    struct error err = ERROR_INIT;
    int fd = -1;

    assert_ok(header_new(&fd, &err));
    assert_ok(fd_pwrite_all(fd, header, LAYOUT_HEADER_BYTES, 0, &err));
    return fd;
}

static struct volume_spec spec_of(enum integrity integrity)
{
    struct volume_spec spec = { .integrity = integrity };
    struct error err = ERROR_INIT;

    assert_ok(layout_plan(&spec, 64u << 20, &err));
    return spec;
}

static void header_as_written_is_accepted(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (uint32_t mode = INTEGRITY_AEGIS128; mode <= INTEGRITY_NONE; mode++) {
        struct volume_spec spec = spec_of((enum integrity)mode);
        auto_free uint8_t *header = header_of(written[mode]);

        assert_ok(header_check_metadata(header, &spec, no_recovery, &err));
    }
}

static void header_of_another_mode_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (uint32_t is = INTEGRITY_AEGIS128; is <= INTEGRITY_NONE; is++) {
        for (uint32_t said = INTEGRITY_AEGIS128; said <= INTEGRITY_NONE; said++) {
            struct volume_spec spec = spec_of((enum integrity)said);
            auto_free uint8_t *header = header_of(written[is]);

            if (is != said)
                assert_refused(ERROR_DATA_LOSS,
                               header_check_metadata(header, &spec, no_recovery, &err));
        }
    }
}

/* Returns the text with one part replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *out = NULL;

    assert_non_null(at);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)) > 0);
    return out;
}

/* libcryptsetup made it for a cipher that AF_ALG need not know. */
static void header_gets_another_mode_and_nothing_else(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    auto_free char *plain =
        replaced(written[INTEGRITY_AEGIS128], "aegis128-random", "aes-cbc-plain64");
    auto_free char *weak = replaced(plain, "\"iterations\":1000", "\"iterations\":1");
    auto_free uint8_t *header = header_of(plain), *bad = header_of(weak);
    static uint8_t metadata[METADATA_BYTES];
    uint8_t sum[SHA256_LEN], found[SHA256_LEN];
    auto_close int fd = file_of(header), bad_fd = file_of(bad);

    assert_refused(ERROR_DATA_LOSS, header_check_metadata(header, &spec, no_recovery, &err));
    assert_ok(header_finish(fd, &spec, NULL, &err));
    assert_ok(header_check(fd, &spec, no_recovery, &err));
    for (off_t i = 0; i < 2; i++) { /* a checksum covers its area, with zeros in its place */
        assert_ok(fd_pread_all(fd, metadata, METADATA_BYTES, i * METADATA_BYTES, &err));
        memcpy(found, metadata + 448, SHA256_LEN);
        bytes_wipe(metadata + 448, 64);
        assert_ok(sha256(metadata, METADATA_BYTES, sum, &err));
        assert_memory_equal(found, sum, SHA256_LEN);
    }
    assert_ok(fd_pread_all(fd, found, 1, 2 * METADATA_BYTES + 77, &err));
    assert_int_equal(found[0], 0x5a);
    assert_refused(ERROR_INTERNAL, header_finish(bad_fd, &spec, NULL, &err));
    assert_ok(fd_pwrite_all(bad_fd, "x", 1, 4096, &err));
    assert_refused(ERROR_INTERNAL, header_finish(bad_fd, &spec, NULL, &err));
}

static void parameters_an_attacker_would_like_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } changes[] = {
        { "aegis128-random", "cipher_null-ecb" },
        { "\"encryption\":\"aes-xts-plain64\"", "\"encryption\":\"cipher_null-ecb\"" },
        { "\"iterations\":1000", "\"iterations\":4294967295" },
        { "\"iterations\":1000", "\"iterations\":1" },
        { "\"iterations\":1000", "\"iterations\":1000.0" },
        { "\"type\":\"pbkdf2\",\"hash\":\"sha256\"",
          "\"type\":\"argon2id\",\"time\":9,\"memory\":4194304,\"cpus\":4" },
        { "\"hash\":\"sha256\"", "\"hash\":\"sha1\"" },
        { "\"stripes\":4000", "\"stripes\":1" },
        { "\"offset\":\"4194304\"", "\"offset\":\"4198400\"" },
        { "\"size\":\"dynamic\"", "\"size\":\"4096\"" },
        { "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\"" },
        { "\"sector_size\":4096", "\"sector_size\":512" },
        { "\"type\":\"crypt\"", "\"type\":\"linear\"" },
        { "\"journal_integrity\":\"none\"", "\"journal_integrity\":\"hmac(sha256)\"" },
        { INTEGRITY("aead"), "" },
        { "\"type\":\"aead\"", "\"type\":\"none\"" },
        { "\"tokens\":{}", "\"tokens\":{\"0\":{\"type\":\"x\",\"keyslots\":[]}}" },
        { "\"tokens\":{},", "" },
        { "\"segments\":{\"0\"", "\"segments\":{\"1\"" },
        { "\"iv_tweak\"", "\"flags\":[\"backup-final\"],\"iv_tweak\"" },
        { "\"json_size\"",
          "\"requirements\":{\"mandatory\":[\"online-reencrypt\"]},\"json_size\"" },
        { "\"json_size\"", "\"flags\":[\"allow-discards\"],\"json_size\"" },
        { "\"keyslots_size\":\"2064384\"", "\"keyslots_size\":\"2064385\"" },
        { "\"keyslots\":[\"0\"]", "\"keyslots\":[\"0\",\"1\"]" },
        { "\"segments\":[\"0\"]", "\"segments\":[]" },
        { "\"key_size\":16", "\"key_size\":16,\"key_size\":16" },
        { "\"salt\":\"" SALT "\"", "\"salt\":\"\\u0000\"" },
        { "\"salt\":\"" SALT "\"", "\"salt\":7" },
        { "\"digest\":\"" SALT "\"", "\"digest\":\"" SALT SALT SALT "\"" },
        { "{\"keyslots\":", "[{\"keyslots\":" },
        { "\"2064384\"}}", "\"2064384\"}} x" },
    };
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        auto_free char *json =
            replaced(written[INTEGRITY_AEGIS128], changes[i].from, changes[i].to);
        auto_free uint8_t *header = header_of(json);

        if (header_check_metadata(header, &spec, no_recovery, &err))
            fail_msg("%s for %s was accepted", changes[i].to, changes[i].from);
        assert_int_equal(err.code, ERROR_DATA_LOSS);
        assert_string_equal(err.reason, "HeaderChanged");
    }
}

static bool is_in_salt(const char *text, size_t at)
{
    for (const char *salt = strstr(text, SALT); salt; salt = strstr(salt + 1, SALT)) {
        if (text + at >= salt && text + at < salt + strlen(SALT))
            return true;
    }
    return false;
}

static void every_byte_of_json_but_the_salts_is_pinned(void **state)
{
    (void)state;
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    struct error err = ERROR_INIT;
    const char *json = written[INTEGRITY_AEGIS128];
    auto_free uint8_t *header = header_of(json);
    for (size_t i = 0; i < strlen(json) + 2; i++) {
        if (i < strlen(json) && is_in_salt(json, i))
            continue;
        for (uint8_t flip = 1; flip != 0; flip = (uint8_t)(flip << 1)) {
            header[JSON_OFFSET + i] ^= flip;
            header[METADATA_BYTES + JSON_OFFSET + i] ^= flip;
            bool accepted = header_check_metadata(header, &spec, no_recovery, &err);
            header[JSON_OFFSET + i] ^= flip;
            header[METADATA_BYTES + JSON_OFFSET + i] ^= flip;
            if (accepted && !(i == strlen(json) && flip == ' '))
                fail_msg("byte %zu changed by %#x was accepted", i, flip);
        }
    }
}

static void binary_header_of_other_form_is_refused(void **state)
{
    (void)state;
    static const size_t pinned[] = { 0,
                                     5,
                                     7,
                                     14,
                                     258,
                                     METADATA_BYTES,
                                     METADATA_BYTES + 14,
                                     METADATA_BYTES + 262,
                                     JSON_OFFSET + JSON_BYTES - 1 };
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    struct error err = ERROR_INIT;
    auto_free uint8_t *header = header_of(written[INTEGRITY_AEGIS128]);
    for (size_t i = 0; i < ARRAY_LEN(pinned); i++) {
        header[pinned[i]] ^= 4;
        assert_refused(ERROR_DATA_LOSS, header_check_metadata(header, &spec, no_recovery, &err));
        header[pinned[i]] ^= 4;
    }
    assert_ok(header_check_metadata(header, &spec, no_recovery, &err));
}

/* Any base64 does here: only its form is looked at. */
#define TOKEN(certificate)                                                             \
    "{\"type\":\"tdvol-recovery\",\"keyslots\":[\"0\"],\"certificate\":\"" certificate \
    "\",\"serial\":\"01ff\",\"cms\":\"MIIBUQ==\"}"
#define CERTIFICATE \
    "11"            \
    "00000000000000000000000000000000000000000000000000000000000000"
#define OTHER \
    "22"      \
    "00000000000000000000000000000000000000000000000000000000000000"

static void a_recovery_token_is_there_when_the_record_says_so_and_not_otherwise(void **state)
{
    static const uint8_t certificate[SHA256_LEN] = { 0x11 }, other[SHA256_LEN] = { 0x22 };
    struct error err = ERROR_INIT;

    (void)state;
    for (uint32_t mode = INTEGRITY_AEGIS128; mode <= INTEGRITY_NONE; mode++) {
        struct volume_spec spec = spec_of((enum integrity)mode);
        auto_free char *json =
            replaced(written[mode], "\"tokens\":{}", "\"tokens\":{\"0\":" TOKEN(CERTIFICATE) "}");
        auto_free uint8_t *with = header_of(json), *without = header_of(written[mode]);

        assert_ok(header_check_metadata(with, &spec, certificate, &err));
        assert_ok(header_check_metadata(with, &spec, NULL, &err));
        assert_ok(header_check_metadata(without, &spec, NULL, &err));
        assert_refused(ERROR_DATA_LOSS, header_check_metadata(with, &spec, other, &err));
        assert_refused(ERROR_DATA_LOSS, header_check_metadata(with, &spec, no_recovery, &err));
        assert_refused(ERROR_DATA_LOSS, header_check_metadata(without, &spec, certificate, &err));
        assert_string_equal(err.reason, "HeaderChanged");
        assert_contains(err.text, "recovery token");
    }
}

static void other_tokens_are_refused(void **state)
{
    static const uint8_t certificate[SHA256_LEN] = { 0x11 };
    static const char *const bad[] = {
        "{\"1\":" TOKEN(CERTIFICATE) "}",
        "{\"0\":" TOKEN(CERTIFICATE) ",\"1\":" TOKEN(CERTIFICATE) "}",
        "{\"0\":" TOKEN(CERTIFICATE) ",\"1\":" TOKEN(OTHER) "}",
        "{\"0\":" TOKEN(CERTIFICATE) ",\"1\":{\"type\":\"luks2-keyring\",\"keyslots\":[\"0\"],"
                                     "\"key_description\":\"x\"}}",
        "{\"0\":{\"type\":\"luks2-keyring\",\"keyslots\":[\"0\"],\"key_description\":\"x\"}}",
        "[" TOKEN(CERTIFICATE) "]",
        "{\"0\":{\"type\":\"tdvol-recovery\",\"keyslots\":[\"1\"],\"certificate\":\"" CERTIFICATE
        "\",\"serial\":\"01ff\",\"cms\":\"MIIBUQ==\"}}",
        "{\"0\":{\"type\":\"tdvol-recovery\",\"keyslots\":[\"0\"],\"certificate\":\"" CERTIFICATE
        "\",\"serial\":\"01ff\",\"cms\":\"MIIBUQ==\",\"x\":1}}",
        "{\"0\":null}",
        "null",
    };
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        auto_free char *with = NULL;

        assert_true(asprintf(&with, "\"tokens\":%s", bad[i]) > 0);
        auto_free char *json = replaced(written[INTEGRITY_AEGIS128], "\"tokens\":{}", with);
        auto_free uint8_t *header = header_of(json);
        const uint8_t *const wants[] = { certificate, no_recovery, NULL };

        for (size_t k = 0; k < ARRAY_LEN(wants); k++)
            if (header_check_metadata(header, &spec, wants[k], &err))
                fail_msg("token %zu was accepted", i);
    }
}

static void a_token_is_put_in_and_found(void **state)
{
    struct recovery_token token = { .certificate_sha256 = { 0x11 }, .serial = "01ff" };
    struct recovery_token back = { .cms_len = 0 };
    struct volume_spec spec = spec_of(INTEGRITY_HMAC_SHA256);
    auto_free uint8_t *header = header_of(written[INTEGRITY_HMAC_SHA256]);
    auto_close int fd = file_of(header);
    struct error err = ERROR_INIT;
    bool found = true;

    (void)state;
    assert_ok(header_find_token(fd, &found, &back, &err));
    assert_false(found);
    token.cms_len = RECOVERY_CMS_MAX; /* the largest token fits */
    for (size_t i = 0; i < token.cms_len; i++)
        token.cms[i] = (uint8_t)(i * 7);
    assert_ok(header_finish(fd, &spec, &token, &err));
    assert_ok(header_check(fd, &spec, token.certificate_sha256, &err));
    assert_ok(header_find_token(fd, &found, &back, &err));
    assert_true(found);
    assert_memory_equal(&back, &token, sizeof(token));
}

static void two_metadata_areas_must_say_the_same(void **state)
{
    (void)state;
    struct volume_spec spec = spec_of(INTEGRITY_AEGIS128);
    struct error err = ERROR_INIT;
    auto_free uint8_t *header = header_of(written[INTEGRITY_AEGIS128]);
    char *second = (char *)header + METADATA_BYTES + JSON_OFFSET;
    strstr(second, "nr7E")[0] = 'm';
    assert_refused(ERROR_DATA_LOSS, header_check_metadata(header, &spec, no_recovery, &err));
}

/* A device in memory that holds the header twice, and the record that knows the header's digest. */
struct disk {
    int fd, header, read;
    struct record record;
};

static int setup_disk(void **state)
{
    static struct disk disk;
    struct error err = ERROR_INIT;

    disk = (struct disk){ .fd = memfd_create("disk", MFD_CLOEXEC) };
    auto_free uint8_t *header = header_of(written[INTEGRITY_AEGIS128]);

    disk.header = file_of(header);
    disk.record.spec = spec_of(INTEGRITY_AEGIS128);
    disk.record.n_header_digests = 1;
    assert_ok(header_new(&disk.read, &err));
    assert_int_equal(ftruncate(disk.fd, LAYOUT_DATA_OFFSET), 0);
    assert_ok(header_write(disk.fd, disk.header, &err));
    assert_ok(header_digest(disk.header, disk.record.header_digests[0], &err));
    *state = &disk;
    return 0;
}

static int teardown_disk(void **state)
{
    struct disk *disk = *state;

    close(disk->fd);
    close(disk->header);
    close(disk->read);
    return 0;
}

static void assert_same(int fd, int other_fd)
{
    uint8_t digest[SHA256_LEN], other[SHA256_LEN];
    struct error err = ERROR_INIT;

    assert_ok(header_digest(fd, digest, &err));
    assert_ok(header_digest(other_fd, other, &err));
    assert_memory_equal(digest, other, SHA256_LEN);
}

static void damage(const struct disk *disk, off_t offset)
{
    struct error err = ERROR_INIT;
    uint8_t byte = 0;

    assert_ok(fd_pread_all(disk->fd, &byte, 1, offset, &err));
    byte ^= 0x10;
    assert_ok(fd_pwrite_all(disk->fd, &byte, 1, offset, &err));
}

static bool was_next; /* of the last read_again() */
/* Each header in memory is checked once. */
static bool read_again(struct disk *disk, bool *needs_repair, struct error *err)
{
    close(disk->read);
    assert_true(header_new(&disk->read, err));
    struct header_found found = { .needs_repair = *needs_repair };
    bool read = header_read(disk->fd, &disk->record, disk->read, &found, err);
    *needs_repair = found.needs_repair;
    was_next = found.is_next;
    return read;
}

static void checked_header_cannot_change(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = true;

    assert_ok(read_again(disk, &needs_repair, &err));
    assert_int_equal(pwrite(disk->read, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(disk->read, 0), -1);
    assert_int_equal(ftruncate(disk->read, 2 * LAYOUT_HEADER_BYTES), -1);
    assert_same(disk->read, disk->header);
}

static void header_written_twice_is_read_without_repair(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = true;

    assert_ok(read_again(disk, &needs_repair, &err));
    assert_false(needs_repair);
    assert_same(disk->read, disk->header);
}

static void one_damaged_copy_is_survived_and_repaired(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    static const off_t places[] = { LAYOUT_HEADER_A_OFFSET, LAYOUT_HEADER_A_OFFSET + 2097151,
                                    LAYOUT_HEADER_B_OFFSET + 4096 };

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        bool needs_repair = false;

        damage(disk, places[i]);
        assert_ok(read_again(disk, &needs_repair, &err));
        assert_true(needs_repair);
        assert_same(disk->read, disk->header);
        assert_ok(header_repair(disk->fd, disk->read, &err));
        assert_ok(read_again(disk, &needs_repair, &err));
        assert_false(needs_repair);
    }
}

/* Copy B is the header of a rotation, copy A the former one; then the other way round. */
static void the_header_of_a_rotation_comes_first(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool repair = false;
    struct record *r = &disk->record;
    uint8_t next[SHA256_LEN];

    assert_ok(header_digest(disk->header, next, &err));
    damage(disk, LAYOUT_HEADER_A_OFFSET + 2000000); /* in the keyslots: its form is still good */
    assert_ok(header_digest(disk->fd, r->header_digests[0], &err)); /* copy A is its start */
    r->n_header_digests = 1;
    r->rotation = (struct record_rotation){ .key = { .generation = 2 }, .has_header = true };
    memcpy(r->rotation.header_digest, next, SHA256_LEN);
    assert_ok(read_again(disk, &repair, &err));
    assert_true(was_next && repair);
    assert_same(disk->read, disk->header);
    r->rotation.key.generation = 0; /* the digest alone does not count */
    assert_ok(read_again(disk, &repair, &err));
    assert_false(was_next);
    r->rotation.key.generation = 2;
    memcpy(r->rotation.header_digest, r->header_digests[0], SHA256_LEN);
    memcpy(r->header_digests[0], next, SHA256_LEN);
    assert_ok(read_again(disk, &repair, &err));
    assert_true(was_next);
}

static void both_copies_damaged_are_refused(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = false;

    damage(disk, LAYOUT_HEADER_A_OFFSET + 9);
    damage(disk, LAYOUT_HEADER_B_OFFSET + 1000000);
    assert_refused(ERROR_DATA_LOSS, read_again(disk, &needs_repair, &err));
    assert_string_equal(err.reason, "HeaderChanged");
}

static void torn_write_of_a_new_header_leaves_the_old_one(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = false;
    auto_free uint8_t *newer = header_of(written[INTEGRITY_AEGIS128]);

    newer[2000000] ^= 1;
    assert_ok(
        fd_pwrite_all(disk->fd, newer + 1000000, 1097152, LAYOUT_HEADER_B_OFFSET + 1000000, &err));
    assert_ok(read_again(disk, &needs_repair, &err));
    assert_same(disk->read, disk->header);
    assert_true(needs_repair);
}

static void header_the_record_does_not_know_is_refused(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = false;

    disk->record.header_digests[0][31] ^= 1;
    assert_refused(ERROR_DATA_LOSS, read_again(disk, &needs_repair, &err));
    disk->record.n_header_digests = 0;
    assert_refused(ERROR_DATA_LOSS, read_again(disk, &needs_repair, &err));
}

static void any_digest_of_the_record_will_do(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = true;

    memcpy(disk->record.header_digests[1], disk->record.header_digests[0], SHA256_LEN);
    disk->record.header_digests[0][0] ^= 1;
    disk->record.n_header_digests = 2;
    assert_ok(read_again(disk, &needs_repair, &err));
    assert_false(needs_repair);
}

static void known_header_of_wrong_form_is_refused_all_the_same(void **state)
{
    struct disk *disk = *state;
    struct error err = ERROR_INIT;
    bool needs_repair = false;
    auto_free uint8_t *header = header_of(written[INTEGRITY_NONE]);
    auto_close int fd = file_of(header);

    assert_ok(header_write(disk->fd, fd, &err));
    assert_ok(header_digest(fd, disk->record.header_digests[0], &err));
    assert_refused(ERROR_DATA_LOSS, read_again(disk, &needs_repair, &err));
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, setup_disk, teardown_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_as_written_is_accepted),
        cmocka_unit_test(header_of_another_mode_is_refused),
        cmocka_unit_test(header_gets_another_mode_and_nothing_else),
        cmocka_unit_test(parameters_an_attacker_would_like_are_refused),
        cmocka_unit_test(every_byte_of_json_but_the_salts_is_pinned),
        cmocka_unit_test(binary_header_of_other_form_is_refused),
        cmocka_unit_test(a_recovery_token_is_there_when_the_record_says_so_and_not_otherwise),
        cmocka_unit_test(other_tokens_are_refused),
        cmocka_unit_test(a_token_is_put_in_and_found),
        cmocka_unit_test(two_metadata_areas_must_say_the_same),
        ON_DISK(checked_header_cannot_change),
        ON_DISK(header_written_twice_is_read_without_repair),
        ON_DISK(the_header_of_a_rotation_comes_first),
        ON_DISK(one_damaged_copy_is_survived_and_repaired),
        ON_DISK(both_copies_damaged_are_refused),
        ON_DISK(torn_write_of_a_new_header_leaves_the_old_one),
        ON_DISK(header_the_record_does_not_know_is_refused),
        ON_DISK(any_digest_of_the_record_will_do),
        ON_DISK(known_header_of_wrong_form_is_refused_all_the_same),
    };

    return RUN_TESTS(tests);
}
