/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/topology.h"

#include <stdio.h>
#include <string.h>

#define KEY_MAX      128
#define SEGMENTS_MAX 4

static bool has_mode(const struct plugin *plugin, enum integrity integrity)
{
    switch (integrity) {
    case INTEGRITY_AEGIS128:
        return plugin->probe.aegis128;
    case INTEGRITY_HMAC_SHA256:
        return plugin->probe.hmac_sha256;
    case INTEGRITY_NONE:
    default:
        return plugin->probe.none;
    }
}

struct segment {
    char key[KEY_MAX];
    const char *value;
};

/* The segments of this node: its id first, then the modes that it opens. Returns their number. */
static size_t make_segments(const struct plugin *plugin, struct segment out[static SEGMENTS_MAX])
{
    size_t n = 1;

    (void)snprintf(out[0].key, KEY_MAX, "topology.%s/node", plugin->driver);
    out[0].value = plugin->node_id;
    for (int mode = INTEGRITY_AEGIS128; mode <= INTEGRITY_NONE; mode++) {
        if (!has_mode(plugin, (enum integrity)mode))
            continue;
        (void)snprintf(out[n].key, KEY_MAX, "topology.%s/%s", plugin->driver,
                       integrity_name((enum integrity)mode));
        out[n++].value = "true";
    }
    return n;
}

static Csi__V1__Topology *make(const struct plugin *plugin, size_t n, struct arena *arena)
{
    struct segment segments[SEGMENTS_MAX];
    Csi__V1__Topology *topology = PLUGIN_MESSAGE(arena, Csi__V1__Topology, csi__v1__topology__init);
    Csi__V1__Topology__SegmentsEntry **list = arena_alloc(arena, n * sizeof(*list));

    if (!topology || !list)
        return NULL;
    size_t all = make_segments(plugin, segments);
    if (n > all)
        n = all;
    for (size_t i = 0; i < n; i++) {
        list[i] = PLUGIN_MESSAGE(arena, Csi__V1__Topology__SegmentsEntry,
                                 csi__v1__topology__segments_entry__init);
        if (!list[i])
            return NULL;
        list[i]->key = arena_strdup(arena, segments[i].key);
        list[i]->value = arena_strdup(arena, segments[i].value);
        if (!list[i]->key || !list[i]->value)
            return NULL;
    }
    topology->segments = list;
    topology->n_segments = n;
    return topology;
}

Csi__V1__Topology *topology_of_node(const struct plugin *plugin, struct arena *arena)
{
    return make(plugin, SEGMENTS_MAX, arena);
}

Csi__V1__Topology *topology_of_volume(const struct plugin *plugin, struct arena *arena)
{
    return make(plugin, 1, arena);
}

/* A segment of a mode that this node lacks is none of its segments, so it is looked at by itself. */
static bool is_missing_mode(const struct plugin *plugin, const char *key)
{
    char lacking[KEY_MAX];

    for (int mode = INTEGRITY_AEGIS128; mode <= INTEGRITY_NONE; mode++) {
        (void)snprintf(lacking, KEY_MAX, "topology.%s/%s", plugin->driver,
                       integrity_name((enum integrity)mode));
        if (strcmp(key, lacking) == 0)
            return !has_mode(plugin, (enum integrity)mode);
    }
    return false;
}

bool topology_is_here(const struct plugin *plugin, const Csi__V1__Topology *topology)
{
    struct segment segments[SEGMENTS_MAX];
    size_t n = make_segments(plugin, segments);

    for (size_t i = 0; i < topology->n_segments; i++) {
        const char *key = topology->segments[i]->key;

        if (is_missing_mode(plugin, key))
            return false;
        for (size_t j = 0; j < n; j++)
            if (strcmp(key, segments[j].key) == 0 &&
                strcmp(topology->segments[i]->value, segments[j].value) != 0)
                return false;
    }
    return true;
}

bool topology_check_mode(const struct plugin *plugin, enum integrity integrity, struct error *err)
{
    if (!plugin->serves_node || has_mode(plugin, integrity))
        return true;
    bool other = integrity == INTEGRITY_AEGIS128 && plugin->probe.hmac_sha256;
    return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                     "the kernel of node %s cannot open volumes with integrity=%s%s; it lacks %s",
                     plugin->node_id, integrity_name(integrity),
                     other ? ": use a StorageClass with integrity=hmac-sha256" : "",
                     plugin->probe.missing);
}
