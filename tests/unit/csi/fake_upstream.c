/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake_upstream.h"

#include "proto/server.h"
#include "record/publication.h"
#include "tests/unit/test.h"
#include "upstream/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- its state, for tests; no call is in progress then --- */

struct fake_disk *fake_disk(struct fake_upstream *u, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->disks[i].is_present && strcmp(u->disks[i].id, id) == 0)
            return &u->disks[i];
    return NULL;
}

struct fake_disk *fake_disk_named(struct fake_upstream *u, const char *name)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->disks[i].is_present && strcmp(u->disks[i].name, name) == 0)
            return &u->disks[i];
    return NULL;
}

struct fake_snapshot *fake_snapshot(struct fake_upstream *u, const char *id)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->snapshots[i].is_present && strcmp(u->snapshots[i].id, id) == 0)
            return &u->snapshots[i];
    return NULL;
}

size_t fake_count_disks(const struct fake_upstream *u)
{
    size_t n = 0;

    for (size_t i = 0; i < FAKE_MAX; i++)
        n += u->disks[i].is_present;
    return n;
}

size_t fake_count_snapshots(const struct fake_upstream *u)
{
    size_t n = 0;

    for (size_t i = 0; i < FAKE_MAX; i++)
        n += u->snapshots[i].is_present;
    return n;
}

bool fake_is_attached(const struct fake_disk *disk, const char *node)
{
    for (size_t i = 0; i < FAKE_NODES_MAX; i++)
        if (strcmp(disk->nodes[i], node) == 0)
            return true;
    return false;
}

struct fake_disk *fake_new_disk(struct fake_upstream *u)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (!u->disks[i].is_present)
            return &u->disks[i];
    abort(); /* a test with more disks than the fake has room for */
}

struct fake_disk *fake_foreign_disk(struct fake_upstream *u, const char *id, int64_t bytes)
{
    struct fake_disk *disk = fake_new_disk(u);

    *disk = (struct fake_disk){ .bytes = bytes, .is_present = true };
    (void)snprintf(disk->id, sizeof(disk->id), "%s", id);
    (void)snprintf(disk->name, sizeof(disk->name), "%s", id);
    return disk;
}

/* --- what must hold when no call is in progress --- */

static void check_published(struct fake_upstream *u, const struct record *record)
{
    const struct fake_disk *disk = fake_disk(u, record->volume_id);
    char node_id[NODE_ID_MAX + 1];
    enum publication mode;
    size_t n_published = 0, n_attached = 0;

    for (size_t at = 0; publication_next(&record->published, &at, node_id, &mode);) {
        n_published++;
        if (!fake_is_attached(disk, node_id_below(node_id)))
            fail_msg("%s is published to %s, but not attached there", disk->id, node_id);
    }
    for (size_t i = 0; i < FAKE_NODES_MAX; i++)
        n_attached += disk->nodes[i][0] != '\0';
    if (n_attached != n_published)
        fail_msg("%s is attached to %zu nodes, but published to %zu", disk->id, n_attached,
                 n_published);
}

static void check_record(struct fake_upstream *u, const struct record *record)
{
    const struct fake_disk *disk = fake_disk(u, record->volume_id);
    const struct fake_snapshot *snapshot = fake_snapshot(u, record->volume_id);
    bool is_volume = record->kind == RECORD_VOLUME;

    if (!(is_volume ? (const void *)disk : (const void *)snapshot))
        fail_msg("%s has a record, but the driver below does not have it", record->volume_id);
    if (record->phase == RECORD_DELETING)
        fail_msg("%s stays marked for deletion", record->volume_id);
    if ((uint64_t)(is_volume ? disk->bytes : snapshot->bytes) < record->spec.device_bytes)
        fail_msg("%s is smaller than its record says", record->volume_id);
    const uint64_t content = is_volume ? disk->content : snapshot->content;

    if (record->origin.is_set &&
        (content < record->origin.counter_low || content > record->origin.counter_high))
        fail_msg("%s is not the copy that its record says", record->volume_id);
    if (is_volume)
        check_published(u, record);
}

void fake_upstream_check(struct fake_upstream *u)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (u->fake->records[i].is_present)
            check_record(u, &u->fake->records[i].record);
    for (size_t i = 0; i < FAKE_MAX; i++) {
        if (u->disks[i].is_present && !fake_record(u->fake, u->disks[i].id))
            fail_msg("volume %s has no record", u->disks[i].id);
        if (u->snapshots[i].is_present && !fake_record(u->fake, u->snapshots[i].id))
            fail_msg("snapshot %s has no record", u->snapshots[i].id);
    }
}

/* --- its server --- */

static void connect_to(const struct fake_upstream *u)
{
    char target[128];
    const struct upstream_options client = { .target = target, .socket = "/run/below/csi.sock" };
    struct error err = ERROR_INIT;

    (void)snprintf(target, sizeof(target), "unix:%s", u->socket);
    assert_ok(upstream_new(&client, &u->fake->plugin.upstream, &err));
}

struct fake_upstream *fake_upstream_new(struct fake *fake)
{
    const struct server_options options = { .n_workers = 2, .limits = { 1 << 20, 4096, 65536 } };
    struct fake_upstream *u = calloc(1, sizeof(*u));
    struct error err = ERROR_INIT;

    if (!u)
        abort();
    u->fake = fake;
    const struct server_binding bindings[] = { { &fake_upstream_identity, u },
                                               { &fake_upstream_controller, u },
                                               { &fake_upstream_group, u } };
    (void)snprintf(u->folder, sizeof(u->folder), "/tmp/tdvol-below-XXXXXX");
    assert_non_null(mkdtemp(u->folder));
    (void)snprintf(u->socket, sizeof(u->socket), "%s/csi.sock", u->folder);
    (void)snprintf(u->lock, sizeof(u->lock), "%s/lock", u->folder);
    assert_ok(server_new(&options, &u->server, &err));
    assert_ok(server_listen_unix(u->server, u->socket, u->lock, 0600, bindings, ARRAY_LEN(bindings),
                                 &err));
    assert_ok(server_start(u->server, &err));
    connect_to(u);
    fake->plugin.backing = backing_find("stacked");
    assert_non_null(fake->plugin.backing);
    return u;
}

void fake_upstream_forget(struct fake_upstream *u)
{
    upstream_free(u->fake->plugin.upstream);
    connect_to(u);
}

void fake_upstream_free(struct fake_upstream *u)
{
    upstream_free(u->fake->plugin.upstream);
    u->fake->plugin.upstream = NULL;
    if (u->server)
        fake_upstream_stop(u);
    (void)unlink(u->lock);
    (void)rmdir(u->folder);
    free(u);
}

void fake_upstream_stop(struct fake_upstream *u)
{
    server_stop(u->server, 1000);
    server_free(u->server);
    u->server = NULL;
    (void)unlink(u->socket);
}
