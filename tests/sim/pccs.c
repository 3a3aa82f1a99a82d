/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/pccs.h"

#include "base/clock.h"
#include "base/file.h"
#include "tests/sim/command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A PCS or PCCS, version 4, over libmicrohttpd. Each connection has a thread, so that a slow one
 * delays no other. */

#define CONNECTIONS_MAX 64u
#define HUGE_BLOCK      ((size_t)65536)
#define PEM_FILE_MAX    ((size_t)65536)
#define SLOW_MS         2000u
#define SLOW_MS_MAX     600000u

struct server {
    const struct sim_pki *pki;
    const struct collateral_options *facts;
    pthread_mutex_t lock; /* protects the members below */
    pthread_cond_t changed;
    const struct pccs_fault *fault;
    uint64_t left, ms; /* left 0: until changed */
    char only[64];     /* of paths that contain it */
    uint64_t n_changes, n_requests, n_faulty;
    bool is_ending;
};

/* The fault for this request. When s->n_changes differs from *n_changes, the fault was changed. */
static const struct pccs_fault *meet_fault(struct server *s, const char *path, uint64_t *n_changes,
                                           uint64_t *ms)
{
    static const char none[] = "none";

    pthread_mutex_lock(&s->lock);
    const struct pccs_fault *fault = s->fault;
    bool is_met = strcmp(pccs_fault_name(fault), none) != 0 && strstr(path, s->only);

    s->n_requests++;
    s->n_faulty += is_met ? 1 : 0;
    *n_changes = s->n_changes;
    *ms = s->ms;
    if (is_met && s->left > 0 && --s->left == 0)
        s->fault = pccs_fault_find(none);
    pthread_mutex_unlock(&s->lock);
    return is_met ? fault : pccs_fault_find(none);
}

/* Waits until the fault is changed, the server ends, or ms have passed (0: no limit). */
static void wait_for_change(struct server *s, uint64_t n_changes, uint64_t ms)
{
    uint64_t end_ms = clock_wall_ms() + ms;
    const struct timespec end = { .tv_sec = (time_t)(end_ms / 1000),
                                  .tv_nsec = (long)(end_ms % 1000 * 1000000) };
    int rc = 0;

    pthread_mutex_lock(&s->lock);
    while (s->n_changes == n_changes && !s->is_ending && rc != ETIMEDOUT)
        rc = ms == 0 ? pthread_cond_wait(&s->changed, &s->lock)
                     : pthread_cond_timedwait(&s->changed, &s->lock, &end);
    pthread_mutex_unlock(&s->lock);
}

/* Percent-encoded, as PCS encodes chains; owned by the caller. */
static char *url_encode(const char *text)
{
    static const char kept[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    char *out = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&out, &len);

    for (const char *p = text; f && *p; p++)
        (void)fprintf(f, strchr(kept, *p) ? "%c" : "%%%02X", (unsigned char)*p);
    if (!f || fclose(f) != 0) {
        free(out);
        return NULL;
    }
    return out;
}

static ssize_t read_half(void *cookie, uint64_t at, char *out, size_t max)
{
    const struct pccs_answer *answer = cookie;
    size_t end = answer->len / 2, n = at < end ? end - (size_t)at : 0;

    if (n == 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    n = n < max ? n : max;
    memcpy(out, answer->body + at, n);
    return (ssize_t)n;
}

static ssize_t read_spaces(void *cookie UNUSED, uint64_t at UNUSED, char *out, size_t max)
{
    for (size_t i = 0; i < max; i++)
        out[i] = ' ';
    return (ssize_t)max;
}

static void free_answer(void *cookie)
{
    pccs_answer_free(cookie);
    free(cookie);
}

/* A body that is sent piece by piece is freed when it was sent, after this call. */
static struct MHD_Response *make_response(enum pccs_transport transport, struct pccs_answer *answer)
{
    if (transport == PCCS_HUGE)
        return MHD_create_response_from_callback(PCCS_HUGE_LEN, HUGE_BLOCK, read_spaces, NULL,
                                                 NULL);
    if (transport != PCCS_TRUNCATED)
        return MHD_create_response_from_buffer(answer->len, answer->body, MHD_RESPMEM_MUST_COPY);
    struct pccs_answer *kept = malloc(sizeof(*kept));
    if (!kept)
        return NULL;
    *kept = (struct pccs_answer){ .body = answer->body, .len = answer->len };
    answer->body = NULL;
    return MHD_create_response_from_callback(kept->len, HUGE_BLOCK, read_half, kept, free_answer);
}

static bool add_headers(struct MHD_Response *response, const struct pccs_answer *answer)
{
    auto_free char *chain = answer->chain ? url_encode(answer->chain) : NULL;

    if (answer->type)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    if (answer->status == MHD_HTTP_TOO_MANY_REQUESTS)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
    if (!answer->chain || !answer->chain_header)
        return true;
    return chain && MHD_add_response_header(response, answer->chain_header, chain) == MHD_YES;
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, enum pccs_transport transport,
                                   struct pccs_answer *answer, const char *location)
{
    struct MHD_Response *response = make_response(transport, answer);
    enum MHD_Result queued = MHD_NO;

    if (!response)
        return MHD_NO;
    if (location)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, location);
    if (add_headers(response, answer))
        queued = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return queued;
}

static const char *argument(void *cookie, const char *name)
{
    return MHD_lookup_connection_value(cookie, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result serve_page(struct server *s, struct MHD_Connection *connection,
                                  const char *url)
{
    const size_t elsewhere = strlen(PCCS_ELSEWHERE);
    bool is_elsewhere = strncmp(url, PCCS_ELSEWHERE "/", elsewhere + 1) == 0;
    struct pccs_request request = { is_elsewhere ? url + elsewhere : url, argument, connection };
    uint64_t n_changes = 0, ms = 0;
    char location[256];

    /* a client that follows redirections gets the right answer, so that a test notices */
    const struct pccs_fault *fault = meet_fault(s, url, &n_changes, &ms);
    if (is_elsewhere)
        fault = pccs_fault_find("none");
    enum pccs_transport transport = pccs_fault_transport(fault);
    if (transport == PCCS_HANG || transport == PCCS_SLOW)
        wait_for_change(s, n_changes, transport == PCCS_HANG ? 0 : ms);
    if (transport == PCCS_HANG)
        return MHD_NO;
    auto_pccs_answer struct pccs_answer answer =
        pccs_answer_make(s->pki, s->facts, fault, &request);
    (void)snprintf(location, sizeof(location), PCCS_ELSEWHERE "%s", url);
    return send_answer(connection, transport, &answer,
                       transport == PCCS_REDIRECT ? location : NULL);
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status,
                                  const char *text)
{
    struct pccs_answer answer = { .status = status, .type = "text/plain" };

    answer.body = (uint8_t *)strdup(text);
    answer.len = strlen(text);
    enum MHD_Result sent =
        answer.body ? send_answer(connection, PCCS_PLAIN, &answer, NULL) : MHD_NO;
    pccs_answer_free(&answer);
    return sent;
}

static bool number_argument(struct MHD_Connection *connection, const char *name, uint64_t max,
                            uint64_t *out)
{
    const char *text = argument(connection, name);

    return !text || (parse_u64(text, out) && *out <= max);
}

static enum MHD_Result set_fault(struct server *s, struct MHD_Connection *connection)
{
    const char *name = argument(connection, "fault"), *only = argument(connection, "only");
    const struct pccs_fault *fault = name ? pccs_fault_find(name) : NULL;
    uint64_t left = 0, ms = SLOW_MS;

    if (!fault)
        return reply_text(connection, MHD_HTTP_BAD_REQUEST,
                          "fault is unknown: tdvol-sim pccs --help lists the faults\n");
    if (!number_argument(connection, "count", UINT32_MAX, &left) ||
        !number_argument(connection, "ms", SLOW_MS_MAX, &ms) ||
        (only && strlen(only) >= sizeof(s->only)))
        return reply_text(connection, MHD_HTTP_BAD_REQUEST,
                          "count and ms must be numbers, only a short part of a path\n");
    pthread_mutex_lock(&s->lock);
    s->fault = fault;
    s->left = left;
    s->ms = ms;
    (void)snprintf(s->only, sizeof(s->only), "%s", only ? only : "");
    s->n_changes++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return reply_text(connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result show_state(struct server *s, struct MHD_Connection *connection)
{
    char text[256];

    pthread_mutex_lock(&s->lock);
    (void)snprintf(text, sizeof(text),
                   "{\"fault\":\"%s\",\"left\":%" PRIu64 ",\"requests\":%" PRIu64
                   ",\"faulty\":%" PRIu64 "}\n",
                   pccs_fault_name(s->fault), s->left, s->n_requests, s->n_faulty);
    pthread_mutex_unlock(&s->lock);
    return reply_text(connection, MHD_HTTP_OK, text);
}

static enum MHD_Result handle(void *cookie, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version UNUSED,
                              const char *body UNUSED, size_t *body_len, void **state)
{
    static int seen;
    struct server *s = cookie;
    bool is_get = strcmp(method, MHD_HTTP_METHOD_GET) == 0;
    bool is_control = strcmp(url, "/control") == 0;

    /* called for the headers, for the body, which is ignored, and then for the answer */
    if (!*state || *body_len > 0) {
        *state = &seen;
        *body_len = 0;
        return MHD_YES;
    }
    if (is_control && strcmp(method, MHD_HTTP_METHOD_POST) == 0)
        return set_fault(s, connection);
    if (!is_get)
        return reply_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET is allowed\n");
    return is_control ? show_state(s, connection) : serve_page(s, connection, url);
}

struct pccs_options {
    const char *listen, *pki, *fault, *tls_cert, *tls_key;
    struct collateral_options facts;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("listen", struct pccs_options, listen, "IP:PORT",
                    "Address to listen on; port 0 takes a free port.", .required = true),
    OPTION_TEXT_ROW("pki", struct pccs_options, pki, "DIR", "Folder made by tdvol-sim pki.",
                    .required = true),
    OPTION_TEXT_ROW("tls-cert", struct pccs_options, tls_cert, "FILE",
                    "PEM chain for HTTPS; needs --tls-key."),
    OPTION_TEXT_ROW("tls-key", struct pccs_options, tls_key, "FILE",
                    "PEM key of the first certificate of --tls-cert."),
    OPTION_TEXT_ROW("fault", struct pccs_options, fault, "NAME",
                    "Fault from the start on; default: none."),
    COLLATERAL_OPTION_ROWS(struct pccs_options, facts),
};

/* "127.0.0.1:8081", "[::1]:0" */
static bool resolve(const char *address, struct addrinfo **out, struct error *err)
{
    const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                                    .ai_socktype = SOCK_STREAM };
    const char *colon = strrchr(address, ':');
    char host[64];

    if (!colon || colon == address || (size_t)(colon - address) >= sizeof(host))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--listen: \"%.80s\" is not IP:PORT",
                         address);
    bool has_brackets = address[0] == '[' && colon[-1] == ']';
    (void)snprintf(host, sizeof(host), "%.*s", (int)(colon - address - (has_brackets ? 2 : 0)),
                   address + (has_brackets ? 1 : 0));
    int rc = getaddrinfo(host, colon + 1, &hints, out);
    return rc == 0 ||
           error_set(err, ERROR_INVALID_ARGUMENT, "--listen: %.80s: %s", address, gai_strerror(rc));
}

static bool start(const struct pccs_options *options, struct server *server,
                  struct MHD_Daemon **out, struct error *err)
{
    auto_free char *cert = NULL, *key = NULL;
    struct addrinfo *where = NULL;
    size_t len = 0;
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;

    if (!options->tls_cert != !options->tls_key)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--tls-cert and --tls-key go together");
    if (options->tls_cert && (!file_read(options->tls_cert, PEM_FILE_MAX, &cert, &len, err) ||
                              !file_read(options->tls_key, PEM_FILE_MAX, &key, &len, err)))
        return false;
    if (!resolve(options->listen, &where, err))
        return false;
    if (where->ai_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    if (cert)
        flags |= MHD_USE_TLS;
    /* without TLS the list of options ends early */
    const struct MHD_OptionItem tls[] = {
        { cert ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, cert },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, key },
        { MHD_OPTION_END, 0, NULL },
    };
    *out = MHD_start_daemon(flags, 0, NULL, NULL, handle, server, MHD_OPTION_SOCK_ADDR,
                            where->ai_addr, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                            MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_ARRAY, tls,
                            MHD_OPTION_END);
    freeaddrinfo(where);
    return *out || error_set(err, ERROR_INTERNAL, "cannot listen on %s", options->listen);
}

/* Serves until SIGTERM or SIGINT, which are blocked in all threads. */
static bool serve(const struct pccs_options *options, struct server *server, struct error *err)
{
    struct MHD_Daemon *daemon = NULL;
    sigset_t ends;
    int number = 0;

    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    if (!start(options, server, &daemon, err))
        return false;
    const char *colon = strrchr(options->listen, ':');
    printf("listening on %s://%.*s:%u\n", options->tls_cert ? "https" : "http",
           (int)(colon - options->listen), options->listen,
           (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    (void)fflush(stdout);
    (void)sigwait(&ends, &number);
    pthread_mutex_lock(&server->lock);
    server->is_ending = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    MHD_stop_daemon(daemon);
    return true;
}

static bool run(int argc, char *const *argv, struct error *err)
{
    struct pccs_options options = { .facts = COLLATERAL_OPTIONS_INIT, .fault = "none" };
    struct collateral_plan tried;

    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, err) ||
        !collateral_plan_make(&options.facts, &tried, err))
        return false;
    struct server server = { .facts = &options.facts,
                             .lock = PTHREAD_MUTEX_INITIALIZER,
                             .changed = PTHREAD_COND_INITIALIZER,
                             .fault = pccs_fault_find(options.fault),
                             .ms = SLOW_MS };
    if (!server.fault)
        return error_set(err, ERROR_INVALID_ARGUMENT, "no such fault: \"%.40s\" (see --help)",
                         options.fault);
    struct sim_pki *pki = sim_pki_load(options.pki);
    server.pki = pki;
    bool ok = serve(&options, &server, err);
    sim_pki_free(pki);
    return ok;
}

const struct command command_pccs = {
    .name = "pccs",
    .usage = "--listen IP:PORT --pki DIR [OPTIONS]",
    .help = "serve collateral like Intel's PCS and its caches",
    .lesson =
        "Serves version 4 of the API, in the foreground, until SIGTERM; its first line of output\n"
        "has the address. Pages: /sgx/certification/v4/pckcrl?ca=...&encoding=der,\n"
        "/sgx/certification/v4/rootcacrl, /IntelSGXRootCA.der, /tdx/certification/v4/tcb?fmspc=...\n"
        "and /tdx/certification/v4/qe/identity.\n"
        "\n"
        "POST /control?fault=NAME[&count=N][&only=PART][&ms=N] sets the fault from then\n"
        "on: N times or until changed, for paths that contain PART; ms is how late \"slow\" is.\n"
        "GET /control gives the fault, and how many requests there were.",
    .table = table,
    .n = ARRAY_LEN(table),
    .print_faults = pccs_print_faults,
    .run = run,
};
