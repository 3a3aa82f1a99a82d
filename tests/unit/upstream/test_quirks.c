/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"
#include "upstream/quirks.h"

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
        assert_int_equal(quirks_size(quirks_of(names[i]), 12345), 12345);
    }
}

static void sizes_are_rounded_up_for_drivers_that_cut_them(void **state UNUSED)
{
    const struct quirks *pd = quirks_of("pd.csi.storage.gke.io");

    assert_int_equal(quirks_size(pd, 1), 1 << 30);
    assert_int_equal(quirks_size(pd, 1 << 30), 1 << 30);
    assert_int_equal(quirks_size(pd, (UINT64_C(64) << 40) + 1), (UINT64_C(64) << 40) + (1 << 30));
    assert_int_equal(quirks_size(quirks_of("hostpath.csi.k8s.io"), (1 << 20) + 4096), 2 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_drivers_have_their_row),
        cmocka_unit_test(all_others_do_what_csi_says),
        cmocka_unit_test(sizes_are_rounded_up_for_drivers_that_cut_them),
    };

    return RUN_TESTS(tests);
}
