/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "proto/endpoint.h"

/*
 * TLS for the broker's door: version 1.3 only (RFC 8446), no tickets, no resumption, HTTP/2 by ALPN.
 * Clients must have a certificate and its key. Who signed the certificate is not checked here: the
 * application judges it. Sockets are non-blocking, and nothing here waits.
 */
struct tls_server;
struct tls_connection;

/* INVALID_ARGUMENT: certificate, key or CA are not usable, or do not belong together. Copies
 * everything. */
MUST_USE bool tls_server_new(const struct server_tls *tls, struct tls_server **out,
                             struct error *err);
/* Connections that are accepted from now on get the new certificate; the others keep theirs. After
 * a failure nothing has changed. From any thread. */
MUST_USE bool tls_server_change(struct tls_server *server, const struct server_tls *tls,
                                struct error *err);
void tls_server_free(struct tls_server *server); /* NULL is allowed */

/* The caller keeps the descriptor, which must stay open until tls_free(). */
MUST_USE bool tls_accept(struct tls_server *server, int fd, struct tls_connection **out,
                         struct error *err);
void tls_free(struct tls_connection *connection); /* NULL is allowed */

enum tls_result {
    TLS_DONE,
    TLS_WANTS_READ,  /* try again when the socket can be read */
    TLS_WANTS_WRITE, /* or written */
    TLS_ENDED,       /* the other end has closed, broken the rules, or is not for us */
};

/* ENDED also for a client whose certificates or key are larger than anybody needs. */
enum tls_result tls_handshake(struct tls_connection *connection);

#define TLS_RECORD_BYTES 16384 /* a buffer of this size takes all that OpenSSL has decrypted */
/* WANTS_WRITE: the client wants to see something from us before it is read from again. */
enum tls_result tls_read(struct tls_connection *connection, void *out, size_t size, size_t *len);
enum tls_result tls_write(struct tls_connection *connection, const void *bytes, size_t len,
                          size_t *sent); /* may send only a part */
/* Tells the other end that nothing more will come; best effort. */
void tls_say_goodbye(struct tls_connection *connection);

/* After the handshake: who the client says it is. */
struct tls_peer {
    char *certificate_pem;                 /* its leaf; the caller frees it */
    uint8_t key_sha256[SHA256_LEN];        /* of the SubjectPublicKeyInfo */
    uint8_t server_key_sha256[SHA256_LEN]; /* of the certificate that it has seen */
    bool session_reused;
};
MUST_USE bool tls_peer_read(const struct tls_connection *connection, struct tls_peer *out,
                            struct error *err);

/* What a client trusts and shows. INVALID_ARGUMENT when it is not usable; the time is not checked.
 * until_s: seconds since 1970 when the last certificate of the CA ends, or the client's own one. */
MUST_USE bool tls_check_ca(const char *ca_pem, int64_t *until_s, struct error *err);
/* INVALID_ARGUMENT also when the key is not that of the first certificate. */
MUST_USE bool tls_check_pair(const char *certificate_pem, const struct secret *private_key_pem,
                             int64_t *until_s, struct error *err);
