/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/fake_pcs.h"

#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANG_MS 10000

static bool begins(const char *path, const char *with)
{
    return strncmp(path, with, strlen(with)) == 0;
}

/* What a PCCS has at this path. */
static void answer_from_set(const struct collateral_set *set, const char *path,
                            struct fake_answer *out)
{
    const struct {
        const char *path, *header;
        struct bytes_view body, chain;
    } pages[] = {
        { "/sgx/certification/v4/pckcrl?", "SGX-PCK-CRL-Issuer-Chain", set->source.pck_crl,
          set->source.pck_crl_chain },
        { "/sgx/certification/v4/rootcacrl", NULL, set->source.root_ca_crl, { .len = 0 } },
        { "/tdx/certification/v4/tcb?", "TCB-Info-Issuer-Chain", set->tcb_info_response,
          set->source.tcb_info_chain },
        { "/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain",
          set->qe_identity_response, set->source.qe_identity_chain },
    };

    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        if (begins(path, pages[i].path))
            *out = (struct fake_answer){ .status = 200,
                                         .body = pages[i].body.bytes,
                                         .len = pages[i].body.len,
                                         .chain_header = pages[i].header,
                                         .chain = pages[i].chain };
}

static void print_chain(FILE *out, const struct fake_answer *answer)
{
    if (!answer->chain_header)
        return;
    fprintf(out, "%s: ", answer->chain_header);
    for (size_t i = 0; i < answer->chain.len; i++) {
        uint8_t c = answer->chain.bytes[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-')
            (void)fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
    (void)fputs("\r\n", out);
}

static void send_answer(int fd, const struct fake_answer *answer)
{
    FILE *out = fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "w");
    size_t len = answer->fault == FAKE_CUT ? answer->len / 2 : answer->len;

    assert_non_null(out);
    fprintf(out, "HTTP/1.1 %d Status\r\nContent-Length: %zu\r\nConnection: close\r\n%s",
            answer->status, answer->len, answer->extra_headers ? answer->extra_headers : "");
    print_chain(out, answer);
    if (answer->chain_twice)
        print_chain(out, answer);
    (void)fputs("\r\n", out);
    if (len > 0)
        (void)fwrite(answer->body, 1, len, out);
    (void)fclose(out);
}

/* Reads a GET request and returns its path. Its headers are ignored. */
static bool read_request(int fd, char path[static 256])
{
    char text[4096] = "";
    size_t len = 0;

    while (!strstr(text, "\r\n\r\n")) {
        ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
    }
    return sscanf(text, "GET %255s HTTP/1.1", path) == 1;
}

static void serve_one(struct fake_pcs *f, int fd)
{
    struct fake_answer answer = { .status = 404 };
    char path[256] = "";

    if (!read_request(fd, path))
        return;
    pthread_mutex_lock(&f->lock);
    if (f->set)
        answer_from_set(f->set, path, &answer);
    if (f->edit)
        f->edit(f->cookie, path, &answer);
    atomic_fetch_add(&f->requests, 1);
    bool hangs = answer.fault == FAKE_HANG;
    if (!hangs)
        send_answer(fd, &answer); /* under the lock: the test may free the set after the answer */
    pthread_mutex_unlock(&f->lock);
    struct pollfd until[] = { { .fd = fd, .events = POLLIN },
                              { .fd = f->stop[0], .events = POLLIN } };
    if (hangs)
        (void)poll(until, 2, HANG_MS); /* ends when the client gives up */
}

static void *serve(void *cookie)
{
    struct fake_pcs *f = cookie;
    struct pollfd fds[] = { { .fd = f->socket, .events = POLLIN },
                            { .fd = f->stop[0], .events = POLLIN } };

    while (poll(fds, 2, -1) > 0 && fds[1].revents == 0) {
        int fd = accept4(f->socket, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            continue;
        serve_one(f, fd);
        close(fd);
    }
    return NULL;
}

struct fake_pcs *fake_pcs_start(void)
{
    struct fake_pcs *f = calloc(1, sizeof(*f));
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    assert_non_null(f);
    (void)signal(SIGPIPE, SIG_IGN); /* clients may close their end early */
    pthread_mutex_init(&f->lock, NULL);
    f->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->socket, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(f->socket, 8), 0);
    assert_int_equal(getsockname(f->socket, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(pipe2(f->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    return f;
}

void fake_pcs_stop(struct fake_pcs *f)
{
    close(f->stop[1]);
    pthread_join(f->thread, NULL);
    close(f->stop[0]);
    close(f->socket);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void fake_pcs_serve(struct fake_pcs *f, const struct collateral_set *set)
{
    pthread_mutex_lock(&f->lock);
    f->set = set;
    pthread_mutex_unlock(&f->lock);
}

void fake_pcs_edit(struct fake_pcs *f,
                   void (*edit)(void *cookie, const char *path, struct fake_answer *answer),
                   void *cookie)
{
    pthread_mutex_lock(&f->lock);
    f->edit = edit;
    f->cookie = cookie;
    pthread_mutex_unlock(&f->lock);
}
