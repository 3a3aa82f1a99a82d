/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "crypt/recover.h"
#include "record/layout.h"
#include "tests/unit/record/made_certificate.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Volumes are formatted with a recovery certificate, and opened with its key and nothing of the broker's. */

#define MIB  (1024ull * 1024)
#define SIZE (48 * MIB)
#define LAST (SIZE - 4096)

static struct disk disk, copy;
static struct made_certificate certificate, other;
static struct volume_name recovered = { "tdvolrecover-test" };
static struct recover_header header;

static int setup_certificates(void **state)
{
    (void)state;
    certificate = make_certificate(&(struct certificate_wish){ .kind = "P-384" });
    other = make_certificate(&(struct certificate_wish){ .kind = "RSA-3072" });
    return 0;
}

static int teardown_certificates(void **state)
{
    (void)state;
    made_certificate_free(&certificate);
    made_certificate_free(&other);
    return 0;
}

static int teardown(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(volume_deactivate(&recovered, &err));
    disk_drop(&disk);
    if (copy.secret.bytes)
        disk_drop(&copy);
    return devices_mapped() == 0 ? 0 : -1;
}

static void want(const struct made_certificate *made)
{
    struct record_recovery *recovery = &disk.record.recovery;

    recovery->certificate_len = (uint32_t)made->der_len;
    memcpy(recovery->certificate, made->der, made->der_len);
}

static void make(enum integrity integrity)
{
    disk_make(&disk, integrity, SIZE);
    want(&certificate);
}

/* Decrypts the token in header, with the key of this certificate. */
static bool get_passphrase(const struct made_certificate *made, struct secret *out,
                           struct error *err)
{
    auto_secret struct secret pem = SECRET_INIT;
    auto_recovery_key struct recovery_key *key = NULL;

    if (!secret_alloc(&pem, strlen(made->key_pem), err))
        return false;
    memcpy(pem.bytes, made->key_pem, pem.len);
    return recovery_key_read(&pem, NULL, NULL, &key, err) &&
           recovery_token_open(&header.token, key, out, err);
}

static bool read_header(const struct disk *d, off_t offset, struct error *err)
{
    auto_close int fd = open(d->loop.path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    assert_true(fd >= 0);
    return recover_read_header(fd, offset, &header, err);
}

/* Opens d by the header that was read, as "recovered". Nothing but the disk and the passphrase is used. */
static bool activate(struct disk *d, const struct secret *passphrase, bool write, struct error *err)
{
    auto_close int fd = open(d->loop.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    auto_loop struct loop_device overlay = LOOP_DEVICE_INIT;
    struct volume_closing closing;
    struct record record;
    uint64_t bytes = (uint64_t)lseek(fd, 0, SEEK_END);

    if (!recover_make_record(fd, bytes, &header, &record, err))
        return false;
    if (!write && !loop_attach_memory(volume_overlay_bytes(&record.spec), &overlay, err))
        return false;
    const struct volume_opening opening = { .device_path = d->loop.path,
                                            .overlay_path = write ? NULL : overlay.path,
                                            .record = &record,
                                            .recovery_key = passphrase };
    return volume_activate(&recovered, &opening, &d->device, &closing, err);
}

static bool recover(struct disk *d, off_t offset, bool write, struct error *err)
{
    auto_secret struct secret passphrase = SECRET_INIT;

    return read_header(d, offset, err) && get_passphrase(&certificate, &passphrase, err) &&
           activate(d, &passphrase, write, err);
}

static void must_recover(struct disk *d, off_t offset, bool write)
{
    struct error err = ERROR_INIT;

    if (!recover(d, offset, write, &err))
        fail_msg("%s", err.text);
}

static void must_close(void)
{
    struct error err = ERROR_INIT;

    assert_ok(volume_deactivate(&recovered, &err));
}

static void each_mode_is_read_by_either_header_and_not_changed(void **state)
{
    static const off_t offsets[] = { LAYOUT_HEADER_A_OFFSET, LAYOUT_HEADER_B_OFFSET };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        uint8_t before[SHA256_LEN], after[SHA256_LEN];

        make(disk_modes[i]);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, 0, 0xaa, &err));
        assert_ok(block_write(&disk, LAST, 0xbb, &err));
        disk_must_have_filesystem(&disk);
        disk_must_close(&disk);
        raw_hash(&disk, before);
        for (size_t k = 0; k < ARRAY_LEN(offsets); k++) {
            must_recover(&disk, offsets[k], false);
            assert_memory_equal(header.digest, disk.record.header_digests[0], SHA256_LEN);
            assert_int_equal(disk.device.size_bytes, SIZE);
            assert_int_equal(disk.device.filesystem_bytes, SIZE);
            assert_true(disk.device.read_only);
            assert_ok(block_is(&disk, 0, 0xaa, &err));
            assert_ok(block_is(&disk, LAST, 0xbb, &err));
            assert_ok(block_write(&disk, 0, 0xcc, &err)); /* into memory, as a journal's replay */
            must_close();
        }
        raw_hash(&disk, after);
        assert_memory_equal(before, after, SHA256_LEN);
        disk_must_open(&disk); /* the broker still opens it, in its newest state */
        assert_ok(block_is(&disk, 0, 0xaa, &err));
        disk_must_close(&disk);
    }
}

/* Nothing but the blocks that were written is initialised, and the volume is not closed: journal and map
 * are as a power cut leaves them. */
static void a_half_initialised_volume_that_was_not_closed_is_read(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        make(disk_modes[i]);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, 20 * MIB, 0x11, &err));
        disk_copy(&disk, &copy, "copy");
        must_recover(&copy, LAYOUT_HEADER_A_OFFSET, false);
        assert_ok(block_is(&copy, 20 * MIB, 0x11, &err));
        if (disk_modes[i] != INTEGRITY_NONE)
            assert_ok(block_is(&copy, 30 * MIB, 0, &err));
        must_close();
        disk_must_close(&disk);
    }
}

static void a_volume_that_has_grown_is_read(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        make(disk_modes[i]);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, LAST, 0x22, &err));
        assert_ok(disk_grow(&disk, 3 * SIZE, &err));
        assert_ok(block_write(&disk, 3 * SIZE - 4096, 0x33, &err));
        disk_must_close(&disk);
        must_recover(&disk, LAYOUT_HEADER_A_OFFSET, false);
        assert_int_equal(disk.device.size_bytes, 3 * SIZE);
        assert_ok(block_is(&disk, LAST, 0x22, &err));
        assert_ok(block_is(&disk, 3 * SIZE - 4096, 0x33, &err));
        must_close();
    }
}

/* The second group begins behind 64 GiB. */
static void a_volume_of_two_groups_is_read(void **state)
{
    const uint64_t size = 80ull << 30, far = size - 4096;
    struct error err = ERROR_INIT;

    (void)state;
    disk_make(&disk, INTEGRITY_AEGIS128, size);
    want(&certificate);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, far, 0x44, &err));
    disk_must_close(&disk);
    must_recover(&disk, LAYOUT_HEADER_A_OFFSET, false);
    assert_int_equal(disk.device.size_bytes, size);
    assert_ok(block_is(&disk, far, 0x44, &err));
}

/* What the disk says of the size is only as exact as the blocks of the pool. */
static void a_size_between_two_blocks_is_rounded_up(void **state)
{
    const uint64_t size = SIZE + 4096;
    struct error err = ERROR_INIT;

    (void)state;
    disk_make(&disk, INTEGRITY_HMAC_SHA256, size);
    want(&certificate);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, size - 4096, 0x55, &err));
    disk_must_close(&disk);
    must_recover(&disk, LAYOUT_HEADER_A_OFFSET, false);
    assert_int_equal(disk.device.size_bytes, SIZE + LAYOUT_BLOCK_BYTES);
    assert_ok(block_is(&disk, size - 4096, 0x55, &err));
}

static void a_volume_without_a_journal_is_read(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk.record.spec.no_journal = true;
    assert_ok(layout_plan(&disk.record.spec, SIZE, &err));
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 0, 0x66, &err));
    disk_must_close(&disk);
    must_recover(&disk, LAYOUT_HEADER_A_OFFSET, false);
    assert_ok(block_is(&disk, 0, 0x66, &err));
}

static void copies_open_with_the_same_key_and_by_the_broker(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 0, 0x77, &err));
    disk_must_close(&disk);
    disk_copy(&disk, &copy, "copy");
    disk_must_open(&copy);
    assert_ok(block_write(&copy, 4096, 0x78, &err));
    disk_must_close(&copy);
    must_recover(&copy, LAYOUT_HEADER_B_OFFSET, false);
    assert_ok(block_is(&copy, 0, 0x77, &err));
    assert_ok(block_is(&copy, 4096, 0x78, &err));
}

static void what_is_written_stays_and_the_broker_then_refuses(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 0, 0x01, &err));
    disk_must_close(&disk);
    must_recover(&disk, LAYOUT_HEADER_A_OFFSET, true);
    assert_false(disk.device.read_only);
    assert_ok(block_write(&disk, 8 * MIB, 0x02, &err));
    must_close();
    must_recover(&disk, LAYOUT_HEADER_A_OFFSET, true);
    assert_ok(block_is(&disk, 0, 0x01, &err));
    assert_ok(block_is(&disk, 8 * MIB, 0x02, &err));
    must_close();
    assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
    assert_string_equal(err.reason, "MapChanged");
}

static void another_key_opens_nothing(void **state)
{
    auto_secret struct secret passphrase = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_HMAC_SHA256);
    disk_must_open(&disk);
    disk_must_close(&disk);
    assert_ok(read_header(&disk, 0, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, get_passphrase(&other, &passphrase, &err));
    assert_string_equal(err.reason, "KeyMismatch");
    assert_ok(secret_random(&passphrase, 32, &err)); /* nor does another passphrase */
    assert_refused(ERROR_FAILED_PRECONDITION, activate(&disk, &passphrase, false, &err));
    assert_string_equal(err.reason, "KeyMismatch");
}

static void a_volume_without_a_certificate_has_no_token(void **state)
{
    static const uint8_t none[SHA256_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    disk_must_close(&disk);
    assert_memory_equal(disk.record.recovery.sha256, none, SHA256_LEN);
    assert_ok(read_header(&disk, 0, &err));
    assert_false(header.has_token);
}

/* Exchanges what the record says of the token; the digest of the header is still right. */
static void the_record_says_which_token_the_header_has(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    disk_must_close(&disk);
    disk.record.recovery.sha256[0] ^= 1;
    assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
    assert_string_equal(err.reason, "HeaderChanged");
    disk.record.recovery = (struct record_recovery){ .certificate_len = 0 };
    assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
    assert_string_equal(err.reason, "HeaderChanged");
}

/* The host removes the token, or puts in one for a certificate of its own: the broker's record knows
 * neither header. */
static void a_changed_token_is_noticed_by_the_broker(void **state)
{
    static uint8_t metadata[HEADER_PARSED_BYTES] __attribute__((aligned(4096)));
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    disk_must_close(&disk);
    for (off_t offset = 0; offset <= LAYOUT_HEADER_B_OFFSET; offset += LAYOUT_HEADER_B_OFFSET) {
        assert_ok(fd_pread_all(disk.file, metadata, sizeof(metadata), offset, &err));
        for (size_t area = 0; area < 2; area++) {
            char *text = (char *)metadata + area * 16384 + 4096;
            char *cms = strstr(text, "\"cms\":\"");

            assert_non_null(cms);
            cms[100] = cms[100] == 'A' ? 'B' : 'A';
        }
        assert_ok(fd_pwrite_all(disk.file, metadata, sizeof(metadata), offset, &err));
    }
    assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
    assert_string_equal(err.reason, "HeaderChanged");
    /* Without the record only the checksum of the header, and the key, show it. */
    assert_refused(ERROR_FAILED_PRECONDITION, recover(&disk, 0, false, &err));
}

static void a_superblock_of_another_form_is_refused(void **state)
{
    static const struct {
        off_t at;
        uint8_t value;
    } changes[] = { { 12, 0 }, { 13, 0xff }, { 16, 1 }, { 22, 0xff }, { 24, 1 }, { 9, 3 } };
    struct error err = ERROR_INIT;

    (void)state;
    make(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    disk_must_close(&disk);
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        const off_t at = LAYOUT_DATA_OFFSET + changes[i].at;
        uint8_t was = 0;

        assert_ok(fd_pread_all(disk.file, &was, 1, at, &err));
        assert_ok(fd_pwrite_all(disk.file, &changes[i].value, 1, at, &err));
        assert_refused(ERROR_DATA_LOSS, recover(&disk, 0, false, &err));
        assert_string_equal(err.reason, "HeaderChanged");
        assert_ok(fd_pwrite_all(disk.file, &was, 1, at, &err));
    }
    must_recover(&disk, 0, false);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_teardown(f, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(each_mode_is_read_by_either_header_and_not_changed),
        CASE(a_half_initialised_volume_that_was_not_closed_is_read),
        CASE(a_volume_that_has_grown_is_read),
        CASE(a_volume_of_two_groups_is_read),
        CASE(a_size_between_two_blocks_is_rounded_up),
        CASE(a_volume_without_a_journal_is_read),
        CASE(copies_open_with_the_same_key_and_by_the_broker),
        CASE(what_is_written_stays_and_the_broker_then_refuses),
        CASE(another_key_opens_nothing),
        CASE(a_volume_without_a_certificate_has_no_token),
        CASE(the_record_says_which_token_the_header_has),
        CASE(a_changed_token_is_noticed_by_the_broker),
        CASE(a_superblock_of_another_form_is_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup_certificates, teardown_certificates);
}
