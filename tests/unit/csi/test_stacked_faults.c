/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

#include <stdio.h>

/*
 * Each call to the broker and to the driver below fails once, in each way, in each operation. The
 * operation is then repeated, as the sidecars do, until it succeeds: nothing may be left behind, and
 * nothing may be lost.
 */

#define TRIES 4 /* an operation that was undone needs one more */

static char a[256], b[256], snapshot[256];

static void keep(char out[static 256], const char *id)
{
    if (!id)
        fail_msg("%s: %s", error_code_name(err.code), err.text);
    (void)snprintf(out, 256, "%s", id);
}

/* --- operations --- */

static void nothing(void)
{
}

static void volume(void)
{
    keep(a, scene_create("a", 64 * MIB));
}

static void used_volume(void)
{
    volume();
    scene_was_used(a);
}

static void two_volumes(void)
{
    used_volume();
    keep(b, scene_create("b", 64 * MIB));
}

static void volume_and_snapshot(void)
{
    used_volume();
    keep(snapshot, scene_snapshot("s", a));
}

static void published_volume(void)
{
    volume();
    assert_true(scene_publish(a, N1, false));
}

static void volume_published_to_readers(void)
{
    used_volume();
    assert_true(scene_publish(a, N1, true));
}

static void group(void)
{
    two_volumes();
    assert_non_null(scene_group("g", a, b));
}

static bool create(void)
{
    return scene_create("a", 64 * MIB);
}

static bool copy(void)
{
    return scene_create_from("c", 64 * MIB, RECORD_VOLUME, a);
}

static bool restore_larger(void)
{
    return scene_create_from("c", 128 * MIB, RECORD_SNAPSHOT, snapshot);
}

static bool take_snapshot(void)
{
    return scene_snapshot("s", a);
}

static bool take_group(void)
{
    return scene_group("g", a, b);
}

static bool publish(void)
{
    return scene_publish(a, N1, false);
}

static bool publish_to_second_reader(void)
{
    return scene_publish(a, N2, true);
}

static bool unpublish(void)
{
    return scene_unpublish(a, N1);
}

static bool unpublish_from_all(void)
{
    return scene_unpublish(a, "");
}

static bool expand(void)
{
    return scene_expand(a, 128 * MIB) == 128 * MIB;
}

static bool delete_it(void)
{
    return scene_delete(a);
}

static bool delete_snapshot(void)
{
    return scene_delete_snapshot(snapshot);
}

static bool delete_group(void)
{
    static char one[256], other[256];
    size_t n = 0;

    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present)
            (void)snprintf(n++ == 0 ? one : other, 256, "%s", u->snapshots[i].id);
    return scene_delete_group("group-g", one, other);
}

/* What is there in the end. */
struct end {
    size_t n_disks, n_snapshots;
    const char *nodes[2]; /* that have volume a */
};

static const struct operation {
    const char *name;
    void (*prepare)(void);
    bool (*act)(void);
    struct end end;
    bool source_is_used; /* between the first two calls */
} operations[] = {
    { "create", nothing, create, { .n_disks = 1 } },
    { "clone", used_volume, copy, { .n_disks = 2 } },
    { "clone of a volume in use", used_volume, copy, { .n_disks = 2 }, true },
    { "snapshot of a volume in use",
      used_volume,
      take_snapshot,
      { .n_disks = 1, .n_snapshots = 1 },
      true },
    { "group with a volume in use",
      two_volumes,
      take_group,
      { .n_disks = 2, .n_snapshots = 2 },
      true },
    { "clone of a blank volume", volume, copy, { .n_disks = 2 } },
    { "restore", volume_and_snapshot, restore_larger, { .n_disks = 2, .n_snapshots = 1 } },
    { "snapshot", used_volume, take_snapshot, { .n_disks = 1, .n_snapshots = 1 } },
    { "group", two_volumes, take_group, { .n_disks = 2, .n_snapshots = 2 } },
    { "publish", volume, publish, { .n_disks = 1, .nodes = { N1 } } },
    { "publish again", published_volume, publish, { .n_disks = 1, .nodes = { N1 } } },
    { "publish to a second reader",
      volume_published_to_readers,
      publish_to_second_reader,
      { .n_disks = 1, .nodes = { N1, N2 } } },
    { "unpublish", published_volume, unpublish, { .n_disks = 1 } },
    { "unpublish from all", published_volume, unpublish_from_all, { .n_disks = 1 } },
    { "expand", used_volume, expand, { .n_disks = 1 } },
    { "delete", used_volume, delete_it, { .n_disks = 0 } },
    { "delete snapshot", volume_and_snapshot, delete_snapshot, { .n_disks = 1 } },
    { "delete group", group, delete_group, { .n_disks = 2 } },
};

static const struct fake_fault faults[] = {
    { .code = ERROR_UNAVAILABLE },
    { .code = ERROR_DEADLINE_EXCEEDED },
    { .code = ERROR_ABORTED },
    { .code = ERROR_INTERNAL },
    { .code = ERROR_NOT_FOUND },
    { .code = ERROR_FAILED_PRECONDITION },
    { .code = ERROR_ALREADY_EXISTS },
    { .code = ERROR_INVALID_ARGUMENT },
    { .code = ERROR_RESOURCE_EXHAUSTED },
    { .code = ERROR_DENIED },
    { .code = ERROR_UNAUTHENTICATED },
    { .code = ERROR_UNIMPLEMENTED },
    { .code = ERROR_UNAVAILABLE, .is_lost = true },
    { .code = ERROR_DEADLINE_EXCEEDED, .is_lost = true },
    { .code = ERROR_INTERNAL, .is_lost = true },
};

static void clear(void)
{
    for (size_t i = 0; i < FAKE_MAX; i++) {
        f->records[i] = (struct fake_record){ .is_present = false };
        u->disks[i] = (struct fake_disk){ .is_present = false };
        u->snapshots[i] = (struct fake_snapshot){ .is_present = false };
    }
    f->n_log = 0;
    arena_wipe(&arena);
}

static void check_end(const struct operation *o)
{
    fake_upstream_check(u);
    if (fake_count_disks(u) != o->end.n_disks || fake_count_snapshots(u) != o->end.n_snapshots)
        fail_msg("%zu volumes and %zu snapshots are left", fake_count_disks(u),
                 fake_count_snapshots(u));
    for (size_t i = 0; i < ARRAY_LEN(o->end.nodes); i++)
        if (o->end.nodes[i] && !scene_is_published(a, o->end.nodes[i]))
            fail_msg("not published to %s", o->end.nodes[i]);
}

/* A pod goes on with the source before the call is repeated. */
static void use_source(void)
{
    struct record *record = &fake_record(f, a)->record;

    record->open_counter += 2;
    record->version++;
}

/* Nobody says that something is gone which is there. */
static bool is_a_lie(const struct fake_fault *fault, unsigned position)
{
    return fault->code == ERROR_NOT_FOUND && position < f->n_log &&
           (strcmp(f->log[position], "GetRecord") == 0 || strstr(f->log[position], "Delete"));
}

/* The driver answers with this error though it has made what was asked for, or the broker says that there
 * is another record. */
static bool is_wrong(const struct fake_fault *fault, unsigned position)
{
    const char *method = position < f->n_log ? f->log[position] : "";

    return strcmp(method, "CreateVolume") == 0 || strcmp(method, "CreateSnapshot") == 0 ||
           strcmp(method, "CreateVolumeGroupSnapshot") == 0 || fault->code == ERROR_ALREADY_EXISTS;
}

/* After such a code the sidecar may never call again. */
static void check_nothing_is_left(const struct operation *o, size_t n_before)
{
    size_t n = fake_count_disks(u) + fake_count_snapshots(u);

    if (n_before < o->end.n_disks + o->end.n_snapshots && n > n_before &&
        !stacked_has_decided(&err, DECIDED_TO_REPEAT))
        fail_msg("%s: %s: %zu volumes and snapshots are left", error_code_name(err.code), err.text,
                 n - n_before);
}

/* False when the operation has no call at this position. */
static bool survives(const struct operation *o, const struct fake_fault *fault, unsigned position)
{
    bool done = false;

    clear();
    o->prepare();
    size_t n_before = fake_count_disks(u) + fake_count_snapshots(u);

    f->n_log = 0;
    f->fault = *fault;
    f->fault.at = FAKE_ANY;
    f->fault.after = position;
    f->fault.is_single = true;
    print_message("# %s, call %u: %s%s\n", o->name, position, error_code_name(fault->code),
                  fault->is_lost ? ", lost" : "");
    for (unsigned i = 0; !done && i < TRIES; i++) {
        done = o->act();
        if (i == 0 && f->fault.at) {
            f->fault.at = NULL;
            check_end(o);
            return false;
        }
        if (i == 0 && is_a_lie(fault, position))
            return true;
        if (i == 0 && !done && !is_wrong(fault, position))
            check_nothing_is_left(o, n_before);
        if (i == 0 && o->source_is_used && !done)
            use_source();
    }
    if (!done)
        fail_msg("never succeeds again: %s: %s", error_code_name(err.code), err.text);
    check_end(o);
    return true;
}

static void each_operation_survives_each_fault_at_each_call(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(operations); i++)
        for (size_t k = 0; k < ARRAY_LEN(faults); k++)
            for (unsigned position = 0; survives(&operations[i], &faults[k], position);)
                position++;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(each_operation_survives_each_fault_at_each_call),
    };

    return RUN_TESTS(tests);
}
