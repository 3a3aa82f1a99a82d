/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"
#include "ctl/command.h"
#include "ctl/size.h"
#include "ctl/volume.h"
#include "record/encoding.h"
#include "record/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The record of a volume or snapshot of another CSI driver that tdvol did not make; and records that
 * came out of a backup of the broker's store. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define ADOPT_ARENA_BYTES ((size_t)1 << 20)
#define WALK_ARENA_BYTES  ((size_t)256 << 20) /* all records */

static const char *const kind_names[] = { "volume", "snapshot", NULL };
static const char *const integrity_names[] = { "aegis128", "hmac-sha256", "none", NULL };
static const char *const sector_names[] = { "4096", "512", NULL };
static const uint32_t sectors[] = { VOLUME_SECTOR_BYTES, SECTOR_BYTES };
static const enum integrity integrities[] = { INTEGRITY_AEGIS128, INTEGRITY_HMAC_SHA256,
                                              INTEGRITY_NONE };

static bool wrong(const char *what, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s", what);
}

static bool check_sizes(const struct broker_options *o, struct error *err)
{
    bool is_old = o->adopt.key_file != NULL;

    if (is_old && (o->adopt.size || o->adopt.integrity != 0))
        return wrong(
            "--size and --integrity go with --blank: a volume that is taken over has those "
            "of its disk",
            err);
    if (!is_old && (o->adopt.disk_size || o->adopt.sector_size != 0))
        return wrong("--disk-size and --sector-size go with --key-file", err);
    if (is_old && !o->adopt.disk_size)
        return wrong("--disk-size is missing", err);
    return is_old || o->adopt.size || wrong("--size is missing", err);
}

static bool check_restored(const struct broker_options *o, struct error *err)
{
    if (o->adopt.like || o->adopt.blank || o->adopt.key_file || o->adopt.size ||
        o->adopt.disk_size || o->adopt.fs_type || o->adopt.block || o->adopt.name ||
        o->adopt.no_attach || o->adopt.kind != 0 || o->adopt.integrity != 0 ||
        o->adopt.sector_size != 0)
        return wrong(
            "--restored is for a record that is there: it goes with --driver, --all and --yes "
            "alone",
            err);
    return true;
}

static bool check_options(const struct broker_options *o, struct error *err)
{
    bool has_content = o->adopt.fs_type || o->adopt.block;
    int ways = (o->adopt.like != NULL) + o->adopt.blank + (o->adopt.key_file != NULL);

    if (!o->driver)
        return wrong("--driver is missing: name the CSI driver, as tdvol-csi --driver does", err);
    if (ways != 1)
        return wrong("choose one of --like, --blank and --key-file", err);
    if (o->adopt.like && (o->adopt.size || o->adopt.disk_size || has_content || o->adopt.no_attach))
        return wrong("--size, --disk-size, --fs, --block and --no-attach go with --blank or "
                     "--key-file: a disk that is like another has that one's",
                     err);
    if (o->adopt.like)
        return true;
    if (o->adopt.kind != 0)
        return wrong(
            "a snapshot is not blank, and is not taken over: name the volume that it is of "
            "with --like",
            err);
    if (!check_sizes(o, err))
        return false;
    return (o->adopt.block == (o->adopt.fs_type == NULL)) ||
           wrong("choose one of --fs and --block", err);
}

/* Plans the sizes of the volume: from its own, or from that of the disk on which it lies. */
static bool plan(const struct broker_options *o, struct volume_spec *spec, struct error *err)
{
    int64_t bytes = 0;

    if (!o->adopt.key_file)
        return size_parse("--size", o->adopt.size, &bytes, err) &&
               layout_plan(spec, (uint64_t)bytes, err);
    spec->integrity = INTEGRITY_NONE;
    spec->sector_bytes = sectors[o->adopt.sector_size];
    return size_parse("--disk-size", o->adopt.disk_size, &bytes, err) &&
           layout_plan_take_over(spec, (uint64_t)bytes, err);
}

static bool make_spec(const struct broker_options *o, struct volume_spec *out, struct error *err)
{
    struct volume_spec spec = { .integrity = integrities[o->adopt.integrity],
                                .provisioning = PROVISIONING_THICK,
                                .workqueue = WORKQUEUE_AUTO,
                                .backing = BACKING_DEVICE,
                                .needs_publication = !o->adopt.no_attach };
    const char *name = o->adopt.name ? o->adopt.name : o->rest.items[0];

    if (strlen(name) >= sizeof(spec.name))
        return wrong("the name is too long", err);
    if (o->adopt.fs_type && strlen(o->adopt.fs_type) >= sizeof(spec.fs_type))
        return wrong("--fs is ext4 or xfs", err);
    memcpy(spec.name, name, strlen(name) + 1);
    if (o->adopt.fs_type)
        memcpy(spec.fs_type, o->adopt.fs_type, strlen(o->adopt.fs_type) + 1);
    if (!plan(o, &spec, err))
        return false;
    *out = spec;
    return true;
}

static bool read_key(const char *path, struct secret *out, struct error *err)
{
    if (!path)
        return true;
    return (strcmp(path, "-") == 0 ? fd_read_secret(STDIN_FILENO, OLD_KEY_MAX, out, err)
                                   : file_read_private(path, OLD_KEY_MAX, out, err)) ||
           error_wrap(err, "--key-file");
}

static void say(const struct broker_options *o, const struct volume_spec *spec)
{
    const char *id = o->rest.items[0];

    if (o->adopt.like)
        printf("%s has a record now, with the key of %s.\n", id, o->adopt.like);
    else if (o->adopt.key_file)
        printf(
            "%s has a record now. The first node that stages it for writing takes over what is on "
            "its disk, and the pod gets %llu bytes. From then on the old key opens nothing.\n",
            id, (unsigned long long)spec->size_bytes);
    else
        printf("%s has a record now. Its disk must have at least %llu bytes. The first node that "
               "stages it formats it.\n",
               id, (unsigned long long)spec->device_bytes);
}

/* --- records of a store that was restored from a backup --- */

struct adopting {
    const struct broker_options *options;
    struct client *client;
    bool counts_only;
    uint64_t held_data, empty, adopted, failed;
};

/* Such a volume is formatted when it is adopted, so each is named by a human. */
static bool is_empty(const volume_record *r)
{
    return r->phase != TDVOL__KEYBROKER__V1__PHASE__PHASE_DELETING && r->n_header_digests == 0;
}

/* The arena is of this call, because there may be many. */
static bool adopt_restored(struct adopting *x, const volume_record *r, struct error *err)
{
    auto_arena struct arena arena = { .limit = ADOPT_ARENA_BYTES };
    M(AdoptRestoredRequest) request = TDVOL__KEYBROKER__V1__ADOPT_RESTORED_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;

    request.driver = r->driver;
    request.volume_id = r->volume_id;
    return broker_call(x->client, "AdoptRestored", &request.base, &arena, &answer, err);
}

static bool visit_restored(void *cookie, const volume_record *r)
{
    struct adopting *x = cookie;
    struct error err = ERROR_INIT;

    if (!r->restored || r->restored->adopted)
        return true;
    if (is_empty(r)) {
        x->empty++;
        if (!x->counts_only)
            printf("%s held no data at the backup: adopt it by its ID if it may be formatted, or "
                   "delete it\n",
                   r->volume_id);
    } else if (x->counts_only) {
        x->held_data++;
    } else if (adopt_restored(x, r, &err)) {
        x->adopted++;
    } else {
        x->failed++;
        fprintf(stderr, "%s: %s\n", r->volume_id, err.text);
    }
    return true;
}

static bool ask_broker(struct client *client, struct arena *arena, uint64_t *restored_ms,
                       struct error *err)
{
    static const M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    if (!broker_call(client, "GetStatus", &request.base, arena, &message, err))
        return false;
    *restored_ms = ((const M(GetStatusResponse) *)(const void *)message)->restored_ms;
    return true;
}

static bool confirm(const struct adopting *x, uint64_t restored_ms, struct error *err)
{
    char when[CLOCK_TEXT_LEN];
    auto_free char *line = NULL;
    size_t size = 0;

    clock_text(restored_ms, when);
    printf(
        "The broker's store was restored at %s.\n"
        "%llu volumes and snapshots that held data would be adopted, %llu held none.\n"
        "No node may have one of them open, each disk must be the newest, and what was erased since "
        "the\nbackup must be deleted before. Type \"adopt\" to go on: ",
        restored_ms > 0 ? when : "an earlier time", (unsigned long long)x->held_data,
        (unsigned long long)x->empty);
    (void)fflush(stdout);
    ssize_t len = getline(&line, &size, stdin);

    return (len > 0 && strcmp(line, "adopt\n") == 0) ||
           error_set(err, ERROR_CANCELLED, "not confirmed: nothing was changed");
}

/* With --driver the volumes of other drivers still wait. */
static bool end_restore(const struct adopting *x, struct arena *arena, struct error *err)
{
    static const M(EndRestoreRequest) request = TDVOL__KEYBROKER__V1__END_RESTORE_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;

    if (x->options->driver) {
        puts("New volumes can be made again when the volumes of all drivers are adopted: repeat it "
             "without --driver.");
        return true;
    }
    if (!broker_call(x->client, "EndRestore", &request.base, arena, &answer, err))
        return false;
    puts("New volumes can be made again.");
    return true;
}

static bool walk(struct adopting *x, bool counts_only, struct error *err)
{
    auto_arena struct arena arena = { .limit = WALK_ARENA_BYTES };
    const struct volume_walk all = { visit_restored, x, false };
    const struct volume_walk kept = { visit_restored, x, true }; /* deleted, but with its key */

    x->counts_only = counts_only;
    return volume_visit_all(x->client, x->options->driver, &arena, &all, err) &&
           volume_visit_all(x->client, x->options->driver, &arena, &kept, err);
}

static bool adopt_all(struct adopting *x, struct arena *arena, struct error *err)
{
    uint64_t restored_ms = 0;

    if (!ask_broker(x->client, arena, &restored_ms, err) || !walk(x, true, err) ||
        (!x->options->yes && !confirm(x, restored_ms, err)) || !walk(x, false, err))
        return false;
    printf("%llu adopted, %llu failed\n", (unsigned long long)x->adopted,
           (unsigned long long)x->failed);
    if (x->failed > 0)
        return error_set(err, ERROR_ABORTED, "some were not adopted: repeat the command");
    return end_restore(x, arena, err);
}

static bool run_restored(const struct broker_options *options, struct client *client,
                         struct arena *arena, struct error *err)
{
    struct adopting x = { .options = options, .client = client };
    const volume_record *r = NULL;

    if (options->all)
        return adopt_all(&x, arena, err);
    if (!volume_any_by_id(options, client, arena, &r, err) || !adopt_restored(&x, r, err))
        return false;
    printf(is_empty(r) ? "%s is adopted: the next node that stages it formats it.\n"
                       : "%s is adopted: the next opening takes each state of its disk since the "
                         "backup.\n",
           r->volume_id);
    return true;
}

/* --- the command --- */

static bool adopt(const struct broker_options *o, struct client *client, struct arena *arena,
                  struct error *err)
{
    M(AdoptRecordRequest) request = TDVOL__KEYBROKER__V1__ADOPT_RECORD_REQUEST__INIT;
    const char *name = o->adopt.name ? o->adopt.name : o->rest.items[0];
    auto_secret struct secret old_key = SECRET_INIT;
    struct volume_spec spec = { .size_bytes = 0 };
    struct encoded encoded = { .len = 0 };
    ProtobufCMessage *answer = NULL;

    if (o->adopt.restored)
        return check_restored(o, err) && run_restored(o, client, arena, err);
    if (o->all)
        return wrong("--all goes with --restored", err);
    if (!check_options(o, err) || (!o->adopt.like && !make_spec(o, &spec, err)) ||
        !read_key(o->adopt.key_file, &old_key, err))
        return false;
    if (!o->adopt.like)
        volume_spec_encode(&spec, &encoded);
    if (o->driver)
        request.driver = unconst(o->driver);
    request.volume_id = unconst(o->rest.items[0]);
    request.kind = o->adopt.kind == 0 ? TDVOL__KEYBROKER__V1__KIND__KIND_VOLUME
                                      : TDVOL__KEYBROKER__V1__KIND__KIND_SNAPSHOT;
    if (o->adopt.like) {
        request.like = unconst(o->adopt.like);
        request.name = unconst(name);
    }
    request.spec = (ProtobufCBinaryData){ .len = encoded.len, .data = encoded.bytes };
    request.old_key = (ProtobufCBinaryData){ .len = old_key.len, .data = old_key.bytes };
    if (!broker_call(client, "AdoptRecord", &request.base, arena, &answer, err))
        return false;
    say(o, &spec);
    return true;
}

static const struct option rows[] = {
    BROKER_ROWS,
    OPTION_TEXT_ROW("driver", struct broker_options, driver, "NAME", "The volume's CSI driver."),
    OPTION_TEXT_ROW("like", struct broker_options, adopt.like, "ID2",
                    "The disk was copied from this volume or snapshot, by a means that tdvol does "
                    "not know: a snapshot of the storage, a backup."),
    OPTION_BOOL_ROW("restored", struct broker_options, adopt.restored,
                    "The record came out of a backup of the broker's store: it is what you want."),
    OPTION_BOOL_ROW(
        "all", struct broker_options, all,
        "With --restored: all volumes and snapshots that held data, in place of ID. Then new "
        "volumes can be made again."),
    OPTION_BOOL_ROW("yes", struct broker_options, yes, "With --all: do not ask."),
    OPTION_BOOL_ROW("blank", struct broker_options, adopt.blank,
                    "The disk is empty. A disk that holds data is refused when it is staged."),
    OPTION_TEXT_ROW(
        "key-file", struct broker_options, adopt.key_file, "FILE",
        "The disk holds a LUKS2 volume of cryptsetup or Constellation, and FILE has its "
        "passphrase: every byte of it, at most 512. It must be closed to others. -: "
        "standard input."),
    OPTION_TEXT_ROW("disk-size", struct broker_options, adopt.disk_size, "SIZE",
                    "With --key-file: the size of the disk. The pod gets 16 MiB less."),
    OPTION_CHOICE_ROW("sector-size", struct broker_options, adopt.sector_size, sector_names,
                      "With --key-file: 4096 (default) or 512, as cryptsetup luksDump shows it."),
    OPTION_TEXT_ROW(
        "size", struct broker_options, adopt.size, "SIZE",
        "What the pod gets, such as 10Gi. The disk must be larger; the answer says by how much."),
    OPTION_CHOICE_ROW("integrity", struct broker_options, adopt.integrity, integrity_names,
                      "aegis128 (default), hmac-sha256 or none, as in a StorageClass."),
    OPTION_TEXT_ROW("fs", struct broker_options, adopt.fs_type, "TYPE",
                    "The file system to make, or that is there with --key-file: ext4 or xfs."),
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
            "ID (--like ID2 | --blank --size SIZE (--fs TYPE | --block) |\n"
            "       --key-file FILE --disk-size SIZE (--fs TYPE | --block)) --driver NAME [OPTIONS]\n"
            "       ID --restored | --restored --all\n\n"
            "Makes the record of a volume or snapshot of another CSI driver that was not made "
            "through\ntdvol. ID is the driver's id of it (volumeHandle, snapshotHandle).\n\n"
            "--like gives up one thing: tdvol cannot know how old such a disk is. It accepts each "
            "state that\nthe disk of ID2 ever had, once, at the first opening; from then on, as "
            "always, only the newest.\nSo make sure that the copy is the one that you want.\n\n"
            "--key-file: the broker keeps the passphrase, wrapped, until a node has taken the volume "
            "over. Until\nthen the same command with another FILE or SIZE replaces what was said "
            "before. Who knew the\npassphrase may know the key of the data, which stays the same.\n\n"
            "--restored: the record may be older than the disk, and nothing tells how old the disk is. "
            "The\nnext opening takes each state of it since the backup, and a volume that held no data "
            "then is\nformatted. Make sure before that no node has the volume open, and that the disk is "
            "the newest.\nWhat was erased since has its key back: delete it again instead.",
        .options = rows,
        .n_options = ARRAY_LEN(rows),
        .n_arguments = 1,
        .run = adopt,
    };

    return broker_command_run(&command, argc, argv);
}
