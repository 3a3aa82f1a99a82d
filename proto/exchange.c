/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/exchange.h"

#include "proto/peer.h"
#include "proto/status.h"

struct exchange exchange_begin(grpc_byte_buffer *request)
{
    grpc_slice nothing = grpc_empty_slice();
    struct exchange x = {
        .events = grpc_completion_queue_create_for_pluck(NULL),
        .request = request ? request : grpc_raw_byte_buffer_create(&nothing, 1),
        .text = grpc_empty_slice(),
    };

    grpc_metadata_array_init(&x.initial);
    grpc_metadata_array_init(&x.trailing);
    return x;
}

void exchange_call(struct exchange *x, grpc_channel *channel, const char *path,
                   gpr_timespec deadline)
{
    grpc_slice path_slice = grpc_slice_from_copied_string(path);

    x->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, x->events,
                                       path_slice, NULL, deadline, NULL);
    grpc_slice_unref(path_slice);
}

bool exchange_run(struct exchange *x)
{
    grpc_op ops[6] = {
        { .op = GRPC_OP_SEND_INITIAL_METADATA },  { .op = GRPC_OP_SEND_MESSAGE },
        { .op = GRPC_OP_SEND_CLOSE_FROM_CLIENT }, { .op = GRPC_OP_RECV_INITIAL_METADATA },
        { .op = GRPC_OP_RECV_MESSAGE },           { .op = GRPC_OP_RECV_STATUS_ON_CLIENT }
    };

    ops[1].data.send_message.send_message = x->request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &x->initial;
    ops[4].data.recv_message.recv_message = &x->answer;
    ops[5].data.recv_status_on_client.trailing_metadata = &x->trailing;
    ops[5].data.recv_status_on_client.status = &x->status;
    ops[5].data.recv_status_on_client.status_details = &x->text;
    if (grpc_call_start_batch(x->call, ops, ARRAY_LEN(ops), x, NULL) != GRPC_CALL_OK)
        return false;
    (void)grpc_completion_queue_pluck(x->events, x, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return true;
}

void exchange_end(struct exchange *x)
{
    if (x->call)
        grpc_call_unref(x->call);
    if (x->request)
        grpc_byte_buffer_destroy(x->request);
    if (x->answer)
        grpc_byte_buffer_destroy(x->answer);
    grpc_metadata_array_destroy(&x->initial);
    grpc_metadata_array_destroy(&x->trailing);
    grpc_slice_unref(x->text);
    grpc_completion_queue_shutdown(x->events);
    grpc_completion_queue_destroy(x->events);
}

void exchange_explain(const struct exchange *x, const char *path, struct error *err)
{
    enum error_code code = status_to_error((int)x->status);
    int len = (int)GRPC_SLICE_LENGTH(x->text);

    if (len == 0)
        error_set(err, code, "%s: %s", path, error_code_name(code));
    else
        error_set(err, code, "%.*s", len, (const char *)GRPC_SLICE_START_PTR(x->text));
    peer_reason_take(&x->trailing, err);
}
