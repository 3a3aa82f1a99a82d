/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "base/option.h"
#include "proto/client.h"

#include <jansson.h>

#include "csi.pb-c.h"

/*
 * What the commands of "tdvolctl csi" share: the arguments, the connection, and the parts that are
 * in several requests. Requests are in the session's arena; answers become JSON.
 */
struct csi_arguments {
    const char *endpoint; /* "unix:///path", "unix:/path" or "/path" */
    uint64_t timeout_s;
    bool json;
    const char *size, *limit;
    struct option_list parameters, context, segments, mount_flags;
    const char *fs_type;
    int access_mode; /* index into csi_access_modes */
    bool block, read_only;
    const char *from_snapshot, *from_volume;
    const char *volume, *staging, *target, *path;
    const char *starting_token;
    uint64_t max_entries;
    struct option_list rest; /* positional */
};

struct csi_session {
    const struct csi_arguments *args;
    struct client *client;
    struct arena *arena;
    bool has_called; /* an error before the first call is a usage error */
};

extern const char *const csi_access_modes[]; /* as written on the command line, NULL-terminated */

/* Calls and returns the answer as JSON, or NULL; errors begin with the method's name. */
MUST_USE json_t *csi_call(struct csi_session *session, const ProtobufCServiceDescriptor *service,
                          const char *method, const ProtobufCMessage *request, struct error *err);

/* The same, but JSON null when the plugin does not serve the method (it has another role). */
MUST_USE json_t *csi_call_if_served(struct csi_session *session,
                                    const ProtobufCServiceDescriptor *service, const char *method,
                                    const ProtobufCMessage *request, struct error *err);

/* Zeroed memory of the session. Aborts when it runs out: a command line cannot need that much. */
void *csi_alloc(struct csi_session *session, size_t len);

/* Removes const: protobuf-c's fields are not const, but requests are only read. */
char *csi_text(const char *text); /* "" for NULL */

Csi__V1__VolumeCapability *csi_capability(struct csi_session *session);
MUST_USE bool csi_capacity_range(struct csi_session *session, Csi__V1__CapacityRange **out,
                                 struct error *err);

/* Every map<string,string> entry that protoc-c generates has this layout. */
struct csi_entry {
    ProtobufCMessage base;
    char *key;
    char *value;
};
/* "KEY=VALUE" items to the entries of a map field. */
MUST_USE bool csi_entries(struct csi_session *session, const char *option,
                          const struct option_list *items,
                          const ProtobufCMessageDescriptor *descriptor, struct csi_entry ***out,
                          struct error *err);
MUST_USE bool csi_topology(struct csi_session *session, Csi__V1__Topology **out, struct error *err);

/* The commands, in csi_controller.c and csi_node.c. NULL with *err set when a command failed. */
typedef json_t *csi_run(struct csi_session *session, struct error *err);
csi_run csi_create, csi_delete, csi_get, csi_list, csi_expand, csi_capacity;
csi_run csi_snapshot_create, csi_snapshot_delete, csi_snapshot_list, csi_snapshot_get;
csi_run csi_info, csi_capabilities, csi_probe, csi_health;
csi_run csi_stage, csi_unstage, csi_publish, csi_unpublish, csi_stats;
