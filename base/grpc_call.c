/* SPDX-License-Identifier: Apache-2.0 */
#include "base/grpc_call.h"

#include "base/clock.h"
#include "base/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    PREFIX_BYTES = 5, /* before a message: whether it is compressed, and its length */
    RECEIVE_BYTES = 4096,
    TOTAL_MAX = 1 << 20, /* all that a server may send in one call */
    HEADERS_MAX = 16 * 1024,
    ACKS_MAX = 100,
    TIMEOUT_MS_MAX = 99999999, /* eight digits */
    TIMEOUT_TEXT = 16,
};

struct grpc_talk {
    const struct grpc_question *question;
    struct grpc_answer *answer;
    int fd;
    uint8_t sent_prefix[PREFIX_BYTES], prefix[PREFIX_BYTES];
    size_t sent, received,
        total; /* bytes: of the request and of the answer, each with its prefix */
    int32_t stream;
    bool has_status, is_ended;
    uint32_t end_code; /* of HTTP/2 */
    struct error *err; /* set where a callback fails */
};

/* --- the socket --- */

static int left_ms(const struct grpc_talk *t)
{
    uint64_t now_ms = clock_now_ms(), until_ms = t->question->deadline_ms;

    if (until_ms == 0)
        return -1;
    uint64_t left = until_ms > now_ms ? until_ms - now_ms : 0;
    return left > INT32_MAX ? INT32_MAX : (int)left;
}

static bool wait_for(const struct grpc_talk *t, short events, struct error *err)
{
    struct pollfd fds[] = { { .fd = t->fd, .events = events },
                            { .fd = t->question->caller_fd, .events = POLLRDHUP } };

    for (;;) {
        int n = poll(fds, ARRAY_LEN(fds), left_ms(t));

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for an answer");
        if (n > 0 && fds[1].revents)
            return error_set(err, ERROR_CANCELLED, "the caller is gone");
        if (n > 0)
            return true;
        if (n == 0)
            return error_set(err, ERROR_DEADLINE_EXCEEDED, "no answer in time");
    }
}

static bool lost(int code, struct error *err)
{
    error_set_errno(err, code, "the connection broke");
    err->code = ERROR_UNAVAILABLE;
    return false;
}

static bool send_bytes(const struct grpc_talk *t, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(t->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return lost(errno, t->err);
        if (n < 0 && !wait_for(t, POLLOUT, t->err))
            return false;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* --- what nghttp2 calls --- */

static ssize_t on_send(nghttp2_session *http2 UNUSED, const uint8_t *bytes, size_t len,
                       int flags UNUSED, void *cookie)
{
    return send_bytes(cookie, bytes, len) ? (ssize_t)len : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Only says how much there is: on_send_data() sends it from where it lies, so no copy of it is made. */
static ssize_t on_read(nghttp2_session *http2 UNUSED, int32_t stream UNUSED, uint8_t *out UNUSED,
                       size_t size, uint32_t *flags, nghttp2_data_source *source UNUSED,
                       void *cookie)
{
    const struct grpc_talk *t = cookie;
    size_t left = PREFIX_BYTES + t->question->len - t->sent;
    size_t n = left < size ? left : size;

    *flags |= NGHTTP2_DATA_FLAG_NO_COPY | (n == left ? NGHTTP2_DATA_FLAG_EOF : 0);
    return (ssize_t)n;
}

static int on_send_data(nghttp2_session *http2 UNUSED, nghttp2_frame *frame UNUSED,
                        const uint8_t *head, size_t len, nghttp2_data_source *source UNUSED,
                        void *cookie)
{
    enum { HEAD_BYTES = 9 };
    struct grpc_talk *t = cookie;
    size_t before = t->sent < PREFIX_BYTES ? PREFIX_BYTES - t->sent : 0;
    size_t of_prefix = before < len ? before : len;

    if (!send_bytes(t, head, HEAD_BYTES) ||
        !send_bytes(t, t->sent_prefix + PREFIX_BYTES - before, of_prefix))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    t->sent += of_prefix;
    len -= of_prefix;
    if (len > 0 && !send_bytes(t, t->question->request + t->sent - PREFIX_BYTES, len))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    t->sent += len;
    return 0;
}

static bool is_name(const uint8_t *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static bool read_status(const uint8_t *value, size_t len, uint32_t *out)
{
    uint32_t status = 0;

    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        status = status * 10 + (uint32_t)(value[i] - '0');
    }
    *out = status;
    return len > 0 && len <= 3;
}

static void keep_text(const uint8_t *value, size_t len, char out[static GRPC_CALL_TEXT_MAX])
{
    size_t n = 0;

    while (n < len && n < GRPC_CALL_TEXT_MAX - 1) {
        out[n] = '?';
        if (value[n] >= ' ' && value[n] <= '~')
            out[n] = (char)value[n];
        n++;
    }
    out[n] = '\0';
}

/* The status comes in the trailers, or in the headers of an answer without a message. */
static int on_header(nghttp2_session *http2 UNUSED, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags UNUSED,
                     void *cookie)
{
    struct grpc_talk *t = cookie;

    if (frame->hd.stream_id != t->stream)
        return 0;
    if (is_name(name, name_len, "grpc-status"))
        t->has_status = read_status(value, len, &t->answer->status);
    else if (is_name(name, name_len, "grpc-message"))
        keep_text(value, len, t->answer->text);
    return 0;
}

static int on_data(nghttp2_session *http2 UNUSED, uint8_t flags UNUSED, int32_t stream UNUSED,
                   const uint8_t *bytes, size_t len, void *cookie)
{
    struct grpc_talk *t = cookie;
    size_t before = t->received < PREFIX_BYTES ? PREFIX_BYTES - t->received : 0;
    size_t of_prefix = before < len ? before : len;

    memcpy(t->prefix + PREFIX_BYTES - before, bytes, of_prefix);
    t->received += of_prefix;
    bytes += of_prefix;
    len -= of_prefix;
    if (len > t->answer->size - t->answer->len) {
        error_set(t->err, ERROR_RESOURCE_EXHAUSTED, "the answer is larger than %zu bytes",
                  t->answer->size);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (len > 0)
        memcpy(t->answer->bytes + t->answer->len, bytes, len);
    t->answer->len += len;
    t->received += len;
    return 0;
}

static int on_stream_close(nghttp2_session *http2 UNUSED, int32_t stream, uint32_t code,
                           void *cookie)
{
    struct grpc_talk *t = cookie;

    if (stream == t->stream) {
        t->is_ended = true;
        t->end_code = code;
    }
    return 0;
}

/* --- the call --- */

static void http2_free(nghttp2_session **http2)
{
    nghttp2_session_del(*http2);
}
#define auto_http2 CLEANUP(http2_free)

static bool start(struct grpc_talk *t, nghttp2_session **out, struct error *err)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int failure = NGHTTP2_ERR_NOMEM;

    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
        nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
        failure = nghttp2_session_client_new2(out, callbacks, t, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return failure == 0 || error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a call");
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name,
                         .namelen = strlen(name),
                         .value = (uint8_t *)(uintptr_t)value,
                         .valuelen = strlen(value) };
}

static bool ask(struct grpc_talk *t, nghttp2_session *http2, struct error *err)
{
    static const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX },
    };
    const nghttp2_data_provider data = { .read_callback = on_read };
    int left = left_ms(t);
    char timeout[TIMEOUT_TEXT];

    (void)snprintf(timeout, sizeof(timeout), "%dm", left < TIMEOUT_MS_MAX ? left : TIMEOUT_MS_MAX);
    const nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", t->question->path),
        header(":authority", "localhost"),
        header("te", "trailers"),
        header("content-type", "application/grpc"),
        header("user-agent", "tdvol"),
        header("grpc-timeout", timeout), /* the last: left out when there is none */
    };
    size_t n = ARRAY_LEN(headers) - (left < 0);

    if (nghttp2_submit_settings(http2, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) != 0)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a call");
    t->stream = nghttp2_submit_request(http2, NULL, headers, n, &data, NULL);
    return t->stream > 0 || error_set(err, ERROR_INTERNAL, "the call cannot be sent");
}

/* Callbacks say in err why they failed. */
static bool broken(int failure, struct error *err)
{
    return failure == NGHTTP2_ERR_CALLBACK_FAILURE
               ? false
               : error_set(err, ERROR_INTERNAL, "the answer is no HTTP/2: %s",
                           nghttp2_strerror(failure));
}

static bool flush(nghttp2_session *http2, struct error *err)
{
    int failure = nghttp2_session_send(http2);

    return failure == 0 || broken(failure, err);
}

static bool receive(struct grpc_talk *t, nghttp2_session *http2, struct error *err)
{
    uint8_t bytes[RECEIVE_BYTES];
    ssize_t n;

    if (!wait_for(t, POLLIN, err))
        return false;
    n = recv(t->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR || lost(errno, err);
    if (n == 0)
        return error_set(err, ERROR_UNAVAILABLE, "the connection was closed before the answer");
    t->total += (size_t)n;
    if (t->total > TOTAL_MAX)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "the answer does not end");
    ssize_t used = nghttp2_session_mem_recv(http2, bytes, (size_t)n);
    return used >= 0 || broken((int)used, err);
}

static bool check_end(const struct grpc_talk *t, struct error *err)
{
    const struct grpc_answer *a = t->answer;
    bool is_refused = t->end_code == NGHTTP2_REFUSED_STREAM;

    if (!t->has_status)
        return error_set(err, is_refused ? ERROR_UNAVAILABLE : ERROR_INTERNAL,
                         "the call ended without a status, HTTP/2 code %" PRIu32, t->end_code);
    if (a->status != 0)
        return true;
    if (t->received < PREFIX_BYTES || t->prefix[0] != 0 ||
        big_endian(t->prefix + 1, PREFIX_BYTES - 1) != a->len)
        return error_set(err, ERROR_INTERNAL, "the answer is not one whole message");
    return true;
}

bool grpc_call_run(int fd, const struct grpc_question *question, struct grpc_answer *out,
                   struct error *err)
{
    struct grpc_talk t = { .question = question, .answer = out, .fd = fd, .err = err };
    auto_http2 nghttp2_session *http2 = NULL;

    for (size_t i = 1; i < PREFIX_BYTES; i++)
        t.sent_prefix[i] = (uint8_t)(question->len >> (8 * (PREFIX_BYTES - 1 - i)));
    out->status = 0;
    out->text[0] = '\0';
    out->len = 0;
    if (!start(&t, &http2, err) || !ask(&t, http2, err))
        return false;
    while (!t.is_ended) {
        if (!flush(http2, err) || !receive(&t, http2, err))
            return false;
        if (!t.is_ended && nghttp2_session_want_read(http2) == 0)
            return error_set(err, ERROR_UNAVAILABLE, "the connection was ended before the answer");
    }
    return check_end(&t, err);
}
