/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/binding.h"
#include "attest/reason.h"
#include "base/hpke.h"
#include "broker/attest_service.h"
#include "broker/handlers.h"
#include "master/replica.h"
#include "store/keyring.h"

#include <string.h>

/* The certificate of the client CA may fit a rule, but nothing is known then of what runs there. The policy
 * allows no such rule; this does not depend on it. */
static bool check_evidence(struct judged_call *s, struct error *err)
{
    if (s->caller.attested && s->caller.who.tee)
        return true;
    judged_call_deny(s, "the master key goes to attested TDs alone", err);
    return error_reason(err, attest_reason_name(REASON_NOT_ATTESTED));
}

bool replicate(struct judged_call *s, struct rpc_call *call, const M(ReplicateRequest) * request,
               M(ReplicateResponse) * response, struct error *err)
{
    auto_secret struct secret master = SECRET_INIT;
    struct replica_binding binding;
    uint8_t *sealed = arena_alloc(call->arena, REPLICA_SEALED_LEN);

    if (!sealed)
        return arena_exhausted(err);
    if (request->nonce.len != BINDING_LEN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nonce must have %d bytes", BINDING_LEN);
    if (!check_evidence(s, err) ||
        !judged_call_check_sealing_key(s, &request->sealing_public_key, err))
        return false;
    memcpy(binding.broker_key_sha256, attest_own_key(s->broker, call), BINDING_LEN);
    memcpy(binding.nonce, request->nonce.data, BINDING_LEN);
    if (!keyring_master(s->broker->keyring, &master, err) ||
        !replica_seal(request->sealing_public_key.data, &binding, &master, sealed, err))
        return false;
    response->sealed_key = (ProtobufCBinaryData){ REPLICA_SEALED_LEN, sealed };
    return true;
}
