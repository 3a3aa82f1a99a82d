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

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authentication_error_names_its_device),
        cmocka_unit_test(anything_else_is_no_authentication_error),
        cmocka_unit_test(a_user_cannot_speak_for_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
