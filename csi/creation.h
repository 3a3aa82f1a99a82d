/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/capability.h"
#include "csi/controller.h"
#include "csi/parameters.h"

/* One CreateVolume: what the request asks for, and the spec that follows from it. Shared by all
 * backings. */
struct creation {
    const char *name;
    char id[VOLUME_ID_MAX + 1]; /* filled in by the backing */
    struct parameters parameters;
    struct capability capability;
    struct capacity capacity;
    const char *source_id; /* "" none */
    enum record_kind source_kind;
    struct volume_spec spec;
};
#define CREATION_INIT                                  \
    {                                                  \
        .parameters = PARAMETERS_INIT, .source_id = "" \
    }

/* INVALID_ARGUMENT, OUT_OF_RANGE when the request cannot be served by any backing. It does not look at
 * the parameters and the topology. */
MUST_USE bool creation_read(const Csi__V1__CreateVolumeRequest *request, struct creation *c,
                            struct error *err);

/* The spec, after the parameters are set. */
MUST_USE bool creation_plan(const struct plugin *plugin, struct creation *c, struct error *err);

/* CSI CreateVolume: the same name with a compatible request is the same volume. ALREADY_EXISTS when the
 * record is of a volume that differs. */
MUST_USE bool creation_check_same(const struct creation *c, const struct record *record,
                                  struct error *err);

/* Whether a copy of the source can be what is asked for. */
MUST_USE bool creation_check_source(const struct creation *c, const struct record *source,
                                    struct error *err);
