/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "broker/handlers.h"
#include "broker/rewrap.h"
#include "store/keyring.h"

/* What administrators do with the store's keys, and see of them. */

bool wrapping_status(struct judged_call *s, M(GetStatusResponse) * response, struct error *err)
{
    struct rewrap_state work = { .records = 0 };
    struct keyring_state ring;

    keyring_state(s->broker->keyring, &ring);
    if (s->broker->rewrap)
        rewrap_state(s->broker->rewrap, &work);
    response->master_key = arena_strdup(s->call->arena, ring.master);
    response->has_old_master_key = ring.has_old_master;
    response->wrapping_generation = ring.generation;
    response->wrapping_anew = ring.has_former;
    response->wrapped_anew = ring.has_former ? work.records : 0;
    response->wrapping_problem = arena_strdup(s->call->arena, work.problem.text);
    return (response->master_key && response->wrapping_problem) || arena_exhausted(err);
}

/* The line comes before the change, as with all changes; whether it was made is in the call's line. */
static bool record_begin(struct judged_call *s, bool drops_master, struct error *err)
{
    const struct log_field fields[] = {
        TEXT("event", "keys-rotate"),
        TEXT("note", drops_master ? "the former master key is to be dropped, and all secrets to be "
                                    "wrapped with a new key"
                                  : "all secrets are to be wrapped with a new key"),
        TEXT("rule", policy_rule_name(s->rule)),
    };

    return audit_write(s->broker->audit, fields, ARRAY_LEN(fields), NULL, err);
}

bool rotate_wrapping(struct judged_call *s, struct rpc_call *call,
                     const M(RotateWrappingRequest) * request, M(RotateWrappingResponse) * response,
                     struct error *err)
{
    bool drops_master = request->drops_old_master != 0;
    struct keyring_state ring;

    (void)call;
    /* An administrator of one tenant does not decide over the keys of all. */
    if (!policy_may(s->rule, POLICY_UNSEAL))
        return judged_call_deny(s, "the rule does not allow unseal beside admin", err);
    if (!record_begin(s, drops_master, err) ||
        !keyring_rotate(s->broker->keyring, drops_master, err))
        return false;
    if (s->broker->rewrap)
        rewrap_begin(s->broker->rewrap);
    keyring_state(s->broker->keyring, &ring);
    response->generation = ring.generation;
    return true;
}
