/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/http.h"
#include "plugin/watch.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdatomic.h>
#include <stdlib.h>

/*
 * Many callers at once on a few volumes, while the watcher and a reader of metrics are at work. It
 * gives ThreadSanitizer work, and checks that every refused call is told to retry.
 */
#define THREADS 6
#define ROUNDS  40
#define MIB     (1ll << 20)

static struct fake *f;
static struct metrics *metrics;
static atomic_uint n_done, n_aborted;

static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

/* True when the call succeeded. A refusal must be one that callers retry, or one that a race with
 * another caller explains. */
static bool call(const struct rpc_service *service, const char *method, const void *request,
                 struct arena *arena, void **response)
{
    struct error err = ERROR_INIT;
    void *found = fake_call(f, service, method, request, arena, &err);

    metrics_observe(metrics, METRICS_RPC, method, err.code, 1);
    if (response)
        *response = found;
    (void)atomic_fetch_add(found ? &n_done : &n_aborted, 1);
    if (!found && err.code != ERROR_ABORTED && err.code != ERROR_NOT_FOUND &&
        err.code != ERROR_FAILED_PRECONDITION)
        fail_msg("%s: %s: %s", method, error_code_name(err.code), err.text);
    return found != NULL;
}

static void stage_and_unstage(char *id, struct arena *arena)
{
    Csi__V1__NodeStageVolumeRequest stage = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
    Csi__V1__NodeUnstageVolumeRequest unstage = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
    Csi__V1__NodeGetVolumeHealthRequest health = CSI__V1__NODE_GET_VOLUME_HEALTH_REQUEST__INIT;

    stage.volume_id = unstage.volume_id = health.volume_id = id;
    stage.staging_target_path = unstage.staging_target_path = text("/stage");
    stage.volume_capability = fake_mount("ext4");
    (void)call(&node_service, "NodeStageVolume", &stage, arena, NULL);
    (void)call(&node_service, "NodeGetVolumeHealth", &health, arena, NULL);
    (void)call(&node_service, "NodeUnstageVolume", &unstage, arena, NULL);
}

static void *live(void *cookie)
{
    static const char *const names[] = { "a", "b", "c" };
    unsigned seed = (unsigned)(uintptr_t)cookie;

    for (unsigned i = 0; i < ROUNDS; i++) {
        auto_arena struct arena arena = { .limit = 4u << 20 };
        Csi__V1__DeleteVolumeRequest delete = CSI__V1__DELETE_VOLUME_REQUEST__INIT;
        const char *name = names[(i + seed) % ARRAY_LEN(names)];
        void *made = NULL;

        if (!call(&controller_service, "CreateVolume",
                  fake_create(name, 64 * MIB, fake_mount("ext4")), &arena, &made))
            continue;
        char *id = ((Csi__V1__CreateVolumeResponse *)made)->volume->volume_id;
        stage_and_unstage(id, &arena);
        delete.volume_id = id;
        (void)call(&controller_service, "DeleteVolume", &delete, &arena, NULL);
    }
    return NULL;
}

static void *read_metrics(void *cookie)
{
    const atomic_bool *is_over = cookie;

    while (!atomic_load(is_over)) {
        auto_free char *page = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&page, &len);

        if (!out)
            return NULL;
        http_print_metrics(&f->plugin, metrics, out);
        if (fclose(out) != 0)
            return NULL;
    }
    return NULL;
}

static void callers_do_not_hurt_each_other(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    struct watch *watch = NULL;
    pthread_t threads[THREADS], reader;
    atomic_bool is_over = false;

    f = fake_new();
    assert_ok(metrics_new(&metrics, &err));
    assert_ok(watch_start(&f->plugin, &watch, &err));
    assert_int_equal(pthread_create(&reader, NULL, read_metrics, &is_over), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, live, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    atomic_store(&is_over, true);
    assert_int_equal(pthread_join(reader, NULL), 0);
    watch_stop(watch);
    assert_true(atomic_load(&n_done) >= ROUNDS);

    /* The volumes that are left are whole: one caller can take them down. */
    atomic_store(&n_aborted, 0);
    (void)live(NULL);
    for (size_t i = 0; i < FAKE_MAX; i++)
        assert_false(f->records[i].is_present || f->volumes[i].has_file);
    assert_int_equal(atomic_load(&n_aborted), 0);
    metrics_free(metrics);
    fake_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_do_not_hurt_each_other),
    };

    return RUN_TESTS(tests);
}
