/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http.h"

#include "base/clock.h"
#include "base/http_request.h"
#include "base/tcp_listen.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS       (HTTP_SECONDS * 1000u)
#define SEND_BYTES        (64 * 1024) /* of the kernel, for each connection */
#define DEAF_MS           100u
#define ACCEPTS_PER_ROUND 16
#define TYPE_TEXT         "text/plain; charset=utf-8"

enum http_stage {
    READING,
    WRITING,
    LINGERING, /* all is sent. Closing at once would drop the answer when more input is there. */
};

struct http_connection {
    int fd;
    enum http_stage stage;
    uint64_t deadline_ms;
    char network[ADDRESS_NETWORK_LEN];
    size_t used; /* bytes of head */
    char head[HTTP_HEAD_BYTES];
    char *answer;
    size_t answer_len, sent;
};

struct http_server {
    struct tcp_listen sockets;
    int stop_fd; /* an eventfd */
    pthread_t thread;
    const struct http_page *pages;
    size_t n_pages;
    void *cookie;

    /* of the thread alone */
    struct http_connection *connections[HTTP_CONNECTIONS_MAX]; /* the oldest first */
    size_t n;
    size_t answers_bytes;
    uint64_t deaf_until_ms; /* no descriptors were left; 0: it hears */
};

/* --- Connections --- */

static void end(struct http_server *server, size_t i)
{
    struct http_connection *c = server->connections[i];

    server->n--;
    memmove(&server->connections[i], &server->connections[i + 1],
            (server->n - i) * sizeof(server->connections[0]));
    server->answers_bytes -= c->answer_len;
    (void)close(c->fd);
    free(c->answer);
    free(c);
}

/* Before the other end was done. The kernel must not go on sending: that would keep its memory. */
static void drop(struct http_server *server, size_t i)
{
    const struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

    (void)setsockopt(server->connections[i]->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    end(server, i);
}

static size_t count(const struct http_server *server, const char *network)
{
    size_t n = 0;

    for (size_t i = 0; i < server->n; i++)
        n += strcmp(server->connections[i]->network, network) == 0;
    return n;
}

/* There is at least one connection. */
static void drop_oldest_of(struct http_server *server, const char *network)
{
    for (size_t i = 0; i < server->n; i++) {
        if (strcmp(server->connections[i]->network, network) == 0) {
            drop(server, i);
            return;
        }
    }
}

static void drop_oldest_of_largest(struct http_server *server)
{
    const char *largest = server->connections[0]->network;
    size_t most = 0;

    for (size_t i = 0; i < server->n; i++) {
        size_t n = count(server, server->connections[i]->network);

        if (n > most) {
            most = n;
            largest = server->connections[i]->network;
        }
    }
    drop_oldest_of(server, largest);
}

static void begin(struct http_server *server, int fd, const char *host, uint64_t now_ms)
{
    struct http_connection *c = calloc(1, sizeof(*c));

    if (!c) {
        (void)close(fd);
        return;
    }
    c->fd = fd;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){ SEND_BYTES }, sizeof(int));
    c->deadline_ms = now_ms + DEADLINE_MS;
    address_network(host, c->network);
    if (count(server, c->network) >= HTTP_CONNECTIONS_EACH)
        drop_oldest_of(server, c->network);
    else if (server->n == HTTP_CONNECTIONS_MAX)
        drop_oldest_of_largest(server);
    server->connections[server->n++] = c;
}

static void accept_from(struct http_server *server, int listening, uint64_t now_ms)
{
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        char host[ADDRESS_HOST_MAX + 1];
        int fd = -1;
        enum tcp_accepted result = tcp_accept(listening, &fd, host);

        if (result == TCP_NONE_WAITS)
            return;
        if (result == TCP_ACCEPTED) {
            begin(server, fd, host, now_ms);
        } else if (server->n > 0) {
            drop_oldest_of_largest(server);
        } else {
            server->deaf_until_ms = now_ms + DEAF_MS; /* the socket stays readable: do not spin */
            return;
        }
    }
}

/* --- Answers --- */

static const char *words_of(unsigned status)
{
    static const struct {
        unsigned status;
        const char *words;
    } table[] = {
        { HTTP_OK, "OK" },
        { HTTP_UNAVAILABLE, "Service Unavailable" },
        { 400, "Bad Request" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 431, "Request Header Fields Too Large" },
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].words;
    return "";
}

/* False when memory runs out. */
static bool answer(struct http_server *server, struct http_connection *c, unsigned status,
                   const char *type, const char *text, size_t len)
{
    auto_free char *whole = NULL;
    size_t whole_len = 0;
    FILE *out = open_memstream(&whole, &whole_len);

    if (!out)
        return false;
    fprintf(out,
            "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            status, words_of(status), type ? type : TYPE_TEXT, len,
            status == 405 ? "Allow: GET\r\n" : "");
    (void)fwrite(text, 1, len, out);
    if (fclose(out) != 0)
        return false;
    c->answer = TAKE_PTR(whole);
    c->answer_len = whole_len;
    server->answers_bytes += whole_len;
    c->stage = WRITING;
    return true;
}

static bool answer_text(struct http_server *server, struct http_connection *c, unsigned status,
                        const char *text)
{
    return answer(server, c, status, NULL, text, strlen(text));
}

static bool answer_page(struct http_server *server, struct http_connection *c,
                        const struct http_page *page)
{
    auto_free char *text = NULL;
    size_t len = 0;

    if (page->is_long && server->answers_bytes >= HTTP_ANSWERS_BYTES)
        return answer_text(server, c, HTTP_UNAVAILABLE, "too many answers wait to be sent\n");
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return false;
    unsigned status = page->print(server->cookie, out);
    if (fclose(out) != 0)
        return false;
    return answer(server, c, status, page->type, text, len);
}

static bool answer_request(struct http_server *server, struct http_connection *c,
                           const struct http_request *request)
{
    if (!request->is_get)
        return answer_text(server, c, 405, "GET only\n");
    for (size_t i = 0; i < server->n_pages; i++) {
        const char *path = server->pages[i].path;

        if (strlen(path) == request->path_len &&
            memcmp(path, request->path, request->path_len) == 0)
            return answer_page(server, c, &server->pages[i]);
    }
    return answer_text(server, c, 404, "not found\n");
}

/* --- Input and output. Each returns false when the connection has ended. --- */

static bool must_wait(ssize_t n)
{
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool read_more(struct http_server *server, struct http_connection *c)
{
    struct http_request request = { .is_get = false };
    ssize_t n = recv(c->fd, c->head + c->used, sizeof(c->head) - c->used, 0);

    if (n <= 0)
        return must_wait(n);
    c->used += (size_t)n;
    switch (http_request_parse(c->head, c->used, &request)) {
    case HTTP_HEAD_WHOLE:
        return answer_request(server, c, &request);
    case HTTP_HEAD_BAD:
        return answer_text(server, c, 400, "this is no HTTP/1 request\n");
    case HTTP_HEAD_INCOMPLETE:
        break;
    }
    return c->used < sizeof(c->head) || answer_text(server, c, 431, "the request is too long\n");
}

static bool write_more(struct http_connection *c)
{
    ssize_t n = send(c->fd, c->answer + c->sent, c->answer_len - c->sent, MSG_NOSIGNAL);

    if (n < 0)
        return must_wait(n);
    c->sent += (size_t)n;
    if (c->sent < c->answer_len)
        return true;
    if (shutdown(c->fd, SHUT_WR) != 0)
        return false;
    c->stage = LINGERING;
    return true;
}

static bool read_rest(struct http_connection *c)
{
    ssize_t n = recv(c->fd, c->head, sizeof(c->head), 0);

    return n > 0 || must_wait(n);
}

static bool go_on(struct http_server *server, struct http_connection *c)
{
    if (c->stage == LINGERING)
        return read_rest(c);
    if (c->stage == READING && !read_more(server, c))
        return false;
    return c->stage != WRITING || write_more(c);
}

/* --- The thread --- */

struct round {
    struct pollfd fds[1 + TCP_LISTEN_MAX + HTTP_CONNECTIONS_MAX]; /* stop, sockets, connections */
    size_t n;
    int timeout_ms;
};

static void add(struct round *round, int fd, short events)
{
    round->fds[round->n++] = (struct pollfd){ .fd = fd, .events = events };
}

static void wake_by(struct round *round, uint64_t at_ms, uint64_t now_ms)
{
    int left_ms = at_ms > now_ms ? (int)(at_ms - now_ms) : 0;

    if (round->timeout_ms < 0 || left_ms < round->timeout_ms)
        round->timeout_ms = left_ms;
}

static void prepare(const struct http_server *server, struct round *round, uint64_t now_ms)
{
    round->n = 0;
    round->timeout_ms = -1;
    add(round, server->stop_fd, POLLIN);
    for (size_t i = 0; i < server->sockets.n; i++)
        add(round, server->deaf_until_ms ? -1 : server->sockets.fds[i], POLLIN);
    for (size_t i = 0; i < server->n; i++) {
        const struct http_connection *c = server->connections[i];

        add(round, c->fd, c->stage == WRITING ? POLLOUT : POLLIN);
        wake_by(round, c->deadline_ms, now_ms);
    }
    if (server->deaf_until_ms)
        wake_by(round, server->deaf_until_ms, now_ms);
}

/* From the last to the first: a connection that ends moves only those behind it. */
static void serve_connections(struct http_server *server, const struct pollfd *fds, uint64_t now_ms)
{
    for (size_t i = server->n; i-- > 0;) {
        struct http_connection *c = server->connections[i];

        if (now_ms >= c->deadline_ms)
            drop(server, i);
        else if (fds[i].revents && !go_on(server, c))
            end(server, i);
    }
}

static void *serve(void *cookie)
{
    struct http_server *server = cookie;
    struct round round;

    for (;;) {
        prepare(server, &round, clock_now_ms());
        if (poll(round.fds, round.n, round.timeout_ms) < 0)
            continue; /* EINTR; the descriptors and their number are valid */
        if (round.fds[0].revents)
            return NULL;
        uint64_t now_ms = clock_now_ms();

        serve_connections(server, round.fds + 1 + server->sockets.n, now_ms);
        if (now_ms >= server->deaf_until_ms)
            server->deaf_until_ms = 0;
        for (size_t i = 0; i < server->sockets.n; i++)
            if (round.fds[1 + i].revents)
                accept_from(server, server->sockets.fds[i], now_ms);
    }
}

static void server_free(struct http_server *server)
{
    while (server->n > 0)
        drop(server, server->n - 1);
    tcp_listen_close(&server->sockets);
    close_at(&server->stop_fd);
    free(server);
}

bool http_server_start(const char *address, const struct http_page *pages, size_t n, void *cookie,
                       struct http_server **out, struct error *err)
{
    struct http_server *server = calloc(1, sizeof(*server));

    if (!server)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the HTTP server");
    server->pages = pages;
    server->n_pages = n;
    server->cookie = cookie;
    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if ((server->stop_fd < 0 && !error_set_errno(err, errno, "make an eventfd")) ||
        !tcp_listen_open(address, &server->sockets, err) ||
        !thread_start(&server->thread, "http", serve, server, err)) {
        server_free(server);
        return false;
    }
    *out = server;
    return true;
}

void http_server_stop(struct http_server *server)
{
    const uint64_t one = 1;

    if (!server)
        return;
    (void)!write(server->stop_fd, &one, sizeof(one));
    (void)pthread_join(server->thread, NULL);
    server_free(server);
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->sockets.port;
}
