/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/test.h"
#include "tests/unit/upstream/driver.h"
#include "upstream/upstream.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS 8u

static struct driver driver;
static struct upstream *upstream;
static struct arena arena;
static struct error err;
static char observed[64];
static enum error_code observed_code;
static bool is_node; /* workers make the calls */

static void observe(void *cookie UNUSED, const char *method, enum error_code code,
                    uint64_t elapsed_ms UNUSED)
{
    (void)snprintf(observed, sizeof(observed), "%s", method);
    observed_code = code;
}

static int start(bool by_workers)
{
    char target[128];

    driver = (struct driver){ .stages = true };
    err = (struct error)ERROR_INIT;
    arena_init_secret(&arena, 1u << 20);
    driver_start(&driver);
    (void)snprintf(target, sizeof(target), "unix:%s", driver.socket);
    const struct upstream_options options = { .target = by_workers ? NULL : target,
                                              .socket = "/the/real.sock",
                                              .workers = by_workers ? &driver.workers : NULL,
                                              .threads = THREADS,
                                              .observe = observe };

    assert_ok(upstream_new(&options, &upstream, &err));
    is_node = by_workers;
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
    arena_wipe(&arena);
    return 0;
}

static bool expand(uint64_t deadline_ms)
{
    const Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;
    const struct upstream_node_call call = { "vol", "NodeExpandVolume", &request.base, 1, true };
    ProtobufCMessage *response = NULL;

    err = (struct error)ERROR_INIT;
    if (is_node)
        return upstream_call_node(upstream, &call, deadline_ms, &arena, &err);
    return upstream_call(upstream, &csi__v1__node__descriptor, "NodeExpandVolume", &request.base,
                         deadline_ms, &arena, &response, &err);
}

static void errors_have_its_code_and_its_name(void **state UNUSED)
{
    driver.faulty = "NodeExpandVolume";
    for (int code = ERROR_INVALID_ARGUMENT; code <= ERROR_DATA_LOSS; code++) {
        driver.code = (enum error_code)code;
        assert_refused((enum error_code)code, expand(UINT64_MAX));
        assert_contains(err.text, DRIVER_NAME);
        assert_contains(err.text, "the driver says no");
        assert_string_equal(observed, "NodeExpandVolume");
        assert_int_equal(observed_code, code);
    }
    assert_string_equal(upstream_name(upstream), DRIVER_NAME);
    assert_int_equal(driver_count(&driver, "GetPluginInfo"), 1);
}

static void one_that_is_away_is_named_by_its_socket_and_found_again(void **state UNUSED)
{
    driver_stop(&driver);
    assert_refused(ERROR_UNAVAILABLE, expand(UINT64_MAX));
    assert_contains(err.text, "/the/real.sock");
    assert_string_equal(upstream_name(upstream), "/the/real.sock");
    driver_start(&driver);
    for (int i = 0; i < 50 && !expand(UINT64_MAX); i++)
        usleep(100000);
    assert_ok(expand(UINT64_MAX));
    driver_stop(&driver);
    assert_refused(ERROR_UNAVAILABLE, expand(UINT64_MAX));
    assert_contains(err.text, DRIVER_NAME);
    assert_contains(err.text, "/the/real.sock");
}

static void some_of_our_time_is_kept_back(void **state UNUSED)
{
    assert_ok(expand(clock_now_ms() + 10000));
    assert_in_range(driver.time_left_ms, 8000, 9600);
    assert_ok(expand(clock_now_ms() + 100)); /* too little to be of use */
    assert_in_range(driver.time_left_ms, 500, UPSTREAM_LEAST_MS + 100);
    assert_ok(expand(UINT64_MAX));
    assert_in_range(driver.time_left_ms, UPSTREAM_LIMIT_MS - 2000, UPSTREAM_LIMIT_MS + 1000);
}

static void a_slow_one_ends_at_the_deadline(void **state UNUSED)
{
    driver.delay_ms = 3000;
    uint64_t began_ms = clock_now_ms();

    assert_refused(ERROR_DEADLINE_EXCEEDED, expand(clock_now_ms() + 1600));
    assert_true(clock_now_ms() - began_ms < 2800);
}

static bool can_stage(void)
{
    bool yes = false;

    assert_ok(upstream_node_can(upstream,
                                CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME,
                                UINT64_MAX, &yes, &err));
    return yes;
}

static void capabilities_are_asked_once_until_it_was_away(void **state UNUSED)
{
    bool yes = true;

    assert_true(can_stage());
    assert_true(can_stage());
    assert_ok(upstream_node_can(upstream, (Csi__V1__NodeServiceCapability__RPC__Type)4000,
                                UINT64_MAX, &yes, &err));
    assert_false(yes); /* a number that no version has */
    assert_int_equal(driver_count(&driver, "NodeGetCapabilities"), 1);
    driver_stop(&driver);
    assert_refused(ERROR_UNAVAILABLE, expand(UINT64_MAX));
    driver.stages = false;
    driver_start(&driver);
    for (int i = 0; i < 50 && !expand(UINT64_MAX); i++)
        usleep(100000);
    assert_false(can_stage());
}

static void a_failed_question_is_asked_again(void **state UNUSED)
{
    bool yes = false;

    driver.faulty = "NodeGetCapabilities";
    driver.code = ERROR_INTERNAL;
    assert_refused(ERROR_INTERNAL,
                   upstream_node_can(
                       upstream, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME,
                       UINT64_MAX, &yes, &err));
    driver.faulty = NULL;
    assert_true(can_stage());
}

static bool call_once(const char *method, const ProtobufCMessage *request, struct error *failure)
{
    auto_arena struct arena own = { .limit = 1u << 16 };
    const struct upstream_node_call call = { "vol", method, request, 0, true };
    ProtobufCMessage *response = NULL;

    *failure = (struct error)ERROR_INIT;
    if (is_node)
        return upstream_call_node(upstream, &call, UINT64_MAX, &own, failure);
    return upstream_call(upstream, &csi__v1__node__descriptor, method, request, UINT64_MAX, &own,
                         &response, failure);
}

static bool unstage(struct error *failure)
{
    const Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

    return call_once("NodeUnstageVolume", &request.base, failure);
}

static void *expand_once(void *done)
{
    const Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;
    struct error failure;

    *(bool *)done = call_once("NodeExpandVolume", &request.base, &failure);
    return NULL;
}

static void one_that_hangs_does_not_get_all_threads(void **state UNUSED)
{
    pthread_t threads[UPSTREAM_SHARE(THREADS)];
    bool done[ARRAY_LEN(threads)] = { false };
    struct error failure;

    assert_int_equal(ARRAY_LEN(threads), 6);
    assert_true(unstage(&failure)); /* its name is known from here on */
    driver.delay_ms = 1000;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, expand_once, &done[i]), 0);
    usleep(300000);
    assert_refused(ERROR_UNAVAILABLE, expand(UINT64_MAX));
    assert_contains(err.text, "6 calls wait for this driver, so NodeExpandVolume was not called");
    assert_contains(err.text, DRIVER_NAME);
    assert_true(unstage(&failure)); /* it closes: there is room for one more */
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(done[i]);
    }
    driver.delay_ms = 0;
    assert_ok(expand(UINT64_MAX));
}

int main(void)
{
#define TEST(name)                                                      \
    cmocka_unit_test_setup_teardown(name, set_up_controller, teardown), \
    {                                                                   \
#name " by workers", name, set_up_node, teardown, NULL          \
    }
    const struct CMUnitTest tests[] = {
        TEST(errors_have_its_code_and_its_name),
        TEST(one_that_is_away_is_named_by_its_socket_and_found_again),
        TEST(some_of_our_time_is_kept_back),
        TEST(a_slow_one_ends_at_the_deadline),
        TEST(capabilities_are_asked_once_until_it_was_away),
        TEST(a_failed_question_is_asked_again),
        TEST(one_that_hangs_does_not_get_all_threads),
    };

    return RUN_TESTS(tests);
}
