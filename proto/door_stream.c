/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_stream.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIELD_OVERHEAD = 32, /* RFC 9113, section 6.5.2 */
    BODY_STEP = 1024,
    STATUS_OK = 200,
    STATUS_METHOD_NOT_ALLOWED = 405,
    STATUS_UNSUPPORTED_MEDIA_TYPE = 415,
    STATUS_HEADER_TOO_LARGE = 431,
};

struct door_stream *door_stream_new(void *session, int32_t id, uint64_t now_ms)
{
    struct door_stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        return NULL;
    stream->session = session;
    stream->id = id;
    stream->begun_ms = now_ms;
    stream->timeout_ms = UINT64_MAX;
    return stream;
}

void door_stream_drop_body(struct door_stream *stream)
{
    if (stream->body && stream->method && (stream->method->flags & RPC_SECRET) != 0)
        bytes_wipe(stream->body, stream->body_bytes);
    free_at(&stream->body);
}

void door_stream_free(struct door_stream *stream)
{
    door_stream_drop_body(stream);
    free(stream);
}

/* --- The header --- */

static bool is_text(const char *value, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(value, wanted, len) == 0;
}

static void take_method(struct door_stream *stream, const char *value, size_t len)
{
    stream->is_post = is_text(value, len, "POST");
}

static void take_path(struct door_stream *stream, const char *value, size_t len)
{
    stream->has_long_path = len >= sizeof(stream->path); /* none of our methods is that long */
    if (stream->has_long_path)
        len = sizeof(stream->path) - 1;
    memcpy(stream->path, value, len);
    stream->path[len] = '\0';
}

static void take_type(struct door_stream *stream, const char *value, size_t len)
{
    stream->is_grpc = grpc_wire_is_content_type(value, len);
}

static void take_te(struct door_stream *stream, const char *value, size_t len)
{
    stream->takes_trailers = is_text(value, len, "trailers");
}

static void take_encoding(struct door_stream *stream, const char *value, size_t len)
{
    stream->is_encoded = !is_text(value, len, "identity");
}

static void take_timeout(struct door_stream *stream, const char *value, size_t len)
{
    stream->has_bad_timeout = !grpc_wire_read_timeout(value, len, &stream->timeout_ms);
}

static const struct field_row {
    const char *name;
    void (*take)(struct door_stream *stream, const char *value, size_t len);
} field_rows[] = {
    { ":method", take_method },         { ":path", take_path },
    { "content-type", take_type },      { "te", take_te },
    { "grpc-encoding", take_encoding }, { "grpc-timeout", take_timeout },
};

void door_stream_take_field(struct door_stream *stream, const char *name, size_t name_len,
                            const char *value, size_t value_len)
{
    stream->header_bytes += name_len + value_len + FIELD_OVERHEAD;
    if (stream->state != DOOR_STREAM_HEADER || stream->header_bytes > DOOR_HEADER_BYTES_MAX)
        return;
    for (size_t i = 0; i < ARRAY_LEN(field_rows); i++)
        if (is_text(name, name_len, field_rows[i].name))
            field_rows[i].take(stream, value, value_len);
}

unsigned door_stream_http_status(const struct door_stream *stream)
{
    if (stream->header_bytes > DOOR_HEADER_BYTES_MAX)
        return STATUS_HEADER_TOO_LARGE;
    if (!stream->is_post)
        return STATUS_METHOD_NOT_ALLOWED;
    return stream->is_grpc ? STATUS_OK : STATUS_UNSUPPORTED_MEDIA_TYPE;
}

static void find_method(struct door_stream *stream, const struct server_binding *bindings, size_t n)
{
    for (size_t i = 0; i < n && !stream->method && !stream->has_long_path; i++) {
        stream->binding = &bindings[i];
        stream->method = rpc_service_find(bindings[i].service, stream->path);
    }
}

bool door_stream_check_header(struct door_stream *stream, const struct server_binding *bindings,
                              size_t n, struct error *err)
{
    find_method(stream, bindings, n);
    if (!stream->takes_trailers)
        return error_set(err, ERROR_INTERNAL, "%s: the header \"te: trailers\" is missing",
                         stream->path);
    if (!stream->method)
        return error_set(err, ERROR_UNIMPLEMENTED, "%s: this socket does not serve this method",
                         stream->path);
    if (stream->is_encoded)
        return error_set(err, ERROR_UNIMPLEMENTED, "%s: compression is not supported",
                         stream->path);
    if (stream->has_bad_timeout)
        return error_set(err, ERROR_INTERNAL, "%s: the header grpc-timeout is malformed",
                         stream->path);
    return true;
}

/* --- The message --- */

/* Doubles, but never beyond what was announced. */
static size_t grown_size(const struct door_stream *stream, size_t len)
{
    size_t need = stream->body_bytes + len;
    size_t size = stream->body_size > 0 ? 2 * stream->body_size : BODY_STEP;

    if (need <= stream->body_size)
        return stream->body_size;
    if (size < need)
        size = need;
    return size < stream->body_announced ? size : stream->body_announced;
}

size_t door_stream_growth(const struct door_stream *stream, size_t len)
{
    size_t missing = GRPC_WIRE_PREFIX_LEN - stream->prefix_bytes;

    /* What is announced is not known before the whole prefix is there; then the body is empty. */
    if (missing > 0)
        return len > missing ? len - missing + BODY_STEP : 0;
    return grown_size(stream, len) - stream->body_size;
}

static bool grow(struct door_stream *stream, size_t len, struct error *err)
{
    size_t size = grown_size(stream, len);
    uint8_t *body = NULL;

    if (size == stream->body_size)
        return true;
    body = malloc(size); /* not realloc(): it could leave a copy of secrets behind */
    if (!body)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the request");
    if (stream->body_bytes > 0)
        memcpy(body, stream->body, stream->body_bytes);
    door_stream_drop_body(stream);
    stream->body = body;
    stream->body_size = size;
    return true;
}

static bool check_prefix(struct door_stream *stream, const struct rpc_limits *limits,
                         struct error *err)
{
    struct grpc_wire_prefix prefix = grpc_wire_read_prefix(stream->prefix);

    if (prefix.is_compressed)
        return error_set(err, ERROR_INTERNAL, "%s: the message is compressed without grpc-encoding",
                         stream->path);
    if (prefix.len > rpc_method_limit(stream->method, limits))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "%s: the request is too long",
                         stream->path);
    stream->body_announced = prefix.len;
    return true;
}

bool door_stream_take_body(struct door_stream *stream, const struct rpc_limits *limits,
                           const uint8_t *bytes, size_t len, struct error *err)
{
    if (stream->prefix_bytes < GRPC_WIRE_PREFIX_LEN) {
        size_t missing = GRPC_WIRE_PREFIX_LEN - stream->prefix_bytes;
        size_t n = len < missing ? len : missing;

        memcpy(stream->prefix + stream->prefix_bytes, bytes, n);
        stream->prefix_bytes += n;
        bytes += n;
        len -= n;
        if (stream->prefix_bytes < GRPC_WIRE_PREFIX_LEN)
            return true;
        if (!check_prefix(stream, limits, err))
            return false;
    }
    if (len > stream->body_announced - stream->body_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: more than one request", stream->path);
    if (len == 0)
        return true;
    if (!grow(stream, len, err))
        return false;
    memcpy(stream->body + stream->body_bytes, bytes, len);
    stream->body_bytes += len;
    return true;
}

static uint64_t deadline_of(const struct door_stream *stream)
{
    return stream->timeout_ms < UINT64_MAX - stream->begun_ms
               ? stream->begun_ms + stream->timeout_ms
               : UINT64_MAX;
}

bool door_stream_make_call(struct door_stream *stream, struct door_peer *peer,
                           struct door_call **out, struct error *err)
{
    if (stream->prefix_bytes < GRPC_WIRE_PREFIX_LEN || stream->body_bytes < stream->body_announced)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: the request is missing or not complete",
                         stream->path);
    struct door_call *call = door_call_new(peer);

    if (!call)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the call");
    memcpy(call->path, stream->path, sizeof(call->path));
    call->stream = stream;
    call->binding = stream->binding;
    call->method = stream->method;
    call->arrived_ms = stream->begun_ms;
    call->deadline_ms = deadline_of(stream);
    call->request_bytes = stream->body_bytes;
    call->request = TAKE_PTR(stream->body);
    *out = call;
    return true;
}
