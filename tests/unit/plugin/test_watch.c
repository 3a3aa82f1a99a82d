/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/watch.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define GIB (1ll << 30)

/* The plugin's fake, but WATCH sends the events that the test gives. */
static struct fake *f;
static struct workers inner;
static struct error err;
static char id[VOLUME_ID_MAX + 1];
static sem_t watched;
static struct block_message events[16];
static size_t n_events;
static atomic_uint renewals;
static bool refuse_renewals, is_crowded;
static atomic_uint good_renewals;

static bool run(void *cookie, const struct block_run *block_run, struct block_result *out,
                struct error *run_err)
{
    const struct timespec step = { .tv_nsec = 5 * 1000 * 1000 };

    if (block_run->request->operation == BLOCK_RENEW) {
        renewals++;
        good_renewals += strcmp(block_run->request->volume_id, "good") == 0;
        if (strncmp(block_run->request->volume_id, "hung", 4) == 0)
            (void)nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
        return !refuse_renewals || error_set_reason(run_err, ERROR_FAILED_PRECONDITION,
                                                    LEASE_LOST_REASON, "opened elsewhere");
    }
    if (block_run->request->operation != BLOCK_WATCH)
        return inner.run(cookie, block_run, out, run_err);
    for (size_t i = 0; i < n_events; i++)
        block_run->hooks->event(block_run->hook_cookie, &events[i]);
    sem_post(&watched);
    while (!block_run->is_cancelled(block_run->cancel_cookie)) {
        (void)nanosleep(&step, NULL);
        for (size_t i = 0; is_crowded && i < n_events; i++)
            block_run->hooks->event(block_run->hook_cookie, &events[i]);
    }
    return error_set(run_err, ERROR_CANCELLED, "end");
}

static int set_up(void **state UNUSED)
{
    auto_arena struct arena arena = { .limit = 16u << 20 };

    f = fake_new();
    inner = f->plugin.workers;
    f->plugin.workers.run = run;
    sem_init(&watched, 0, 0);
    n_events = 0;
    renewals = 0;
    refuse_renewals = is_crowded = false;
    good_renewals = 0;
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume", fake_create("a", GIB, fake_mount("")),
                  &arena, &err);
    (void)snprintf(id, sizeof(id), "%s", response->volume->volume_id);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    sem_destroy(&watched);
    fake_free(f);
    return 0;
}

static void tell(enum block_event_kind kind, uint64_t count)
{
    struct block_message *event = &events[n_events++];

    *event = (struct block_message){ .event = kind, .count = count };
    (void)snprintf(event->volume_id, sizeof(event->volume_id), "%s", id);
}

static struct health_report watch_once(void)
{
    struct watch *watch = NULL;
    struct health_report report;
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    assert_ok(watch_start(&f->plugin, &watch, &err));
    assert_int_equal(sem_timedwait(&watched, &end), 0);
    watch_stop(watch);
    health_get(f->plugin.health, id, &report);
    return report;
}

static void nothing_happens_to_healthy_volumes(void **state UNUSED)
{
    assert_int_equal(watch_once().n, 0);
    watch_stop(NULL);
}

static void failures_are_said_in_the_words_of_health(void **state UNUSED)
{
    tell(BLOCK_EVENT_FAILED, 0);
    tell(BLOCK_EVENT_INTEGRITY_ERROR, 7);
    tell(BLOCK_EVENT_OVERFLOW, 0);
    tell(BLOCK_EVENT_SHUT_DOWN, 0);
    tell(BLOCK_EVENT_READ_ONLY, 0);
    tell(BLOCK_EVENT_WRITE_FAILED, 0);
    tell(BLOCK_EVENT_DEVICE_GONE, 0);
    struct health_report report = watch_once();
    assert_int_equal(report.n, 7);
    assert_string_equal(report.entries[0].reason, "MapFailed");
    assert_string_equal(report.entries[1].reason, "DeviceGone");
    assert_int_equal(report.entries[1].status, HEALTH_INACCESSIBLE);
    assert_non_null(strstr(report.entries[1].message, "end the pods"));
    assert_string_equal(report.entries[2].reason, "IntegrityErrors");
    assert_string_equal(report.entries[3].reason, "OverlayFull");
    assert_string_equal(report.entries[4].reason, "FileSystemShutDown");
    assert_string_equal(report.entries[5].reason, "FileSystemReadOnly");
    assert_string_equal(report.entries[6].reason, "WritesFailed");
    assert_int_equal(report.integrity_errors, 7);
}

static bool has_lease_lost(const struct health_report *report)
{
    for (size_t i = 0; i < report->n; i++)
        if (strcmp(report->entries[i].reason, "LeaseLost") == 0)
            return true;
    return false;
}

static bool is_well(void)
{
    struct health_report report;

    health_get(f->plugin.health, id, &report);
    return !has_lease_lost(&report);
}

/* Until the keeper's thread has run RENEW, or for 20 seconds. */
static bool is_well_again(void)
{
    const struct timespec step = { .tv_nsec = 5 * 1000 * 1000 };

    for (int i = 0; i < 4000 && !is_well(); i++)
        (void)nanosleep(&step, NULL);
    return is_well();
}

static void a_lease_that_is_over_is_told_until_it_is_renewed(void **state UNUSED)
{
    struct watch *watch = NULL;

    tell(BLOCK_EVENT_LEASE_OVER, 0);
    struct health_report report = watch_once();
    assert_true(has_lease_lost(&report));
    assert_int_equal(report.entries[0].status, HEALTH_INACCESSIBLE);
    n_events = 0;
    tell(BLOCK_EVENT_LEASE_DUE, 0);
    tell(BLOCK_EVENT_LEASE_DUE, 0);
    assert_ok(watch_start(&f->plugin, &watch, &err));
    assert_true(is_well_again());
    watch_stop(watch);
    assert_true(renewals >= 1);
}

/* More volumes than threads, whose disks hang: their renewals take long, and are asked for again and again. */
static void volumes_that_hang_do_not_keep_others_from_their_leases(void **state UNUSED)
{
    const struct timespec step = { .tv_nsec = 5 * 1000 * 1000 };
    struct watch *watch = NULL;

    for (int i = 0; i < 9; i++) {
        tell(BLOCK_EVENT_LEASE_DUE, 0);
        (void)snprintf(events[i].volume_id, sizeof(events[i].volume_id), "hung%d", i);
    }
    (void)snprintf(events[8].volume_id, sizeof(events[8].volume_id), "good");
    is_crowded = true;
    assert_ok(watch_start(&f->plugin, &watch, &err));
    for (int i = 0; i < 400 && good_renewals < 3; i++)
        (void)nanosleep(&step, NULL);
    watch_stop(watch);
    assert_true(good_renewals >= 3);
}

static void a_renewal_that_is_refused_is_told(void **state UNUSED)
{
    struct watch *watch = NULL;
    struct health_report report;

    refuse_renewals = true;
    tell(BLOCK_EVENT_LEASE_DUE, 0);
    assert_ok(watch_start(&f->plugin, &watch, &err));
    for (int i = 0; i < 4000 && is_well(); i++)
        (void)nanosleep(&(struct timespec){ .tv_nsec = 5 * 1000 * 1000 }, NULL);
    watch_stop(watch);
    health_get(f->plugin.health, id, &report);
    assert_true(has_lease_lost(&report));
    assert_contains(report.entries[0].message, "opened elsewhere");
}

static void a_watcher_that_cannot_work_is_started_ever_less_often(void **state UNUSED)
{
    static const uint64_t expected[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };
    uint64_t retry_ms = 0;

    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        retry_ms = background_retry_ms(retry_ms, 5);
        assert_int_equal(retry_ms, expected[i]);
    }
    assert_int_equal(background_retry_ms(retry_ms, 3600000), 1000);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(nothing_happens_to_healthy_volumes),
        T(a_watcher_that_cannot_work_is_started_ever_less_often),
        T(a_lease_that_is_over_is_told_until_it_is_renewed),
        T(volumes_that_hang_do_not_keep_others_from_their_leases),
        T(a_renewal_that_is_refused_is_told),
        T(failures_are_said_in_the_words_of_health),
    };

    return RUN_TESTS(tests);
}
