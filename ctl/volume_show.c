/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "ctl/command.h"
#include "ctl/volume.h"

#include <stdio.h>
#include <string.h>

/* "tdvolctl volume list" and "volume show". */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

static const char *value_name(const ProtobufCEnumDescriptor *descriptor, int value, size_t prefix)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(descriptor, value);

    return v && strlen(v->name) > prefix ? v->name + prefix : "?";
}

/* "INTEGRITY_AEGIS128" without the type's name. */
#define VALUE_NAME(type, value) \
    value_name(&tdvol__keybroker__v1__##type##__descriptor, (int)(value), sizeof(#type))

/* --- printing --- */

static void print_size(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti" };
    size_t unit = 0;

    while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, size, "%llu%s", (unsigned long long)bytes, units[unit]);
}

static const char *integrity_word(const M(Record) * r)
{
    return VALUE_NAME(integrity, r->spec->integrity);
}

static bool print_row(void *cookie, const M(Record) * r)
{
    char size[32], created[CLOCK_TEXT_LEN];

    (void)cookie;
    print_size(r->spec->size_bytes, size, sizeof(size));
    clock_text(r->created_ms, created);
    printf("%-30s %-9s %-10s %8s %-11s %-20s %s\n", r->volume_id, VALUE_NAME(kind, r->kind),
           VALUE_NAME(phase, r->phase), size, integrity_word(r), r->lease ? r->lease->node : "-",
           created);
    return true;
}

static bool print_json_row(void *cookie, const M(Record) * r)
{
    struct error *err = cookie;

    return broker_print_json(&r->base, err);
}

static void print_bytes(const char *name, const ProtobufCBinaryData *bytes)
{
    char hex[2 * SHA256_LEN + 1];

    if (bytes->len == 0 || bytes->len > SHA256_LEN)
        return;
    hex_encode(bytes->data, bytes->len, hex);
    printf("%-14s %s\n", name, hex);
}

/* One that is over when the node does not renew it. */
static void print_lease(const M(Lease) * lease)
{
    if (lease->lease_ms > 0)
        printf("%-14s over after %llu s of silence%s\n", "lease",
               (unsigned long long)lease->lease_ms / 1000,
               lease->contested > 0 ? "; somebody waits for that" : "");
}

static void print_times(const M(Record) * r)
{
    char when[CLOCK_TEXT_LEN];

    clock_text(r->created_ms, when);
    printf("%-14s %s\n", "created", when);
    if (r->lease) {
        clock_text(r->lease->opened_ms, when);
        printf("%-14s %s since %s (boot %s)\n", "open on", r->lease->node, when, r->lease->boot_id);
        print_lease(r->lease);
    }
    if (r->format && r->phase == TDVOL__KEYBROKER__V1__PHASE__PHASE_FORMATTING)
        printf("%-14s attempt %u by %s, %llu s left\n", "formatting", r->format->attempt,
               r->format->node, (unsigned long long)r->format->remaining_ms / 1000);
}

/* "w:NODE r:NODE l:NODE", as record/publication.h says. */
static void print_published(const M(Record) * r)
{
    const char *at = r->published_nodes;

    if (r->spec->needs_publication && at[0] == '\0')
        printf("%-14s to no node\n", "published");
    while (at[0] != '\0' && at[1] != '\0') {
        int len = (int)strcspn(at + 2, " ");

        printf("%-14s to %.*s %s\n", "published", len, at + 2,
               at[0] == 'w'   ? "for writing"
               : at[0] == 'r' ? "for reading"
                              : "and is being detached there");
        at += 2 + len;
        at += at[0] == ' ';
    }
}

/* Which secret opens the volume, and whether it is to get another one. */
void volume_print_generation(const M(Record) * r)
{
    const M(Rotation) *next = r->rotation;

    if (r->generation == 0)
        printf("%-14s %s\n", "secret", "destroyed");
    else if (!next)
        printf("%-14s generation %u\n", "secret", r->generation);
    else
        printf("%-14s generation %u, to become %u: %s\n", "secret", r->generation, next->generation,
               next->header_digest.len > 0 ? "a node has begun" : "by the node that writes it");
}

/* "6 d 23 h": rounded down, because it is a promise. */
static void print_remaining(uint64_t ms, char *out, size_t size)
{
    const unsigned long long minutes = ms / 60000, hours = minutes / 60;

    if (hours >= 24)
        (void)snprintf(out, size, "%llu d %llu h", hours / 24, hours % 24);
    else if (hours > 0)
        (void)snprintf(out, size, "%llu h %llu min", hours, minutes % 60);
    else
        (void)snprintf(out, size, "%llu s", (unsigned long long)ms / 1000);
}

/* The time that remains is in DescribeRecord's answer alone. */
static void print_retained(const M(Record) * r)
{
    char when[CLOCK_TEXT_LEN], remaining[32];

    if (!r->retained)
        return;
    clock_text(r->retained->deleted_ms, when);
    print_remaining(r->retained->remaining_ms, remaining, sizeof(remaining));
    printf("%-14s %s, by %s\n%-14s for %s more at least: tdvolctl volume undelete %s\n", "deleted",
           when, r->retained->by, "key is kept", remaining, r->volume_id);
}

static void print_restored(const M(Record) * r)
{
    if (r->restored)
        printf("%-14s %s\n", "from a backup",
               r->restored->adopted ? "adopted; the next opening takes any disk since then"
                                    : "not adopted: it may be older than the disk");
}

void volume_print(const M(Record) * r)
{
    char size[32];

    print_size(r->spec->size_bytes, size, sizeof(size));
    printf("%-14s %s\n", "volume", r->volume_id);
    printf("%-14s %s\n", "name", r->spec->name);
    printf("%-14s %s\n", "driver", r->driver);
    printf("%-14s %s\n", "kind", VALUE_NAME(kind, r->kind));
    printf("%-14s %s\n", "phase", VALUE_NAME(phase, r->phase));
    printf("%-14s %s\n", "size", size);
    printf("%-14s %s\n", "integrity", integrity_word(r));
    if (r->spec->no_journal)
        printf("%-14s %s\n", "journal", "off: a crash can make it unreadable");
    printf("%-14s %s\n", "content", r->spec->fs_type[0] ? r->spec->fs_type : "raw block");
    if (r->spec->location[0])
        printf("%-14s %s\n", "location", r->spec->location);
    if (r->spec->fencing == TDVOL__KEYBROKER__V1__FENCING__FENCING_SUSPEND)
        printf("%-14s %s\n", "fencing", "a node that loses its lease suspends the volume");
    if (r->source_volume_id[0])
        printf("%-14s %s\n", "copy of", r->source_volume_id);
    print_published(r);
    print_restored(r);
    print_retained(r);
    print_times(r);
    printf("%-14s %llu\n", "open counter", (unsigned long long)r->open_counter);
    printf("%-14s %s\n", "closed", r->is_closed ? "cleanly" : "open, or not cleanly");
    printf("%-14s %llu\n", "version", (unsigned long long)r->version);
    print_bytes("record", &r->record_id);
    print_bytes("key", &r->key_id);
    volume_print_generation(r);
    for (size_t i = 0; i < r->n_header_digests; i++)
        print_bytes("header", &r->header_digests[i]);
    if (r->recovery_sha256.len > 0)
        print_bytes("recovery", &r->recovery_sha256);
    else
        printf("%-14s %s\n", "recovery", "no token: only the broker opens it");
}

/* --- what became of its secrets --- */

static const char *state_word(M(RemainsState) state)
{
    return state == TDVOL__KEYBROKER__V1__REMAINS_STATE__REMAINS_STATE_NONE       ? "no"
           : state == TDVOL__KEYBROKER__V1__REMAINS_STATE__REMAINS_STATE_POSSIBLE ? "yes"
                                                                                  : "not known";
}

/* "STORE" */
static const char *place_name(const M(Remains) * remains)
{
    return VALUE_NAME(remains_place, remains->place);
}

static void print_destroyed(const M(Destroyed) * lost)
{
    char when[CLOCK_TEXT_LEN];

    clock_text(lost->destroyed_ms, when);
    printf("\nsecret of generation %u: %s at %s, by %s (audit line %llu%s%s)\n", lost->generation,
           lost->users > 0 ? "taken from this record, not destroyed," : "key destroyed", when,
           lost->by, (unsigned long long)lost->audit_seq, lost->replica[0] != '\0' ? " of " : "",
           lost->replica);
    if (lost->is_shared && lost->users == 0)
        puts("  Other records had it then. It was destroyed later, with the last of them, which "
             "says when.");
    print_bytes("  key", &lost->key_id);
    puts("  What may remain of it, where and until when:");
    for (size_t i = 0; i < lost->n_remains; i++)
        printf("  %-10s %-9s  %s\n", place_name(lost->remains[i]),
               state_word(lost->remains[i]->state), lost->remains[i]->text);
}

static void print_all_destroyed(const M(Record) * r)
{
    for (size_t i = 0; i < r->n_destroyed; i++)
        print_destroyed(r->destroyed[i]);
    if (r->destroyed_before > 0)
        printf("\n%llu secrets before these are in the audit log alone\n",
               (unsigned long long)r->destroyed_before);
}

/* --- the commands --- */

static bool list(const struct broker_options *options, struct client *client, struct arena *arena,
                 struct error *err)
{
    const struct volume_walk table = { print_row, NULL, options->deleted };
    const struct volume_walk json = { print_json_row, err, options->deleted };

    if (!options->json)
        printf("%-30s %-9s %-10s %8s %-11s %-20s %s\n", "VOLUME", "KIND", "PHASE", "SIZE",
               "INTEGRITY", "OPEN ON", "CREATED");
    return volume_visit_all(client, options->driver, arena, options->json ? &json : &table, err) &&
           err->code == ERROR_NONE;
}

static bool show(const struct broker_options *options, struct client *client, struct arena *arena,
                 struct error *err)
{
    M(DescribeRecordRequest) request = TDVOL__KEYBROKER__V1__DESCRIBE_RECORD_REQUEST__INIT;
    const M(Record) *r = NULL;
    ProtobufCMessage *answer = NULL;

    if (!volume_any_by_id(options, client, arena, &r, err))
        return false;
    request.driver = r->driver;
    request.volume_id = r->volume_id;
    if (!broker_call(client, "DescribeRecord", &request.base, arena, &answer, err))
        return false;
    r = ((const M(DescribeRecordResponse) *)(const void *)answer)->record;
    if (!r || !r->spec)
        return error_set(err, ERROR_INTERNAL, "the broker's record has no spec");
    if (options->json)
        return broker_print_json(&r->base, err);
    volume_print(r);
    print_all_destroyed(r);
    return true;
}

static const struct option list_rows[] = {
    BROKER_ROWS,
    VOLUME_DRIVER_ROW("Only volumes of this CSI driver."),
    OPTION_BOOL_ROW("deleted", struct broker_options, deleted, "Those that were deleted instead."),
};
static const struct option show_rows[] = { BROKER_ROWS, VOLUME_DRIVER_ROW(VOLUME_ONE_DRIVER) };

int command_volume_list(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume list",
        .usage = "[OPTIONS]\n\nLists the volumes and snapshots that the broker knows.",
        .options = list_rows,
        .n_options = ARRAY_LEN(list_rows),
        .run = list,
    };

    return broker_command_run(&command, argc, argv);
}

int command_volume_show(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "volume show",
        .usage =
            "ID [OPTIONS]\n\nShows the broker's record of one volume or snapshot, also of one that was "
            "deleted; when secrets\nof it were destroyed, and where something of them may be.",
        .options = show_rows,
        .n_options = ARRAY_LEN(show_rows),
        .n_arguments = 1,
        .run = show,
    };

    return broker_command_run(&command, argc, argv);
}
