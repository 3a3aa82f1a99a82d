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
                                         "/run/rbd.csi.ceph.com/csi.sock",
                                         "pd.csi.storage.gke.io" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_null(quirks_of(names[i])->driver);
        assert_false(quirks_of(names[i])->validates_blindly);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_drivers_have_their_row),
        cmocka_unit_test(all_others_do_what_csi_says),
    };

    return RUN_TESTS(tests);
}
