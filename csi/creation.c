/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/creation.h"

#include "record/fs_type.h"
#include "record/layout.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_BYTES (1ull << 30)

static bool read_source(const Csi__V1__VolumeContentSource *source, struct creation *c,
                        struct error *err)
{
    if (!source)
        return true;
    if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT) {
        c->source_id = source->snapshot->snapshot_id;
        c->source_kind = RECORD_SNAPSHOT;
    } else if (source->type_case == CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME) {
        c->source_id = source->volume->volume_id;
        c->source_kind = RECORD_VOLUME;
    } else {
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume_content_source must be a snapshot or a volume");
    }
    return plugin_require(c->source_id, "volume_content_source", err);
}

/* A volume gets its file system and its map when it is staged for writing the first time. */
static bool check_writable(const struct creation *c, struct error *err)
{
    if (!c->capability.read_only || c->source_id[0] != '\0')
        return true;
    return error_set(
        err, ERROR_INVALID_ARGUMENT,
        "access mode: a new volume is empty, and nobody could ever write to it: a claim "
        "that only reads needs a snapshot or another claim as its data source");
}

bool creation_read(const Csi__V1__CreateVolumeRequest *request, struct creation *c,
                   struct error *err)
{
    c->name = request->name;
    return plugin_require(request->name, "name", err) &&
           capability_read_all(request->volume_capabilities, request->n_volume_capabilities,
                               &c->capability, err) &&
           read_source(request->volume_content_source, c, err) && check_writable(c, err) &&
           controller_capacity(request->capacity_range, &c->capacity, err);
}

static const char *fs_type(const struct creation *c)
{
    if (c->capability.is_block)
        return "";
    if (c->capability.fs_type[0] != '\0')
        return c->capability.fs_type;
    return c->parameters.fs_type[0] != '\0' ? c->parameters.fs_type : FS_TYPE_DEFAULT;
}

/* The size that the pod is to see. Sizes are multiples of a sector: layout_plan() rounds up. */
static uint64_t wanted_bytes(const struct creation *c)
{
    if (c->capacity.required_bytes > 0)
        return c->capacity.required_bytes;
    if (c->capacity.limit_bytes >= DEFAULT_BYTES)
        return DEFAULT_BYTES;
    return c->capacity.limit_bytes & ~(uint64_t)(VOLUME_SECTOR_BYTES - 1);
}

static bool set_name(struct creation *c, struct error *err)
{
    size_t len = strlen(c->name);

    if (len > RECORD_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "name is longer than %d bytes",
                         RECORD_NAME_MAX);
    memcpy(c->spec.name, c->name, len + 1);
    return true;
}

static bool check_file_system(const struct volume_spec *spec, struct error *err)
{
    enum fs_type type;

    if (!fs_type_find(spec->fs_type, &type) || spec->size_bytes >= fs_type_min_bytes(type))
        return true;
    return error_set(err, ERROR_OUT_OF_RANGE,
                     "size %llu bytes: a volume with %s has at least %llu MiB",
                     (unsigned long long)spec->size_bytes, spec->fs_type,
                     (unsigned long long)(fs_type_min_bytes(type) >> 20));
}

bool creation_plan(const struct plugin *plugin, struct creation *c, struct error *err)
{
    c->spec = parameters_spec(&c->parameters, plugin->default_integrity);
    c->spec.backing = plugin->backing->kind;
    (void)snprintf(c->spec.fs_type, sizeof(c->spec.fs_type), "%s", fs_type(c));
    if (!set_name(c, err))
        return false;
    if (!layout_plan(&c->spec, wanted_bytes(c), err) || !check_file_system(&c->spec, err))
        return false;
    if (c->spec.size_bytes > c->capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "sizes are multiples of %u bytes: the next is %llu, more than limit_bytes",
                         VOLUME_SECTOR_BYTES, (unsigned long long)c->spec.size_bytes);
    return true;
}

static bool differs(const char *what, struct error *err)
{
    return error_set(err, ERROR_ALREADY_EXISTS, "a volume of this name exists, but with another %s",
                     what);
}

bool creation_check_same(const struct creation *c, const struct record *record, struct error *err)
{
    const struct volume_spec *spec = &record->spec;
    bool is_copy = c->source_id[0] != '\0';

    if (record->phase == RECORD_DELETING)
        return error_set(err, ERROR_ABORTED, "the volume of this name is being deleted; retry");
    if (record->kind != RECORD_VOLUME || strcmp(record->spec.name, c->name) != 0)
        return differs("name", err);
    if (strcmp(record->source_volume_id, c->source_id) != 0)
        return differs("content source", err);
    if (spec->size_bytes < c->capacity.required_bytes || spec->size_bytes > c->capacity.limit_bytes)
        return differs("size", err);
    if (strcmp(spec->fs_type, fs_type(c)) != 0)
        return differs("file system", err);
    if (spec->workqueue != c->spec.workqueue)
        return differs("workqueue", err);
    /* A copy inherits everything else from its source. */
    if (!is_copy &&
        (spec->integrity != c->spec.integrity || spec->provisioning != c->spec.provisioning ||
         spec->discard != c->spec.discard || spec->no_journal != c->spec.no_journal))
        return differs("integrity, provisioning, discard or journal", err);
    return true;
}

bool creation_check_source(const struct creation *c, const struct record *source, struct error *err)
{
    const struct volume_spec *spec = &source->spec;

    if (c->capability.read_only && source->phase == RECORD_NEW)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "access mode: %s was never written, so a claim that only reads cannot be a "
            "copy of it",
            source->volume_id);
    if (c->parameters.integrity != PARAMETER_INTEGRITY_AUTO &&
        (enum integrity)c->parameters.integrity != spec->integrity)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the integrity of its source, which is %s",
                         integrity_name(spec->integrity));
    if (spec->integrity != INTEGRITY_NONE && spec->no_journal != (c->parameters.journal != 0))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the journal of its source: use a StorageClass with journal=%s",
                         spec->no_journal ? "off" : "on");
    if (strcmp(fs_type(c), spec->fs_type) != 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a copy has the file system of its source, which is %s",
                         spec->fs_type[0] != '\0' ? spec->fs_type : "raw block");
    if (spec->size_bytes > c->capacity.limit_bytes)
        return error_set(err, ERROR_OUT_OF_RANGE,
                         "the source has %llu bytes, more than limit_bytes",
                         (unsigned long long)spec->size_bytes);
    return true;
}
