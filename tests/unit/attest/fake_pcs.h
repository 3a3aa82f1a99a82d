/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral_set.h"

#include <pthread.h>
#include <stdatomic.h>

/* A PCCS on a loopback port, in a thread of the test. It answers from a set, or as the test tells
 * it. */
enum fake_fault { FAKE_OK, FAKE_HANG, FAKE_CUT };
struct fake_answer {
    int status;
    const void *body;
    size_t len;
    const char *chain_header; /* NULL: no such header */
    struct bytes_view chain;
    const char *extra_headers; /* each with its line end */
    bool chain_twice;
    enum fake_fault fault;
};

struct fake_pcs {
    char url[64];
    pthread_mutex_t lock;             /* guards the next three; held while an answer is sent */
    const struct collateral_set *set; /* NULL: 404 to everything */
    void (*edit)(void *cookie, const char *path, struct fake_answer *answer);
    void *cookie;
    atomic_uint requests;
    int socket, stop[2];
    pthread_t thread;
};

struct fake_pcs *fake_pcs_start(void);
void fake_pcs_stop(struct fake_pcs *f);
void fake_pcs_serve(struct fake_pcs *f, const struct collateral_set *set);
void fake_pcs_edit(struct fake_pcs *f,
                   void (*edit)(void *cookie, const char *path, struct fake_answer *answer),
                   void *cookie);
