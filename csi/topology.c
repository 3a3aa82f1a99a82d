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
    const char *value; /* NULL: this node does not have it */
};

static void make_node_segment(const struct plugin *plugin, const char *node, struct segment *out)
{
    (void)snprintf(out->key, KEY_MAX, "topology.%s/node", plugin->driver);
    out->value = node;
}

/* Its id first, then the modes. */
static void make_segments(const struct plugin *plugin, struct segment out[static SEGMENTS_MAX])
{
    make_node_segment(plugin, plugin->node_id, &out[0]);
    for (int mode = INTEGRITY_AEGIS128; mode <= INTEGRITY_NONE; mode++) {
        (void)snprintf(out[mode].key, KEY_MAX, "topology.%s/%s", plugin->driver,
                       integrity_name((enum integrity)mode));
        out[mode].value = has_mode(plugin, (enum integrity)mode) ? "true" : NULL;
    }
}

/* Those of the n segments that have a value. */
static Csi__V1__Topology *make(const struct segment *segments, size_t n, struct arena *arena)
{
    Csi__V1__Topology *topology = PLUGIN_MESSAGE(arena, Csi__V1__Topology, csi__v1__topology__init);
    Csi__V1__Topology__SegmentsEntry **list = arena_alloc(arena, n * sizeof(*list));

    if (!topology || !list)
        return NULL;
    topology->segments = list;
    for (size_t i = 0; i < n; i++) {
        if (!segments[i].value)
            continue;
        Csi__V1__Topology__SegmentsEntry *entry = PLUGIN_MESSAGE(
            arena, Csi__V1__Topology__SegmentsEntry, csi__v1__topology__segments_entry__init);
        if (!entry)
            return NULL;
        entry->key = arena_strdup(arena, segments[i].key);
        entry->value = arena_strdup(arena, segments[i].value);
        if (!entry->key || !entry->value)
            return NULL;
        list[topology->n_segments++] = entry;
    }
    return topology;
}

Csi__V1__Topology *topology_of_node(const struct plugin *plugin, struct arena *arena)
{
    struct segment segments[SEGMENTS_MAX];

    make_segments(plugin, segments);
    return make(segments, SEGMENTS_MAX, arena);
}

Csi__V1__Topology *topology_of_volume(const struct plugin *plugin, const char *location,
                                      struct arena *arena)
{
    struct segment segment;

    make_node_segment(plugin, location, &segment);
    return make(&segment, 1, arena);
}

bool topology_check_location(const struct plugin *plugin, const struct record *record,
                             enum error_code code, struct error *err)
{
    const char *location = record->spec.location;

    if (location[0] == '\0' || strcmp(location, plugin->node_id) == 0)
        return true;
    return error_set(err, code, "%s is on node %s, and this is node %s", record->volume_id,
                     location, plugin->node_id);
}

bool topology_is_here(const struct plugin *plugin, const Csi__V1__Topology *topology)
{
    struct segment segments[SEGMENTS_MAX];

    make_segments(plugin, segments);
    for (size_t i = 0; i < topology->n_segments; i++) {
        const Csi__V1__Topology__SegmentsEntry *asked = topology->segments[i];

        for (size_t j = 0; j < SEGMENTS_MAX; j++)
            if (strcmp(asked->key, segments[j].key) == 0 &&
                (!segments[j].value || strcmp(asked->value, segments[j].value) != 0))
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
