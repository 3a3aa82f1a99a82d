/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/watch.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <semaphore.h>
#include <stdio.h>
#include <time.h>

#define GIB (1ll << 30)

/* The plugin's fake, but WATCH sends the events that the test gives, and FINISH counts its calls.
 * */
static struct fake *f;
static struct workers inner;
static struct error err;
static char id[129];
static sem_t finished;
static struct block_message events[4];
static size_t n_events;
static unsigned finish_fails;

static bool run(void *cookie, const struct block_run *block_run, struct block_result *out,
                struct error *run_err)
{
    const struct timespec step = { .tv_nsec = 5 * 1000 * 1000 };

    if (block_run->request->operation == BLOCK_FINISH) {
        if (finish_fails > 0) {
            finish_fails--;
            return error_set(run_err, ERROR_UNAVAILABLE, "broker");
        }
        *out = (struct block_result){ .already = false };
        sem_post(&finished);
        return true;
    }
    if (block_run->request->operation != BLOCK_WATCH)
        return inner.run(cookie, block_run, out, run_err);
    for (size_t i = 0; i < n_events; i++)
        block_run->hooks->event(block_run->hook_cookie, &events[i]);
    sem_post(&finished);
    while (!block_run->is_cancelled(block_run->cancel_cookie))
        (void)nanosleep(&step, NULL);
    return error_set(run_err, ERROR_CANCELLED, "end");
}

static int set_up(void **state UNUSED)
{
    auto_arena struct arena arena = { .limit = 16u << 20 };

    f = fake_new();
    inner = f->plugin.workers;
    f->plugin.workers.run = run;
    sem_init(&finished, 0, 0);
    n_events = 0;
    finish_fails = 0;
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume", fake_create("a", GIB, fake_mount("")),
                  &arena, &err);
    (void)snprintf(id, sizeof(id), "%s", response->volume->volume_id);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    sem_destroy(&finished);
    fake_free(f);
    return 0;
}

static void tell(enum block_event_kind kind, uint64_t done, uint64_t total)
{
    struct block_message *event = &events[n_events++];

    *event = (struct block_message){ .event = kind, .done = done, .total = total };
    (void)snprintf(event->volume_id, sizeof(event->volume_id), "%s", id);
}

static void wait_for(unsigned times)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    while (times-- > 0)
        assert_int_equal(sem_timedwait(&finished, &end), 0);
}

static struct health_report watch_once(unsigned times)
{
    struct watch *watch = NULL;
    struct health_report report;

    assert_ok(watch_start(&f->plugin, &watch, &err));
    wait_for(times);
    watch_stop(watch);
    health_get(f->plugin.health, id, &report);
    return report;
}

static void nothing_happens_to_healthy_volumes(void **state UNUSED)
{
    tell(BLOCK_EVENT_STAGED, 0, 0);
    assert_int_equal(watch_once(1).n, 0);
    watch_stop(NULL);
}

static void progress_is_initialisation(void **state UNUSED)
{
    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    struct health_report report = watch_once(1);
    assert_int_equal(report.n, 1);
    assert_string_equal(report.entries[0].reason, "Initialising");
    assert_true(report.initialised > 0.49 && report.initialised < 0.51);
}

static void progress_of_a_thin_volume_is_no_news(void **state UNUSED)
{
    fake_record(f, id)->record.spec.initialisation = INITIALISATION_ON_WRITE;
    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    assert_int_equal(watch_once(1).n, 0);
}

static void failures_are_said_in_the_words_of_health(void **state UNUSED)
{
    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    tell(BLOCK_EVENT_FAILED, 0, 0);
    tell(BLOCK_EVENT_INTEGRITY_ERROR, 7, 0);
    tell(BLOCK_EVENT_OVERFLOW, 0, 0);
    struct health_report report = watch_once(1);
    assert_int_equal(report.n, 3);
    assert_string_equal(report.entries[0].reason, "MapFailed");
    assert_string_equal(report.entries[1].reason, "IntegrityErrors");
    assert_string_equal(report.entries[2].reason, "OverlayFull");
    assert_int_equal(report.integrity_errors, 7);
}

static void initialised_volume_is_finished_once(void **state UNUSED)
{
    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    tell(BLOCK_EVENT_HYDRATED, 2, 2);
    tell(BLOCK_EVENT_HYDRATED, 2, 2);
    assert_int_equal(watch_once(2).n, 0);
}

static void finish_is_tried_again_while_the_broker_is_away(void **state UNUSED)
{
    finish_fails = 1;
    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    tell(BLOCK_EVENT_HYDRATED, 2, 2);
    assert_int_equal(watch_once(2).n, 0);
    assert_int_equal(finish_fails, 0);
}

static void busy_volume_is_finished_later(void **state UNUSED)
{
    struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct watch *watch = NULL;
    struct health_report report;

    tell(BLOCK_EVENT_PROGRESS, 1, 2);
    tell(BLOCK_EVENT_HYDRATED, 2, 2);
    assert_ok(inflight_take(f->plugin.inflight, id, "NodeStageVolume", &hold, &err));
    assert_ok(watch_start(&f->plugin, &watch, &err));
    wait_for(1);
    health_get(f->plugin.health, id, &report);
    assert_int_equal(report.n, 1);
    inflight_release(&hold);
    wait_for(1);
    watch_stop(watch);
    health_get(f->plugin.health, id, &report);
    assert_int_equal(report.n, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(nothing_happens_to_healthy_volumes),   T(progress_is_initialisation),
        T(progress_of_a_thin_volume_is_no_news), T(failures_are_said_in_the_words_of_health),
        T(initialised_volume_is_finished_once),  T(finish_is_tried_again_while_the_broker_is_away),
        T(busy_volume_is_finished_later),
    };

    return RUN_TESTS(tests);
}
