/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kernel_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char device[KERNEL_LOG_DEVICE_LEN];

static void an_authentication_error_names_its_device(void **state)
{
    (void)state;
    assert_true(kernel_log_integrity_error(
        "3,812,90211,-;device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8\n", device));
    assert_string_equal("dm-3", device);
    assert_true(kernel_log_integrity_error(
        "3,812,90211,-;trusted_key: device-mapper: crypt: dm-12: INTEGRITY AEAD ERROR, sector 8\n",
        device));
    assert_string_equal("dm-12", device);
    assert_true(kernel_log_integrity_error(
        "3,9,1,-;device-mapper: integrity: dm-2: Checksum failed at sector 0x10\n", device));
    assert_string_equal("dm-2", device);
}

static void anything_else_is_no_authentication_error(void **state)
{
    (void)state;
    static const char *const records[] = {
        "",
        ";",
        "3,8,9,-;",
        "device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8",
        "3,8,9,-;device-mapper: crypt: INTEGRITY AEAD ERROR, sector 8",
        "3,8,9,-;device-mapper: crypt: dm-: INTEGRITY AEAD ERROR, sector 8",
        "3,8,9,-;device-mapper: crypt: sda: INTEGRITY AEAD ERROR, sector 8",
        "3,8,9,-;device-mapper: crypt: dm-3/../x: INTEGRITY AEAD ERROR, sector 8",
        "3,8,9,-;device-mapper: crypt: dm-3: Error decrypting",
        "3,8,9,-;device-mapper: crypt: dm-3",
        "3,8,9,-;device-mapper: crypt: dm-11111111111111111111111111111111111: INTEGRITY AEAD ERROR",
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        assert_false(kernel_log_integrity_error(records[i], device));
}

static void a_user_cannot_speak_for_the_kernel(void **state)
{
    (void)state;
    assert_false(kernel_log_integrity_error(
        "12,8,9,-;device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8", device));
}

static void a_fault_of_a_file_system_names_its_device(void **state)
{
    (void)state;
    static const struct {
        const char *record, *device;
        enum kernel_log_fault fault;
    } cases[] = {
        { "5,8,9,-;XFS (dm-2): User initiated shutdown received.", "dm-2", KERNEL_LOG_SHUT_DOWN },
        { "1,8,9,-;XFS (dm-2): Log I/O Error (0x6) detected at xfs_fs_goingdown+0xbc/0xc2 "
          "(fs/xfs/xfs_fsops.c:498).  Shutting down filesystem.",
          "dm-2", KERNEL_LOG_SHUT_DOWN },
        { "1,8,9,-;XFS (dm-14): Filesystem has been shut down due to log error (0x2).", "dm-14",
          KERNEL_LOG_SHUT_DOWN },
        { "2,8,9,-;EXT4-fs (dm-3): shut down requested (1)", "dm-3", KERNEL_LOG_SHUT_DOWN },
        { "2,8,9,-;EXT4-fs (dm-3): Remounting filesystem read-only\n", "dm-3",
          KERNEL_LOG_READ_ONLY },
        { "2,8,9,-;EXT4-fs error (device dm-3): ext4_journal_check_start:83: comm x: Detected "
          "aborted journal",
          "dm-3", KERNEL_LOG_READ_ONLY },
        { "3,8,9,-;Aborting journal on device dm-3-8.", "dm-3", KERNEL_LOG_READ_ONLY },
        { "4,8,9,-;EXT4-fs warning (device dm-3): ext4_end_bio:343: I/O error 3 writing to inode "
          "12 starting block 8)",
          "dm-3", KERNEL_LOG_WRITE_FAILED },
        { "3,8,9,-;Buffer I/O error on dev dm-3, logical block 7, lost async page write", "dm-3",
          KERNEL_LOG_WRITE_FAILED },
        { "3,8,9,-;dm-4: writeback error on inode 131, offset 0, sector 1024", "dm-4",
          KERNEL_LOG_WRITE_FAILED },
        { "2,8,9,-;critical space allocation error, dev loop7, sector 64 op 0x1:(WRITE) flags 0x0",
          "loop7", KERNEL_LOG_WRITE_FAILED },
        { "3,8,9,-;I/O error, dev loop0, sector 64 op 0x1:(WRITE) flags 0x800 phys_seg 1", "loop0",
          KERNEL_LOG_WRITE_FAILED },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(cases[i].fault, kernel_log_find_fault(cases[i].record, device));
        assert_string_equal(cases[i].device, device);
    }
}

static void other_records_are_no_fault(void **state)
{
    (void)state;
    static const char *const records[] = {
        "",
        ";",
        "5,8,9,-;",
        "5,8,9,-;XFS (dm-2): Ending clean mount",
        "5,8,9,-;XFS (dm-2",
        "5,8,9,-;XFS (dm-): Shutting down filesystem.",
        "5,8,9,-;XFS (sda1): Shutting down filesystem.",
        "5,8,9,-;XFS (dm-2/../x): Shutting down filesystem.",
        "5,8,9,-;XFS (dm-111111111111111111111111111111111): Shutting down filesystem.",
        "12,8,9,-;XFS (dm-2): Shutting down filesystem.",
        "5,8,9,-;x XFS (dm-2): Shutting down filesystem.",
        "3,8,9,-;I/O error, dev loop0, sector 64 op 0x0:(READ) flags 0x800 phys_seg 1",
        "3,8,9,-;Buffer I/O error on dev dm-3, logical block 7, async page read",
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        assert_int_equal(KERNEL_LOG_NO_FAULT, kernel_log_find_fault(records[i], device));
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authentication_error_names_its_device),
        cmocka_unit_test(anything_else_is_no_authentication_error),
        cmocka_unit_test(a_fault_of_a_file_system_names_its_device),
        cmocka_unit_test(other_records_are_no_fault),
        cmocka_unit_test(a_user_cannot_speak_for_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
