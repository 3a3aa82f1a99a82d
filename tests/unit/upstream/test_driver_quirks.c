/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"
#include "tests/unit/upstream/driver.h"
#include "upstream/driver_quirks.h"

#include <stdio.h>

static struct driver driver;
static struct upstream *upstream;
static struct error err;

static int start(bool by_workers)
{
    char target[128];

    driver = (struct driver){ .stages = true };
    err = (struct error)ERROR_INIT;
    driver_start(&driver);
    (void)snprintf(target, sizeof(target), "unix:%s", driver.socket);
    const struct upstream_options options = { .target = by_workers ? NULL : target,
                                              .socket = "/the/real.sock",
                                              .workers = by_workers ? &driver.workers : NULL };

    assert_ok(upstream_new(&options, &upstream, &err));
    return 0;
}

static int set_up_controller(void **state UNUSED)
{
    return start(false);
}

static int set_up_node(void **state UNUSED)
{
    return start(true);
}

static int teardown(void **state UNUSED)
{
    upstream_free(upstream);
    driver_end(&driver);
    return 0;
}

static const struct quirks *find(void)
{
    const struct quirks *quirks = NULL;

    err = (struct error)ERROR_INIT;
    return upstream_quirks(upstream, UINT64_MAX, &quirks, &err) ? quirks : NULL;
}

static void a_driver_is_asked_until_it_has_said_its_name(void **state UNUSED)
{
    driver.faulty = "GetPluginInfo";
    driver.code = ERROR_INTERNAL;
    assert_refused(ERROR_INTERNAL, find());
    assert_contains(err.text, "/the/real.sock");
    driver.faulty = NULL;
    assert_ptr_equal(find(), quirks_of(DRIVER_NAME));
    const size_t n = driver_count(&driver, "GetPluginInfo");

    assert_ptr_equal(find(), quirks_of(DRIVER_NAME));
    assert_int_equal(driver_count(&driver, "GetPluginInfo"), n);
}

static void quirks_are_those_of_the_name_that_it_says(void **state UNUSED)
{
    driver.name = "pd.csi.storage.gke.io";
    assert_ptr_equal(find(), quirks_of("pd.csi.storage.gke.io"));
    assert_ptr_not_equal(find(), quirks_of(DRIVER_NAME));
}

static void a_driver_that_is_away_has_no_quirks_yet(void **state UNUSED)
{
    driver_stop(&driver);
    assert_refused(ERROR_UNAVAILABLE, find());
}

int main(void)
{
#define TEST(name)                                                      \
    cmocka_unit_test_setup_teardown(name, set_up_controller, teardown), \
    {                                                                   \
#name " by workers", name, set_up_node, teardown, NULL          \
    }
    const struct CMUnitTest tests[] = {
        TEST(a_driver_is_asked_until_it_has_said_its_name),
        TEST(quirks_are_those_of_the_name_that_it_says),
        TEST(a_driver_that_is_away_has_no_quirks_yet),
    };

    return RUN_TESTS(tests);
}
