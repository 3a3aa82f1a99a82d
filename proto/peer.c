/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/peer.h"

#include "base/clock.h"
#include "proto/status.h"

#include <grpc/grpc_security.h>
#include <string.h>

static const grpc_auth_property *find_property(const grpc_auth_context *context, const char *name)
{
    grpc_auth_property_iterator all = grpc_auth_context_find_properties_by_name(context, name);

    return grpc_auth_property_iterator_next(&all);
}

static bool copy_certificate(const grpc_auth_context *context, struct arena *arena,
                             struct rpc_peer *peer)
{
    const grpc_auth_property *certificate =
        find_property(context, GRPC_X509_PEM_CERT_PROPERTY_NAME);

    if (!certificate)
        return true;
    char *pem = arena_alloc(arena, certificate->value_length + 1);
    if (pem)
        memcpy(pem, certificate->value, certificate->value_length);
    peer->certificate_pem = pem;
    return pem != NULL;
}

bool peer_read(grpc_call *call, struct arena *arena, struct rpc_peer *out, struct error *err)
{
    grpc_auth_context *context = grpc_call_auth_context(call);
    struct rpc_peer peer = { .certificate_pem = NULL };
    bool is_copied = true;

    if (context) {
        const grpc_auth_property *reused = find_property(context, GRPC_SSL_SESSION_REUSED_PROPERTY);

        peer.session_reused = reused && strcmp(reused->value, "true") == 0;
        is_copied = copy_certificate(context, arena, &peer);
        grpc_auth_context_release(context);
    }
    if (!is_copied)
        return arena_exhausted(err);
    *out = peer;
    return true;
}

uint64_t peer_deadline_ms(const grpc_call_details *details)
{
    gpr_timespec deadline = details->deadline;

    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return UINT64_MAX;
    gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    int32_t left_ms = gpr_time_to_millis(left); /* at most 24 days */
    return clock_now_ms() + (left_ms > 0 ? (uint64_t)left_ms : 0);
}

grpc_slice peer_reason_slice(const struct error *err)
{
    return status_reason_is_word(err->reason, strlen(err->reason))
               ? grpc_slice_from_copied_string(err->reason)
               : grpc_empty_slice();
}

void peer_reason_take(const grpc_metadata_array *trailing, struct error *err)
{
    for (size_t i = 0; i < trailing->count; i++) {
        const grpc_slice *value = &trailing->metadata[i].value;
        const char *text = (const char *)GRPC_SLICE_START_PTR(*value);
        size_t len = GRPC_SLICE_LENGTH(*value);
        char reason[sizeof(err->reason)];

        if (grpc_slice_str_cmp(trailing->metadata[i].key, PEER_REASON_KEY) != 0 ||
            !status_reason_is_word(text, len))
            continue;
        memcpy(reason, text, len);
        reason[len] = '\0';
        error_reason(err, reason);
        return;
    }
}
