/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"
#include "upstream/quirks.h"

static struct error err;

static int64_t size(const char *driver, uint64_t bytes)
{
    int64_t out = 0;

    assert_ok(quirks_size(quirks_of(driver), bytes, &out, &err));
    return out;
}

static void known_drivers_have_their_row(void **state UNUSED)
{
    assert_true(quirks_of("rbd.csi.ceph.com")->validates_blindly);
    assert_true(quirks_of("csi.vsphere.vmware.com")->validates_blindly);
    assert_string_equal(quirks_of("rbd.csi.ceph.com")->driver, "rbd.csi.ceph.com");
}

/* Before it said its name, a driver is known by its socket. */
static void all_others_do_what_csi_says(void **state UNUSED)
{
    static const char *const names[] = { "", "rbd.csi.ceph.co", "rbd.csi.ceph.com2",
                                         "/run/rbd.csi.ceph.com/csi.sock", "ebs.csi.aws.com" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_null(quirks_of(names[i])->driver);
        assert_false(quirks_of(names[i])->validates_blindly);
        assert_int_equal(quirks_of(names[i])->pause_ms, 0);
        assert_int_equal(size(names[i], 12345), 12345);
    }
}

static void sizes_are_rounded_up_for_drivers_that_cut_them(void **state UNUSED)
{
    static const char pd[] = "pd.csi.storage.gke.io";

    assert_int_equal(size(pd, 1), 1 << 30);
    assert_int_equal(size(pd, 1 << 30), 1 << 30);
    assert_int_equal(size(pd, (UINT64_C(64) << 40) + 1), (UINT64_C(64) << 40) + (1 << 30));
    assert_int_equal(size("hostpath.csi.k8s.io", (1 << 20) + 4096), 2 << 20);
}

static void size_that_csi_has_no_number_for_is_refused(void **state UNUSED)
{
    static const char pd[] = "pd.csi.storage.gke.io";
    const uint64_t last = (UINT64_C(1) << 63) - (UINT64_C(1) << 30);
    int64_t out = 5;

    assert_int_equal(size("", INT64_MAX), INT64_MAX);
    assert_int_equal(size(pd, last), last);
    assert_refused(ERROR_OUT_OF_RANGE, quirks_size(quirks_of(pd), last + 1, &out, &err));
    assert_refused(ERROR_OUT_OF_RANGE, quirks_size(quirks_of(pd), UINT64_MAX, &out, &err));
    assert_refused(ERROR_OUT_OF_RANGE,
                   quirks_size(quirks_of(""), (uint64_t)INT64_MAX + 1, &out, &err));
    assert_int_equal(out, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_drivers_have_their_row),
        cmocka_unit_test(all_others_do_what_csi_says),
        cmocka_unit_test(sizes_are_rounded_up_for_drivers_that_cut_them),
        cmocka_unit_test(size_that_csi_has_no_number_for_is_refused),
    };

    return RUN_TESTS(tests);
}
