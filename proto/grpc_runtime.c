/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_runtime.h"

#include "base/log.h"
#include "base/secret.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/support/log.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void forward_log(gpr_log_func_args *args)
{
    enum log_level level = args->severity == GPR_LOG_SEVERITY_ERROR ? LOG_WARNING : LOG_DEBUG;

    log_at(level, "grpc", TEXT("text", args->message), TEXT("file", args->file),
           NUMBER("line", args->line));
}

static void prepare(void)
{
    if (setenv("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384", 1) != 0)
        abort(); /* rather than serve TLS 1.2 */
    gpr_set_log_function(forward_log);
    (void)mallopt(M_ARENA_MAX, 2); /* otherwise each of gRPC's threads has its own heap */
}

void grpc_runtime_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, prepare);
    grpc_init();
}

void grpc_runtime_close(void)
{
    grpc_shutdown();
}

bool grpc_runtime_read(grpc_byte_buffer *buffer, bool wipe, struct arena *arena,
                       struct rpc_bytes *out, struct error *err)
{
    size_t len = grpc_byte_buffer_length(buffer);
    uint8_t *bytes = arena_alloc(arena, len);
    size_t done = 0;
    grpc_byte_buffer_reader reader;
    grpc_slice *slice = NULL;

    if (!bytes)
        return arena_exhausted(err);
    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the message cannot be read");
    while (grpc_byte_buffer_reader_peek(&reader, &slice)) {
        size_t n = GRPC_SLICE_LENGTH(*slice);

        memcpy(bytes + done, GRPC_SLICE_START_PTR(*slice), n);
        if (wipe)
            bytes_wipe(GRPC_SLICE_START_PTR(*slice), n);
        done += n;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    *out = (struct rpc_bytes){ bytes, done };
    return true;
}

grpc_byte_buffer *grpc_runtime_write(struct rpc_bytes message)
{
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)message.bytes, message.len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}
