/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/volume.h"

#include "base/clock.h"
#include "base/digest.h"
#include "ctl/command.h"
#include "proto/decode.h"

#include <stdlib.h>
#include <string.h>

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define MARK_ARENA_BYTES ((size_t)1 << 20)

/* --- asking the broker --- */

/* Decodes a record into the arena. */
static bool unpack(const ProtobufCBinaryData *bytes, struct arena *arena, const M(Record) * *out,
                   struct error *err)
{
    static const struct rpc_limits limits = { .message_bytes = 1u << 20,
                                              .string_bytes = 4096,
                                              .map_bytes = 4096 };
    ProtobufCMessage *message = NULL;

    if (!rpc_decode(&tdvol__keybroker__v1__record__descriptor, &limits,
                    (struct rpc_bytes){ bytes->data, bytes->len }, arena, &message, err))
        return error_wrap(err, "the broker's record");
    *out = (const void *)message;
    if (!(*out)->spec)
        return error_set(err, ERROR_INTERNAL, "the broker's record has no spec");
    return true;
}

bool volume_visit_all(struct client *client, const char *driver, struct arena *arena,
                      const struct volume_walk *walk, struct error *err)
{
    M(ListRecordsRequest) request = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    if (driver)
        request.driver = unconst(driver);
    request.gone = walk->gone;
    do {
        if (!broker_call(client, "ListRecords", &request.base, arena, &message, err))
            return false;
        const M(ListRecordsResponse) *page = (const void *)message;

        for (size_t i = 0; i < page->n_records; i++) {
            const M(Record) *r = NULL;

            if (!unpack(&page->records[i], arena, &r, err))
                return false;
            if (!walk->visit(walk->cookie, r))
                return true;
        }
        request.page_token = page->next_page_token;
    } while (request.page_token[0] != '\0');
    return true;
}

struct search {
    const char *volume_id;
    const M(Record) * found;
    size_t count;
};

static bool search_visit(void *cookie, const M(Record) * r)
{
    struct search *search = cookie;

    if (strcmp(r->volume_id, search->volume_id) == 0) {
        search->found = r;
        search->count++;
    }
    return true;
}

static bool find(const struct broker_options *options, struct client *client, struct arena *arena,
                 bool gone, const volume_record **out, struct error *err)
{
    struct search search = { .volume_id = options->rest.items[0] };
    const struct volume_walk walk = { search_visit, &search, gone };

    if (!volume_visit_all(client, options->driver, arena, &walk, err))
        return false;
    if (search.count == 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         search.volume_id);
    if (search.count > 1)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%zu drivers have a volume %s: choose one with --driver", search.count,
                         search.volume_id);
    *out = search.found;
    return true;
}

bool volume_by_id(const struct broker_options *options, struct client *client, struct arena *arena,
                  const volume_record **out, struct error *err)
{
    return find(options, client, arena, false, out, err);
}

bool volume_gone_by_id(const struct broker_options *options, struct client *client,
                       struct arena *arena, const volume_record **out, struct error *err)
{
    return find(options, client, arena, true, out, err);
}

bool volume_any_by_id(const struct broker_options *options, struct client *client,
                      struct arena *arena, const volume_record **out, struct error *err)
{
    if (volume_by_id(options, client, arena, out, err))
        return true;
    if (err->code != ERROR_NOT_FOUND)
        return false;
    *err = (struct error)ERROR_INIT;
    return volume_gone_by_id(options, client, arena, out, err);
}

/* --- the commands --- */

#define RETAINED TDVOL__KEYBROKER__V1__PHASE__PHASE_RETAINED

/* Asks for the id once more, because nothing can undo the next step. */
static bool confirm(const M(Record) * r, bool is_now, struct error *err)
{
    auto_free char *line = NULL;
    size_t size = 0;

    volume_print(r);
    printf("\nIts key will be destroyed%s: the data cannot be read again by anyone.\n"
           "Type the id of the volume to go on: ",
           is_now ? " now" : ", when the policy does not keep it");
    (void)fflush(stdout);
    ssize_t len = getline(&line, &size, stdin);

    if (len > 0 && line[len - 1] == '\n')
        line[len - 1] = '\0';
    return (len > 0 && strcmp(line, r->volume_id) == 0) ||
           error_set(err, ERROR_CANCELLED, "not confirmed: nothing was changed");
}

static void tell_deleted(const M(Record) * r, bool is_kept)
{
    if (is_kept) {
        printf("%s is deleted, and its key is kept for the time that the policy says: see tdvolctl "
               "volume show %s.\nUntil then: tdvolctl volume undelete %s; or, to end it: "
               "tdvolctl volume delete %s --now\n",
               r->volume_id, r->volume_id, r->volume_id, r->volume_id);
        return;
    }
    printf("%s is erased. This does not free its space: delete the data where it is stored.\n",
           r->volume_id);
    if (r->recovery_sha256.len > 0)
        puts("It has a recovery token: each copy of its disk still opens with the recovery key.");
}

/* *is_kept: its key is. */
static bool delete_live(struct client *client, const M(DeleteRequest) * request,
                        struct arena *arena, bool *is_kept, struct error *err)
{
    ProtobufCMessage *answer = NULL;
    const M(Record) *r = NULL;

    if (!broker_call(client, "BeginDelete", &request->base, arena, &answer, err) ||
        !broker_call(client, "FinishDelete", &request->base, arena, &answer, err) ||
        !unpack(&((const M(DeleteResponse) *)(const void *)answer)->record, arena, &r, err))
        return false;
    *is_kept = r->phase == RETAINED;
    return true;
}

static bool delete (const struct broker_options *options, struct client *client,
                    struct arena *arena, struct error *err)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    const M(Record) *r = NULL;
    ProtobufCMessage *answer = NULL;
    bool found = options->now ? volume_any_by_id(options, client, arena, &r, err)
                              : volume_by_id(options, client, arena, &r, err);

    if (!found || (!options->yes && !confirm(r, options->now, err)))
        return false;
    request.driver = r->driver;
    request.volume_id = r->volume_id;
    bool is_kept = r->phase == RETAINED;

    if (!is_kept && !delete_live(client, &request, arena, &is_kept, err))
        return false;
    if (is_kept && options->now &&
        !broker_call(client, "EraseRecord", &request.base, arena, &answer, err))
        return false;
    tell_deleted(r, is_kept && !options->now);
    return true;
}

static bool undelete(const struct broker_options *options, struct client *client,
                     struct arena *arena, struct error *err)
{
    M(DeleteRequest) request = TDVOL__KEYBROKER__V1__DELETE_REQUEST__INIT;
    const M(Record) *r = NULL;
    ProtobufCMessage *answer = NULL;

    if (!volume_any_by_id(options, client, arena, &r, err))
        return false;
    request.driver = r->driver;
    request.volume_id = r->volume_id;
    if (!broker_call(client, "UndeleteRecord", &request.base, arena, &answer, err))
        return false;
    if (r->phase == RETAINED)
        printf("%s opens again, where its disk still exists.\n", r->volume_id);
    else
        printf("%s is not deleted: nothing was changed.\n", r->volume_id);
    return true;
}

static bool release(const struct broker_options *options, struct client *client,
                    struct arena *arena, struct error *err)
{
    M(ReleaseLeaseRequest) request = TDVOL__KEYBROKER__V1__RELEASE_LEASE_REQUEST__INIT;
    const M(Record) *r = NULL;
    ProtobufCMessage *answer = NULL;

    if (!volume_by_id(options, client, arena, &r, err))
        return false;
    request.driver = r->driver;
    request.volume_id = r->volume_id;
    if (!broker_call(client, "ReleaseLease", &request.base, arena, &answer, err))
        return false;
    printf("Another node can open %s now.\n", r->volume_id);
    return true;
}

/* --- another secret --- */

struct marking {
    const struct broker_options *options;
    struct client *client;
    uint64_t marked, waiting, failed;
};

/* The arena is of this call, because there may be many. */
static bool mark(struct marking *x, const M(Record) * r, struct error *err)
{
    auto_arena struct arena arena = { .limit = MARK_ARENA_BYTES };
    M(RotateKeyRequest) request = TDVOL__KEYBROKER__V1__ROTATE_KEY_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;

    request.driver = r->driver;
    request.volume_id = r->volume_id;
    if (!broker_call(x->client, "RotateKey", &request.base, &arena, &answer, err))
        return false;
    x->marked++;
    printf("%s: generation %u is to become %u\n", r->volume_id, r->generation, r->generation + 1);
    return true;
}

static bool mark_visit(void *cookie, const M(Record) * r)
{
    struct marking *x = cookie;
    struct error err = ERROR_INIT;

    if (r->kind != TDVOL__KEYBROKER__V1__KIND__KIND_VOLUME ||
        r->phase != TDVOL__KEYBROKER__V1__PHASE__PHASE_READY ||
        (x->options->up_to > 0 && r->generation > x->options->up_to))
        return true;
    if (r->rotation) {
        x->waiting++;
    } else if (!mark(x, r, &err)) {
        x->failed++;
        fprintf(stderr, "%s: %s\n", r->volume_id, err.text);
    }
    return true;
}

static bool rotate_all(struct marking *x, struct arena *arena, struct error *err)
{
    const struct volume_walk walk = { mark_visit, x };
    bool listed = volume_visit_all(x->client, x->options->driver, arena, &walk, err);

    printf("%llu volumes marked, %llu were marked already, %llu failed\n",
           (unsigned long long)x->marked, (unsigned long long)x->waiting,
           (unsigned long long)x->failed);
    return listed && (x->failed == 0 || error_set(err, ERROR_ABORTED,
                                                  "some volumes were not marked: repeat the "
                                                  "command"));
}

static bool rotate(const struct broker_options *options, struct client *client, struct arena *arena,
                   struct error *err)
{
    struct marking x = { .options = options, .client = client };
    const M(Record) *r = NULL;

    if (options->up_to > 0 && !options->all)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--up-to goes with --all");
    if (options->all)
        return rotate_all(&x, arena, err);
    if (!volume_by_id(options, client, arena, &r, err))
        return false;
    if (!r->rotation)
        return mark(&x, r, err);
    volume_print_generation(r);
    return true;
}

static const struct option one_rows[] = { BROKER_ROWS, VOLUME_DRIVER_ROW(VOLUME_ONE_DRIVER) };
static const struct option delete_rows[] = {
    BROKER_ROWS,
    VOLUME_DRIVER_ROW(VOLUME_ONE_DRIVER),
    OPTION_BOOL_ROW("yes", struct broker_options, yes, "Do not ask for the id again."),
    OPTION_BOOL_ROW("now", struct broker_options, now,
                    "Destroy the key at once, also where the policy keeps it, and of a volume that "
                    "was deleted before."),
};

static const struct option rotate_rows[] = {
    BROKER_ROWS,
    VOLUME_DRIVER_ROW(
        "The volume's CSI driver, or with --all only its volumes. Needed where the policy "
        "does not allow admin."),
    OPTION_BOOL_ROW("all", struct broker_options, all, "All volumes, in place of ID."),
    OPTION_U64_ROW("up-to", struct broker_options, up_to, 1, UINT32_MAX, "GENERATION",
                   "With --all: only volumes whose secret is of this generation or an older one."),
};

int command_volume_delete(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume delete",
        .usage =
            "ID [OPTIONS]\n\nErases a volume or snapshot: its data cannot be read again, but "
            "with the recovery key if\nit has a recovery token. Its key is destroyed with the "
            "last volume or snapshot that\nuses it. Where the policy keeps keys of deleted volumes, "
            "that is later: see volume undelete.\nAsks for the id once more.",
        .options = delete_rows,
        .n_options = ARRAY_LEN(delete_rows),
        .n_arguments = 1,
        .run = delete,
    };

    return broker_command_run(&command, argc, argv);
}

int command_volume_undelete(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume undelete",
        .usage = "ID [OPTIONS]\n\nBrings back the record of a volume or snapshot that was deleted, "
                 "as long as the policy has\nits key kept. This brings back no disk: where the "
                 "disk is gone, the key opens nothing.",
        .options = one_rows,
        .n_options = ARRAY_LEN(one_rows),
        .n_arguments = 1,
        .run = undelete,
    };

    return broker_command_run(&command, argc, argv);
}

int command_volume_rotate(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume rotate",
        .usage = "ID|--all [OPTIONS]\n\nGives volumes another secret. This marks them: the node "
                 "that has a volume in use for\nwriting, or opens it next, makes its header anew, "
                 "then the broker destroys the former\nsecret. Repeat an interrupted --all with "
                 "--up-to, so that what is done already is left\nalone.",
        .options = rotate_rows,
        .n_options = ARRAY_LEN(rotate_rows),
        .n_arguments = 1,
        .run = rotate,
    };

    return broker_command_run(&command, argc, argv);
}

int command_volume_release(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume release",
        .usage = "ID [OPTIONS]\n\nTakes a volume away from a node that will not come back, so that "
                 "another can open it.\nA volume that moves is then published to no node, too. "
                 "Make sure that the node is off: two nodes that write at "
                 "once destroy the data.",
        .options = one_rows,
        .n_options = ARRAY_LEN(one_rows),
        .n_arguments = 1,
        .run = release,
    };

    return broker_command_run(&command, argc, argv);
}
