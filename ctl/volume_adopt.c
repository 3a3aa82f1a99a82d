/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/broker.h"
#include "ctl/command.h"
#include "ctl/size.h"
#include "record/encoding.h"
#include "record/layout.h"

#include <string.h>

/* The record of a volume or snapshot of another CSI driver that tdvol did not make. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

static const char *const kind_names[] = { "volume", "snapshot", NULL };
static const char *const integrity_names[] = { "aegis128", "hmac-sha256", "none", NULL };
static const enum integrity integrities[] = { INTEGRITY_AEGIS128, INTEGRITY_HMAC_SHA256,
                                              INTEGRITY_NONE };

static bool wrong(const char *what, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s", what);
}

static bool check_options(const struct broker_options *o, struct error *err)
{
    bool has_content = o->adopt.fs_type || o->adopt.block;

    if (!o->driver)
        return wrong("--driver is missing: name the CSI driver, as tdvol-csi --driver does", err);
    if ((o->adopt.like != NULL) == o->adopt.blank)
        return wrong("choose one of --like and --blank", err);
    if (o->adopt.like && (o->adopt.size || has_content || o->adopt.no_attach))
        return wrong("--size, --fs, --block and --no-attach go with --blank: a disk that is like "
                     "another has that one's",
                     err);
    if (!o->adopt.blank)
        return true;
    if (o->adopt.kind != 0)
        return wrong("a snapshot is not blank: name the volume that it is of with --like", err);
    if (!o->adopt.size)
        return wrong("--size is missing", err);
    return (o->adopt.block == (o->adopt.fs_type == NULL)) ||
           wrong("choose one of --fs and --block", err);
}

static bool make_spec(const struct broker_options *o, struct encoded *out, uint64_t *device_bytes,
                      struct error *err)
{
    struct volume_spec spec = { .integrity = integrities[o->adopt.integrity],
                                .provisioning = PROVISIONING_THICK,
                                .workqueue = WORKQUEUE_AUTO,
                                .backing = BACKING_DEVICE,
                                .needs_publication = !o->adopt.no_attach };
    const char *name = o->adopt.name ? o->adopt.name : o->rest.items[0];
    int64_t bytes = 0;

    if (strlen(name) >= sizeof(spec.name))
        return wrong("the name is too long", err);
    if (o->adopt.fs_type && strlen(o->adopt.fs_type) >= sizeof(spec.fs_type))
        return wrong("--fs is ext4 or xfs", err);
    memcpy(spec.name, name, strlen(name) + 1);
    if (o->adopt.fs_type)
        memcpy(spec.fs_type, o->adopt.fs_type, strlen(o->adopt.fs_type) + 1);
    if (!size_parse("--size", o->adopt.size, &bytes, err) ||
        !layout_plan(&spec, (uint64_t)bytes, err))
        return false;
    volume_spec_encode(&spec, out);
    *device_bytes = spec.device_bytes;
    return true;
}

static bool adopt(const struct broker_options *o, struct client *client, struct arena *arena,
                  struct error *err)
{
    M(AdoptRecordRequest) request = TDVOL__KEYBROKER__V1__ADOPT_RECORD_REQUEST__INIT;
    const char *name = o->adopt.name ? o->adopt.name : o->rest.items[0];
    struct encoded spec = { .len = 0 };
    ProtobufCMessage *answer = NULL;
    uint64_t device_bytes = 0;

    if (!check_options(o, err) || (o->adopt.blank && !make_spec(o, &spec, &device_bytes, err)))
        return false;
    if (o->driver)
        request.driver = unconst(o->driver);
    request.volume_id = unconst(o->rest.items[0]);
    request.kind = o->adopt.kind == 0 ? TDVOL__KEYBROKER__V1__KIND__KIND_VOLUME
                                      : TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    if (o->adopt.like) {
        request.like = unconst(o->adopt.like);
        request.name = unconst(name);
    }
    request.spec = (ProtobufCBinaryData){ .len = spec.len, .data = spec.bytes };
    if (!broker_call(client, "AdoptRecord", &request.base, arena, &answer, err))
        return false;
    if (o->adopt.like)
        printf("%s has a record now, with the key of %s.\n", request.volume_id, request.like);
    else
        printf("%s has a record now. Its disk must have at least %llu bytes. The first node that "
               "stages it formats it.\n",
               request.volume_id, (unsigned long long)device_bytes);
    return true;
}

static const struct option rows[] = {
    BROKER_ROWS,
    OPTION_TEXT_ROW("driver", struct broker_options, driver, "NAME", "The volume's CSI driver."),
    OPTION_TEXT_ROW("like", struct broker_options, adopt.like, "ID2",
                    "The disk was copied from this volume or snapshot, by a means that tdvol does "
                    "not know: a snapshot of the storage, a backup."),
    OPTION_BOOL_ROW("blank", struct broker_options, adopt.blank,
                    "The disk is empty. A disk that holds data is refused when it is staged."),
    OPTION_TEXT_ROW(
        "size", struct broker_options, adopt.size, "SIZE",
        "What the pod gets, such as 10Gi. The disk must be larger; the answer says by how much."),
    OPTION_CHOICE_ROW("integrity", struct broker_options, adopt.integrity, integrity_names,
                      "aegis128 (default), hmac-sha256 or none, as in a StorageClass."),
    OPTION_TEXT_ROW("fs", struct broker_options, adopt.fs_type, "TYPE",
                    "The file system to make: ext4 or xfs."),
    OPTION_BOOL_ROW("block", struct broker_options, adopt.block,
                    "No file system: the pod uses the volume as a raw block device."),
    OPTION_BOOL_ROW(
        "no-attach", struct broker_options, adopt.no_attach,
        "The driver has no ControllerPublishVolume, so every node may open the volume."),
    OPTION_CHOICE_ROW("kind", struct broker_options, adopt.kind, kind_names,
                      "volume (default) or snapshot."),
    OPTION_TEXT_ROW("name", struct broker_options, adopt.name, "NAME",
                    "The CSI name; default: ID."),
};

int command_volume_adopt(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume adopt",
        .usage =
            "ID (--like ID2 | --blank --size SIZE (--fs TYPE | --block)) --driver NAME [OPTIONS]\n\n"
            "Makes the record of a volume or snapshot of another CSI driver that was not made "
            "through\ntdvol. ID is the driver's id of it (volumeHandle, snapshotHandle).\n\n"
            "--like gives up one thing: tdvol cannot know how old such a disk is. It accepts each "
            "state that\nthe disk of ID2 ever had, once, at the first opening; from then on, as "
            "always, only the newest.\nSo make sure that the copy is the one that you want.",
        .options = rows,
        .n_options = ARRAY_LEN(rows),
        .n_arguments = 1,
        .run = adopt,
    };

    return broker_command_run(&command, argc, argv);
}
