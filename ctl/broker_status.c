/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "ctl/broker.h"
#include "ctl/command.h"

#include <time.h>

/* "tdvolctl broker status"; and "broker rotate-wrapping" and "broker rotate-master", which wait until the
 * status says that they have ended. */

#define M(name)  Tdvol__Keybroker__V1__##name /* generated message types */
#define PAUSE_NS (500 * 1000 * 1000)
#define SHOW_MS  5000u

static void print_keys(const M(GetStatusResponse) * r)
{
    printf("master   %s%s\nwrapping generation %llu", r->master_key,
           r->has_old_master_key ? ", being changed: the former one is good, too" : "",
           (unsigned long long)r->wrapping_generation);
    if (r->wrapping_anew)
        printf(", secrets are being wrapped anew: %llu records by this broker",
               (unsigned long long)r->wrapped_anew);
    if (r->wrapping_problem[0] != '\0')
        printf("; it is tried again: %s", r->wrapping_problem);
    (void)putchar('\n');
}

static bool status(const struct broker_options *options, struct client *client, struct arena *arena,
                   struct error *err)
{
    static const M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    char now[CLOCK_TEXT_LEN];

    if (!broker_call(client, "GetStatus", &request.base, arena, &message, err))
        return false;
    if (options->json)
        return broker_print_json(message, err);

    const M(GetStatusResponse) *r = (const void *)message;
    bool is_open = r->state == TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN;

    clock_text(r->time_ms, now);
    printf("state    %s\nversion  %s\ntime     %s\npolicy   %s\n", is_open ? "open" : r->sealed_why,
           r->version, now, r->policy_hash);
    if (is_open)
        print_keys(r);
    if (r->restored_ms > 0) {
        clock_text(r->restored_ms, now);
        printf("restored %s, from a backup: see tdvolctl volume adopt --restored --all\n", now);
    }
    return true;
}

static const struct option options_table[] = { BROKER_ROWS };

int command_broker_status(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "broker status",
        .usage = "[OPTIONS]\n\nSays whether the broker is open or sealed, and which policy it has.",
        .options = options_table,
        .n_options = ARRAY_LEN(options_table),
        .run = status,
    };

    return broker_command_run(&command, argc, argv);
}

/* --- the keys of the store --- */

/* Another broker may do the work, so its records are not counted here. */
static bool wait_for_end(struct client *client, uint64_t generation, struct error *err)
{
    static const M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    const struct timespec pause = { .tv_nsec = PAUSE_NS };
    uint64_t show_ms = clock_now_ms() + SHOW_MS;

    for (;;) {
        auto_arena struct arena arena = { .limit = (size_t)1024 * 1024 };
        ProtobufCMessage *message = NULL;

        if (!broker_call(client, "GetStatus", &request.base, &arena, &message, err))
            return error_wrap(err, "the broker goes on by itself, see \"tdvolctl broker status\"");
        const M(GetStatusResponse) *r = (const void *)message;

        if (r->wrapping_generation != generation || !r->wrapping_anew)
            return true;
        if (clock_now_ms() >= show_ms) {
            fprintf(stderr, "%llu records so far%s%s\n", (unsigned long long)r->wrapped_anew,
                    r->wrapping_problem[0] != '\0' ? "; it is tried again: " : "",
                    r->wrapping_problem);
            show_ms = clock_now_ms() + SHOW_MS;
        }
        (void)nanosleep(&pause, NULL);
    }
}

static bool rotate(const struct broker_options *options, struct client *client, struct arena *arena,
                   bool drops_old_master, struct error *err)
{
    M(RotateWrappingRequest) request = TDVOL__KEYBROKER__V1__ROTATE_WRAPPING_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    request.drops_old_master = drops_old_master;
    if (!broker_call(client, "RotateWrapping", &request.base, arena, &message, err))
        return false;
    if (options->json)
        return broker_print_json(message, err);
    const M(RotateWrappingResponse) *r = (const void *)message;
    unsigned long long generation = r->generation;

    printf("secrets are being wrapped with generation %llu\n", generation);
    (void)fflush(stdout);
    if (!wait_for_end(client, r->generation, err))
        return false;
    printf("all secrets are wrapped with generation %llu; the former key is destroyed%s\n",
           generation,
           drops_old_master ? ", and no broker needs the former master key any more" : "");
    return true;
}

static bool rotate_wrapping(const struct broker_options *options, struct client *client,
                            struct arena *arena, struct error *err)
{
    return rotate(options, client, arena, false, err);
}

static bool rotate_master(const struct broker_options *options, struct client *client,
                          struct arena *arena, struct error *err)
{
    return rotate(options, client, arena, true, err);
}

int command_broker_rotate_wrapping(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "broker rotate-wrapping",
        .usage =
            "[OPTIONS]\n"
            "\n"
            "Has the brokers make a new key that the secrets of volumes are wrapped with, wrap all\n"
            "of them anew, and destroy the former key. This waits for the end; when it is\n"
            "interrupted the brokers go on. With --json it does not wait.",
        .options = options_table,
        .n_options = ARRAY_LEN(options_table),
        .run = rotate_wrapping,
    };

    return broker_command_run(&command, argc, argv);
}

int command_broker_rotate_master(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "broker rotate-master",
        .usage =
            "[OPTIONS]\n"
            "\n"
            "Ends a change of the master key. First start all brokers anew, one after the other,\n"
            "with the new key as --master-key and the former one as --old-master-key. From this\n"
            "call on brokers with the former key alone can change nothing, and all secrets are\n"
            "wrapped anew, as by \"broker rotate-wrapping\".",
        .options = options_table,
        .n_options = ARRAY_LEN(options_table),
        .run = rotate_master,
    };

    return broker_command_run(&command, argc, argv);
}
