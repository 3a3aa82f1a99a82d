/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "ctl/broker.h"
#include "ctl/command.h"

static void print_keys(const Tdvol__Keybroker__V1__GetStatusResponse *r)
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
    static const Tdvol__Keybroker__V1__GetStatusRequest request =
        TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    char now[CLOCK_TEXT_LEN];

    if (!broker_call(client, "GetStatus", &request.base, arena, &message, err))
        return false;
    if (options->json)
        return broker_print_json(message, err);

    const Tdvol__Keybroker__V1__GetStatusResponse *r = (const void *)message;
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
